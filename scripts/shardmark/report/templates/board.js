// The leaderboard: which rows and columns are shown, and columns that come from a chunk when they are wanted.
const board = document.querySelector(".board");
const columns = JSON.parse(at("columns").dataset.columns);

const cellsOf = (place) => [...board.rows].map((row) => row.cells[place]);
const placeOf = (name) => [...board.tHead.rows[0].cells].findIndex((head) => head.dataset.column === name);

// A cell of the chunk: [value, figure, margin, standing, about, link, remarks], or [absence, about] where there is none.
const drawn = (cell) => {
  if (cell.length === 2) {
    const found = make("td", { className: "num absent", title: cell[1] }, make("span", { text: cell[0] }));
    found.dataset.sort = "";
    return found;
  }
  const [value, text, margin, standing, about, address, remarks] = cell;
  const inner = [make("span", { className: "tie", text: standing === "tied" ? "≈" : "" }), make("span", { className: "value", text }), make("span", { className: "margin", text: margin })];
  const score = address ? make("a", { className: "score", href: address, title: about }, ...inner) : make("span", { className: "score", title: about }, ...inner);
  const found = make("td", { className: `num ${standing}` }, score, ...remarks.map((remark) => make("small", { className: "remark", text: remark })));
  found.dataset.sort = value ?? "";
  return found;
};

const add = ({ higher, labels, description, cells }, name) => {
  if (placeOf(name) >= 0) return;
  const head = make("th", { className: "num", scope: "col", title: description }, make("span", { className: "name", text: name }), ...labels.map((text) => make("small", { text })));
  head.dataset.column = name;
  head.dataset.first = higher ? "descending" : "ascending";
  board.tHead.rows[0].append(head);
  sortable(head);
  for (const row of board.tBodies[0].rows) row.append(drawn(cells[Number(row.dataset.row)]));
};

const showColumns = async () => {
  const boxes = [...at("columns").querySelectorAll("[name=column]")];
  const wanted = boxes.filter((box) => box.checked && placeOf(box.value) < 0).map((box) => box.value);
  const loaded = await Promise.all(wanted.map((name) => load(columns.find((column) => column.name === name).chunk)));
  loaded.forEach((column, place) => add(column, wanted[place])); // together, so that the table is laid out once
  for (const box of boxes) {
    const place = placeOf(box.value);
    if (place >= 0) for (const cell of cellsOf(place)) cell.hidden = !box.checked;
  }
  const shown = boxes.filter((box) => box.checked).length;
  at("columns-shown").textContent = shown === columns.length ? `All ${columns.length > 1 ? `${columns.length} columns` : "columns"}` : `${shown} of ${plural(columns.length, "column")}`;
  if (at("shade").checked) shade();
};

// Tints of one colour, darker for larger fractions: no two colours need be told apart.
const shade = () => {
  for (const head of board.tHead.rows[0].cells) {
    if (!head.dataset.column && !head.classList.contains("mean")) continue;
    for (const cell of cellsOf(head.cellIndex).slice(1)) {
      const value = Number(cell.dataset.sort);
      if (cell.dataset.sort && value >= 0 && value <= 1) cell.style.setProperty("--part", value);
    }
  }
};

const filterRows = () => {
  const words = at("find-row").value.toLowerCase();
  let shown = 0;
  for (const row of board.tBodies[0].rows) {
    row.hidden = !row.querySelector("th").textContent.toLowerCase().includes(words);
    shown += !row.hidden;
  }
  at("rows-shown").textContent = words ? plural(shown, "model") : "";
};

const pick = (wanted) => {
  for (const label of at("columns").querySelectorAll(".boxes label")) {
    const box = label.querySelector("input");
    if (!label.hidden) box.checked = wanted(box.value);
  }
  showColumns();
};

at("columns").querySelector(".boxes").append(...columns.map(({ name, chunk, hidden }) => {
  const box = make("input", { type: "checkbox", name: "column", value: name });
  box.checked = !chunk && !hidden;
  return make("label", {}, box, make("span", { text: name }));
}));
at("columns").addEventListener("change", showColumns);
at("find-column").addEventListener("input", () => {
  const words = at("find-column").value.toLowerCase();
  for (const label of at("columns").querySelectorAll(".boxes label")) label.hidden = !label.textContent.toLowerCase().includes(words);
});
at("find-column").addEventListener("change", (event) => event.stopPropagation());
at("all-columns").addEventListener("click", () => pick(() => true));
at("no-columns").addEventListener("click", () => pick(() => false));
at("find-row").addEventListener("input", filterRows);
at("shade").addEventListener("change", () => {
  if (at("shade").checked) shade();
  board.classList.toggle("shaded", at("shade").checked);
});
menus();
at("board-controls").hidden = false;
showColumns();
