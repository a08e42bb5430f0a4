"use strict";
// Any two models over data sets, or two data sets about the same rows over models, and the samples that flipped.
const SHOWN = 100; // flipped samples listed at first, and with each click on "more"
const NOT_ASKED = 0xffffffff;
const SIGNIFICANT = 0.05;
let start = null;
let catalog = null;
let turn = 0;

const option = (name) => make("option", { value: name, text: plain(name) });
const sampleLink = (dataset, models, sample) =>
  `samples.html${address([["dataset", dataset], ...models.map((name) => ["model", name]), ...(sample === null ? [["disagree", "1"]] : [["sample", sample]])])}`;

const read = () => {
  const told = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"));
  return { kind: told.get("kind") ?? "models", first: told.get("first"), second: told.get("second"), flips: told.get("flips") ?? "" };
};

const chosen = () => ({ kind: at("kind").value, first: at("first").value, second: at("second").value });

// The names that may be chosen; of data sets, only those that share rows with another one.
const firsts = (kind) => (kind === "models" ? start.models : [...new Set(start.pairs.flatMap(([one, other]) => [one, other]))]);
const seconds = (kind, first) =>
  kind === "models" ? start.models.filter((name) => name !== first)
    : start.pairs.flatMap(([one, other]) => (one === first ? [other] : other === first ? [one] : []));

const fill = ({ kind, first, second }) => {
  at("kind").value = kind;
  const names = firsts(kind);
  at("first").replaceChildren(...names.map(option));
  const best = kind === "models" ? start.best : names;
  at("first").value = names.includes(first) ? first : best[0];
  const others = seconds(kind, at("first").value);
  at("second").replaceChildren(...others.map(option));
  at("second").value = others.includes(second) ? second : (best.find((name) => others.includes(name)) ?? others[0]);
};

// A row as seen from the other side.
const turned = ([d, low, high, p, holm, wins, losses, n, smallest]) =>
  [-d, high === null ? null : -high, low === null ? null : -low, p, holm, losses, wins, n, smallest];

const rowsOfModels = async (first, second) => {
  const [one, other] = [first, second].map((name) => start.models.indexOf(name));
  const rows = (await load(start.chunks[Math.min(one, other)]))[Math.abs(one - other) - 1];
  const seen = rows.map((row) => row && (one < other ? row : turned(row)));
  const lines = start.datasets.map((about, place) => ({ ...about, row: seen[place], samples: about.samples && [about.name, about.name, first, second] }));
  const mean = { name: `${start.weighted ? "weighted " : ""}mean of ${plural(start.counted, "data set")}`, metric: "mean", percent: true, higher: true, row: seen.at(-1), samples: null };
  return { lines, mean: mean.row && start.counted > 1 ? mean : null };
};

const rowsOfDatasets = async (first, second) => {
  const pair = start.pairs.find(([one, other]) => (one === first && other === second) || (one === second && other === first));
  const found = await load(pair[2]);
  const back = pair[0] !== first;
  const { metric, percent, higher } = start.datasets.find((about) => about.name === first);
  const places = back ? [found.places[1], found.places[0]] : found.places;
  const lines = found.models.map((name, place) => ({ name, metric, percent, higher, row: back ? turned(found.rows[place]) : found.rows[place], samples: [first, second, name, name], places }));
  return { lines, mean: null };
};

const shownP = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(3));
const difference = (value, percent) => (value > 0 ? "+" : "") + figure(value, percent);
const isClear = ({ row }) => row && row[4] < SIGNIFICANT && row[0] !== 0;

const bar = (row, reach) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const add = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    svg.append(element);
  };
  const x = (value) => 100 + (96 * Math.max(-reach, Math.min(reach, value))) / reach;
  svg.setAttribute("class", "bar95");
  svg.setAttribute("width", 200);
  svg.setAttribute("height", 14);
  svg.setAttribute("aria-hidden", "true");
  add("line", { class: "zero", x1: 100, x2: 100, y1: 0, y2: 14 });
  if (row[1] !== null) add("line", { class: "ends", x1: x(row[1]), x2: x(row[2]), y1: 7, y2: 7, "stroke-width": 2 });
  add("circle", { cx: x(row[0]), cy: 7, r: 3.5 });
  return svg;
};

const HEAD = [["Difference", "num"], ["95 % interval", "num"], ["−  0  +", "middle"], ["p (Holm)", "num"], ["Wins", "num"], ["Losses", "num"], ["Ties", "num"], ["Smallest", "num"], ["Flipped", "num"]];

const line = (about, reach) => {
  const { row, percent } = about;
  const unit = plain(about.metric) + (percent ? ", %" : "") + (about.higher ? "" : " (lower is better)");
  const name = make("th", { scope: "row" }, plain(about.name), make("small", { text: unit }));
  if (!row) {
    const none = make("td", { colSpan: HEAD.length, text: "no results of both" });
    none.dataset.sort = "";
    return make("tr", { className: "absent" }, name, none);
  }
  const [d, low, high, , holm, wins, losses, n, smallest] = row;
  const cell = (text, value, className = "num") => {
    const found = make("td", { className, text });
    if (value !== undefined) found.dataset.sort = value ?? "";
    return found;
  };
  const number = (value) => (value === null ? "–" : count(value));
  const ties = n === null || wins === null ? null : n - wins - losses;
  const ends = low === null ? "–" : `${difference(low, percent)} to ${difference(high, percent)}`;
  const flips = cell("", wins === null ? null : wins + losses);
  if (about.samples && wins !== null) {
    const button = make("button", { type: "button", className: "link", text: count(wins + losses), ariaLabel: `Show ${wins + losses} flipped samples of ${about.name}` });
    button.addEventListener("click", () => { note(about.name); showFlips(about, true); });
    flips.append(button);
  }
  const middle = cell("", d, "");
  middle.append(bar(row, reach));
  return make("tr", { className: isClear(about) ? "clear" : "" }, name, cell(difference(d, percent), d, "num d"), cell(ends, low), middle,
    cell(shownP(holm), holm), cell(number(wins), wins), cell(number(losses), losses), cell(number(ties), ties), cell(figure(smallest, percent), smallest), flips);
};

const note = (flips) => {
  const { kind, first, second } = chosen();
  history.replaceState(null, "", address([["kind", kind], ["first", first], ["second", second], ...(flips ? [["flips", flips]] : [])]));
};

// What the table says, in a sentence.
const told = ({ lines, mean }, { kind, first, second }) => {
  const better = (wanted) => lines.filter((about) => isClear(about) && (about.row[0] > 0) === (about.higher === wanted)).length;
  const what = kind === "models" ? "data set" : "model";
  const known = lines.filter((about) => about.row).length;
  const parts = [`${plain(first)} is significantly better on ${better(true)}, ${plain(second)} on ${better(false)} of ${plural(known, what)}.`];
  if (mean) {
    const clear = mean.row[3] < SIGNIFICANT;
    parts.push(` Their means differ by ${figure(Math.abs(mean.row[0]), true)} points (p ${mean.row[3] < 0.001 ? "" : "= "}${shownP(mean.row[3])}), which is ${clear ? "significant" : "not significant"}.`);
  }
  return parts.join("");
};

const show = async (flips = "") => {
  const mine = ++turn;
  const now = chosen();
  at("flips").hidden = true;
  const found = await (now.kind === "models" ? rowsOfModels : rowsOfDatasets)(now.first, now.second);
  if (mine !== turn) return;
  const reach = (about) => Math.max(...found.lines.filter((one) => one.row && one.percent === about.percent).flatMap(({ row }) => [row[0], row[1] ?? 0, row[2] ?? 0]).map(Math.abs), 1e-9);
  const head = [now.kind === "models" ? "Data set" : "Model", ...HEAD.map(([text]) => text)].map((text, place) => make("th", { scope: "col", className: place ? HEAD[place - 1][1] : "" }, make("span", { className: "name", text })));
  const table = [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...found.lines.map((about) => line(about, reach(about))))];
  if (found.mean) table.push(make("tfoot", {}, line(found.mean, reach(found.mean))));
  at("table").replaceChildren(...table);
  for (const cell of head) {
    if (cell.className && !cell.textContent.startsWith("p")) cell.dataset.first = "descending";
    sortable(cell);
  }
  at("verdict").textContent = told(found, now);
  note(flips);
  const about = found.lines.find((one) => one.name === flips && one.row && one.samples);
  if (about) await showFlips(about, false);
  document.body.dataset.ready = "1";
};

// What a model made of the samples of a data set: their names, and the score of each place, or null.
const scoresOf = async (dataset, model) => {
  catalog ??= await load("catalog");
  const about = catalog.datasets.find((one) => one.name === dataset);
  const index = await load(about.index);
  const found = index.models.find((one) => one.model === model);
  const rows = found.rows && numbers(Uint32Array, found.rows);
  const marks = numbers(Uint16Array, found.marks);
  const scores = found.scores && numbers(Float32Array, found.scores);
  const right = catalog.verdicts.indexOf("right");
  const unscored = catalog.verdicts.indexOf("unscored");
  const row = (place) => (rows ? rows[place] : place);
  const score = (place) => {
    const own = row(place);
    if (own === NOT_ASKED || (marks[own] & 3) === unscored) return null;
    return scores ? scores[own] : Number((marks[own] & 3) === right);
  };
  return { ids: index.ids, layers: found.layers, row, score, percent: about.percent };
};

const answer = async ({ layers, row }, place) => {
  const own = row(place);
  const [first, chunk] = layers.answers.findLast(([begin]) => begin <= own);
  return (await load(chunk))[own - first];
};

const flipsOf = (one, other, places) => {
  const pairs = places ? places[0].map((place, number) => [place, places[1][number]]) : one.ids.map((_, place) => [place, place]);
  return pairs.filter(([here, there]) => {
    const [a, b] = [one.score(here), other.score(there)];
    return a !== null && b !== null && Math.abs(a - b) > 1e-6;
  });
};

const showFlips = async (about, scroll) => {
  const mine = turn;
  const [firstSet, secondSet, firstModel, secondModel] = about.samples;
  const box = at("flips");
  const [one, other] = await Promise.all([scoresOf(firstSet, firstModel), scoresOf(secondSet, secondModel)]);
  if (mine !== turn) return;
  const flips = flipsOf(one, other, about.places);
  const [left, right] = firstModel === secondModel ? [firstSet, secondSet] : [firstModel, secondModel];
  const list = make("div", {});
  const more = make("button", { type: "button", className: "more", text: "Show more" });
  let shown = 0;
  const add = () => {
    list.append(...flips.slice(shown, shown + SHOWN).map(([here, there]) => flip(one, other, here, there, about, [left, right])));
    shown += SHOWN;
    more.hidden = shown >= flips.length;
  };
  more.addEventListener("click", add);
  const title = make("h2", { tabIndex: -1, text: `${plain(about.name)}: ${plural(flips.length, "sample")} flipped` });
  const all = firstModel === secondModel ? null : make("p", {}, make("a", { href: sampleLink(firstSet, [firstModel, secondModel], null), text: "Show all of them in the explorer" }));
  box.replaceChildren(title, ...(all ? [all] : []), list, more);
  add();
  box.hidden = false;
  if (scroll) title.focus();
};

const flip = (one, other, here, there, about, names) => {
  const [a, b] = [one.score(here), other.score(there)];
  const gain = (a > b) === about.higher;
  const summary = make("summary", {}, make("bdi", { text: plain(one.ids[here]) }), " ",
    make("span", { className: gain ? "gain" : "loss", text: `${figure(a, false)} against ${figure(b, false)}` }));
  const box = make("details", { className: "flip" }, summary);
  box.addEventListener("toggle", async () => {
    if (!box.open || box.childElementCount > 1) return;
    const [firstSet, secondSet, firstModel, secondModel] = about.samples;
    try {
      const answers = await Promise.all([answer(one, here), answer(other, there)]);
      const sides = answers.map((found, side) => make("div", {},
        make("h3", {}, make("a", { href: sampleLink([firstSet, secondSet][side], [[firstModel, secondModel][side]], [one.ids[here], other.ids[there]][side]), text: plain(names[side]) })),
        block(asText(found.output), { spaces: true }), make("p", { className: "note", text: `answer: ${plain(found.answer === null || found.answer === undefined ? "none found" : asText(found.answer))}` })));
      if (box.childElementCount === 1) box.append(make("div", { className: "sides" }, ...sides));
    } catch (error) {
      box.append(make("p", { className: "failed", text: error.message }));
    }
  });
  return box;
};

const open = async () => {
  const asked = read();
  fill({ ...asked, kind: asked.kind === "datasets" && start.pairs.length ? "datasets" : start.models.length > 1 ? "models" : "datasets" });
  await show(asked.flips);
};

(async () => {
  try {
    start = await load("comparisons");
    at("kind").parentElement.hidden = !start.pairs.length || start.models.length < 2;
    at("kind").addEventListener("change", () => { fill(chosen()); show(); });
    at("first").addEventListener("change", () => { fill(chosen()); show(); });
    at("second").addEventListener("change", () => show());
    at("swap").addEventListener("click", () => { const { kind, first, second } = chosen(); fill({ kind, first: second, second: first }); show(); });
    addEventListener("hashchange", open);
    await open();
  } catch (error) {
    at("verdict").textContent = error.message;
    at("verdict").classList.add("failed");
  }
})();
