"use strict";
// Sorts a table by the column of a heading, which becomes a button.
const sortable = (head) => {
  const table = head.closest("table");
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell ? (cell.dataset.sort ?? cell.textContent.trim()) : "";
    return text === "–" ? "" : text;
  };
  const compare = (one, other) => {
    const difference = Number(one) - Number(other);
    return Number.isNaN(difference) ? one.localeCompare(other) : difference;
  };
  const sort = () => {
    const column = head.cellIndex;
    const first = head.dataset.first ?? "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    // A cell without a value stays last whichever way its column is sorted.
    rows.sort(([one], [other]) => (one === "") - (other === "") || sign * compare(one, other));
    body.append(...rows.map(([, row]) => row));
  };
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", sort);
  head.append(button);
};
for (const head of document.querySelectorAll("table.sortable thead th")) sortable(head);
