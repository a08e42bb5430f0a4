// The page: its filters, what the address says of them, and the sample that is open.
const EMPTY = () => ({ dataset: "", models: new Set(), group: "", verdict: "", marks: new Set(), disagree: false, query: "", texts: null, order: "", sample: "" });
let wanted = EMPTY();
let found = { inSet: new Uint32Array(), places: new Uint32Array(), length: 0 };
let list = null;

// The address of a sample: of a data set, models (all if none), and the sample's name.
const link = (number, place, models) => {
  const parts = [["dataset", store.datasets[number].name], ...[...models].map((name) => ["model", name]), ["sample", store.datasets[number].ids[place]]];
  return address(parts);
};

const read = () => {
  const told = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"));
  const state = EMPTY();
  for (const key of ["dataset", "group", "verdict", "order", "sample"]) state[key] = told.get(key) ?? "";
  state.query = told.get("search") ?? "";
  state.models = new Set(told.getAll("model").filter((name) => store.catalog.models.includes(name)));
  state.marks = new Set(told.getAll("mark"));
  state.disagree = told.has("disagree");
  return state;
};

const write = () => {
  const parts = [["dataset", wanted.dataset], ...[...wanted.models].map((name) => ["model", name]), ["group", wanted.group], ["verdict", wanted.verdict],
    ...[...wanted.marks].map((mark) => ["mark", mark]), ["disagree", wanted.disagree ? "1" : ""], ["search", wanted.query], ["order", wanted.order], ["sample", wanted.sample]];
  history.replaceState(null, "", address(parts.filter(([, value]) => value !== "")));
};

const option = (value, text = value) => make("option", { value, text });

// The controls as the state has them.
const showControls = () => {
  at("dataset").value = wanted.dataset;
  const dataset = store.datasets.find((one) => one.name === wanted.dataset);
  const groups = [...new Set((dataset ? [dataset] : store.datasets).flatMap((one) => one.groups))].sort();
  at("group").replaceChildren(option("", "All groups"), ...groups.map((name) => option(name, plain(name))));
  at("group").value = wanted.group;
  at("group").parentElement.hidden = !groups.length;
  at("verdict").value = wanted.verdict;
  at("order").value = wanted.order;
  at("search").value = wanted.query;
  at("disagree").checked = wanted.disagree;
  for (const box of document.querySelectorAll("[name=mark]")) box.checked = wanted.marks.has(box.value);
  for (const box of document.querySelectorAll("[name=model]")) box.checked = wanted.models.has(box.value);
  const names = [...wanted.models];
  at("models-chosen").textContent = names.length === 0 ? `All ${plural(store.catalog.models.length, "model")}` : names.length === 1 ? names[0] : `${names.length} models`;
  at("marks-chosen").textContent = wanted.marks.size + wanted.disagree ? `${plural(wanted.marks.size + wanted.disagree, "mark")} chosen` : "Any marks";
};

const apply = () => {
  const start = performance.now();
  found = store.filter(wanted);
  document.body.dataset.filtered = (performance.now() - start).toFixed(1); // for benchmarks/report.py
  showControls();
  const place = opened();
  list.show(found.length, place);
  at("count").textContent = found.length === 1 ? "1 sample" : `${count(found.length)} samples`;
  const names = chosenNames();
  at("verdicts-of").textContent = names.length <= 8 ? `verdicts of ${names.join(", ")}, in this order` : "";
  at("search-texts").hidden = !wanted.query || Boolean(wanted.texts);
  showPair();
  if (wanted.sample && (wanted.dataset || place >= 0)) openSample();
  else closeSample();
};

// The models that are looked at, in the order of the strips of verdicts.
const chosenNames = () => store.catalog.models.filter((name) => !wanted.models.size || wanted.models.has(name));

// The row of the list that is open, or -1.
const opened = () => {
  if (!wanted.sample) return -1;
  for (let i = 0; i < found.length; i++) {
    const dataset = store.datasets[found.inSet[i]];
    if (dataset.ids[found.places[i]] === wanted.sample && (!shown.dataset || dataset.name === shown.dataset)) return i;
  }
  return -1;
};

// What is said of a pair as a whole, where one is chosen.
const showPair = () => {
  const box = at("pair");
  const dataset = store.datasets.find((one) => one.name === wanted.dataset);
  const models = dataset ? store.chosen(dataset, wanted.models) : [];
  box.hidden = !dataset;
  if (!dataset) return;
  const parts = [make("p", {}, make("b", { text: dataset.name }), dataset.part ? ` (${dataset.part})` : "", dataset.description ? ` – ${plain(dataset.description)}` : "")];
  if (models.length === 1) {
    const [model] = models;
    parts.push(make("p", { className: "numbers" }, make("b", { text: model.name }), ...model.summary.map((text) => make("span", { text: plain(text) }))));
    if (model.groups.length) parts.push(folded(`By group (${model.groups.length})`, "by-group", () => groupTable(dataset, model)));
    parts.push(folded("Settings", "settings", () => {
      const box = make("div", {});
      Promise.all(model.settings.map(load)).then(([ofModel, ofDataset]) => box.append(block(JSON.stringify({ model: ofModel, dataset: ofDataset }, null, 2))));
      return box;
    }));
  }
  box.replaceChildren(...parts);
};

const groupTable = (dataset, model) => {
  const head = ["Group", "Samples", `Mean ${dataset.metric}${dataset.percent ? ", %" : ""}`, "95 % interval"].map((text, place) => make("th", { scope: "col", className: place ? "num" : "", text }));
  const rows = model.groups.map(([name, n, mean, ends]) => make("tr", {}, make("td", { text: plain(name) }), make("td", { className: "num", text: count(n) }),
    make("td", { className: "num", text: figure(mean, dataset.percent) }), make("td", { className: "num", text: ends ? `${figure(ends[0], dataset.percent)} to ${figure(ends[1], dataset.percent)}` : "–" })));
  return make("div", { className: "scroll tall", tabIndex: 0, role: "region", ariaLabel: "By group" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
};

const drawRow = (place) => {
  const [number, sample] = [found.inSet[place], found.places[place]];
  const dataset = store.datasets[number];
  const names = chosenNames();
  const models = names.map((name) => dataset.models.find((model) => model.name === name) ?? null);
  const verdicts = models.map((model) => model && store.verdict(model, sample));
  const row = make("div", {}, make("span", { className: "what" }, make("bdi", { className: "id", text: plain(dataset.ids[sample]) }), make("span", { className: "of", text: wanted.dataset ? "" : dataset.name })));
  const said = names.map((name, at) => (verdicts[at] ? `${name}: ${verdicts[at]}` : "")).filter(Boolean).join("\n");
  const strip = make("span", { className: "verdicts", title: models.length <= 12 ? said : "" });
  const asked = verdicts.filter(Boolean);
  if (models.length <= 12) strip.append(...verdicts.map((verdict) => make("i", { className: verdict ? `is-${verdict}` : "absent", text: verdict ? SYMBOLS[verdict] : "" })));
  else {
    const rights = asked.filter((verdict) => verdict === "right").length;
    const bar = make("i", { className: "is-right" });
    bar.style.width = `${(100 * rights) / asked.length}%`;
    strip.append(make("span", { className: "share", text: `${rights} of ${asked.length} right` }), make("span", { className: "share-bar" }, bar));
  }
  if (models.length <= 12) strip.setAttribute("aria-hidden", "true");
  row.append(strip);
  if (models.length <= 12) row.append(make("span", { className: "unseen", text: said.replaceAll("\n", ", ") }));
  return row;
};

// The sample that is open: its data set and name, so that lists may change around it.
let shown = { dataset: "", sample: "" };
let turn = 0;

const openSample = async () => {
  const mine = ++turn;
  const start = performance.now();
  const name = shown.dataset && shown.sample === wanted.sample ? shown.dataset : wanted.dataset;
  const row = opened();
  const number = row >= 0 ? found.inSet[row] : store.datasets.findIndex((one) => one.name === name);
  const place = row >= 0 ? found.places[row] : store.datasets[number]?.ids.indexOf(wanted.sample) ?? -1;
  const box = at("sample");
  document.body.classList.add("reading");
  if (place < 0) return box.replaceChildren(make("p", { className: "none", text: `There is no sample ${plain(wanted.sample)} here.` }));
  shown = { dataset: store.datasets[number].name, sample: wanted.sample };
  let card;
  try {
    card = await sampleCard(number, place, wanted.models);
  } catch (error) {
    card = make("p", { className: "failed", text: error.message });
  }
  if (mine !== turn) return;
  box.replaceChildren(card);
  box.scrollTop = 0;
  document.body.dataset.opened = (performance.now() - start).toFixed(1); // for benchmarks/report.py
};

const closeSample = () => {
  turn++;
  shown = { dataset: "", sample: "" };
  document.body.classList.remove("reading");
  at("sample").replaceChildren(make("p", { className: "none", text: "Choose a sample to see what was asked and answered." }));
};

const change = (changes) => {
  wanted.texts?.stop();
  wanted = { ...wanted, texts: null, ...changes };
  at("progress").textContent = "";
  apply();
  write();
};

const searchTexts = async () => {
  const search = new TextSearch(wanted.query);
  const all = store.filter({ ...wanted, query: "" });
  change({ texts: search });
  const report = (done) => (at("progress").textContent = `searched ${count(done)} of ${count(all.length)}`);
  try {
    await search.over(all, wanted.models, (done) => {
      report(done);
      apply();
    });
  } catch (error) {
    at("progress").textContent = error.message;
    return;
  }
  if (search.stopped) return;
  apply();
  at("progress").textContent = "texts searched";
};

// The samples of the list as JSON lines: those of the files of scored samples, with model and data set.
const download = async () => {
  const lines = [];
  at("download").disabled = true;
  try {
    for (let i = 0; i < found.length; i++) {
      const dataset = store.datasets[found.inSet[i]];
      for (const model of store.chosen(dataset, wanted.models)) {
        if (store.row(model, found.places[i]) === NOT_ASKED) continue;
        const layers = await Promise.all(["rows", "prompts", "answers"].map((layer) => store.read(model, found.places[i], layer)));
        lines.push(`${JSON.stringify(Object.assign({ model: model.name, dataset: dataset.name }, ...layers))}\n`);
      }
      if (i % 500 === 0) at("progress").textContent = `collected ${count(i)} of ${count(found.length)}`;
    }
    at("progress").textContent = "";
    const url = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    make("a", { href: url, download: `${wanted.dataset || "samples"}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  } catch (error) {
    at("progress").textContent = error.message;
  } finally {
    at("download").disabled = false;
  }
};

const choice = (name, value, text, type = "checkbox") => make("label", {}, make("input", { type, name, value }), make("span", { text }));
const checked = (name) => new Set([...document.querySelectorAll(`[name=${name}]:checked`)].map((box) => box.value));

const begin = async () => {
  await store.open();
  at("dataset").append(option("", "All data sets"), ...store.datasets.map((one) => option(one.name)));
  at("verdict").append(option("", "Any verdict"), ...["right", "wrong", "partial", "unscored"].map((name) => option(name, `${SYMBOLS[name]} ${name}`)));
  at("models").append(...store.catalog.models.map((name) => choice("model", name, name)));
  at("marks").prepend(...MARKS.map(([key, , name]) => choice("mark", key, name)));
  list = new LongList(at("list"), {
    draw: drawRow,
    open: (place) => {
      const dataset = store.datasets[found.inSet[place]];
      shown = { dataset: dataset.name, sample: dataset.ids[found.places[place]] };
      wanted.sample = shown.sample;
      openSample();
      write();
    },
    label: "Samples",
  });
  for (const key of ["verdict", "order"]) at(key).addEventListener("change", () => change({ [key]: at(key).value }));
  at("dataset").addEventListener("change", () => change({ dataset: at("dataset").value, group: "", sample: "" }));
  at("group").addEventListener("change", () => change({ group: at("group").value }));
  at("models").addEventListener("change", () => change({ models: checked("model") }));
  at("marks").addEventListener("change", () => change({ marks: checked("mark"), disagree: at("disagree").checked }));
  at("find-model").addEventListener("input", () => {
    const words = at("find-model").value.toLowerCase();
    for (const label of at("models").children) label.hidden = !label.textContent.toLowerCase().includes(words);
  });
  at("all-models").addEventListener("click", () => change({ models: new Set() }));
  at("search").addEventListener("input", () => change({ query: at("search").value }));
  at("search").addEventListener("keydown", (event) => event.key === "Enter" && wanted.query && searchTexts());
  at("search-texts").addEventListener("click", searchTexts);
  at("clear").addEventListener("click", () => change(EMPTY()));
  at("download").addEventListener("click", download);
  at("back").addEventListener("click", () => {
    change({ sample: "" });
    at("list").focus();
  });
  menus();
  addEventListener("hashchange", () => {
    wanted.texts?.stop();
    wanted = read();
    shown = { dataset: wanted.dataset, sample: wanted.sample };
    apply();
  });
  wanted = read();
  shown = { dataset: wanted.dataset, sample: wanted.sample };
  apply();
  document.body.dataset.ready = performance.now().toFixed(1);
};

begin().catch((error) => at("sample").replaceChildren(make("p", { className: "failed", text: error.message })));
