// What is listed: the indices of data sets, and the filters over them.
const MARKS = [
  // key in the address, bit of a sample's marks, name
  ["no-answer", 4, "no answer found"],
  ["cut", 8, "output cut"],
  ["truncated", 16, "prompt cut"],
  ["tied", 32, "tied choices"],
  ["refused", 64, "refused or withheld"],
  ["alone", 128, "choices tokenized alone"],
  ["in-thought", 256, "scored within a thought"],
];
const SYMBOLS = { right: "✓", wrong: "✗", partial: "◐", unscored: "–" };
const NOT_ASKED = 0xffffffff;

const store = {
  catalog: null,
  datasets: [], // by place in the catalog: { name, ids, lower, group, groups, models }

  async open() {
    store.catalog = await load("catalog");
    store.datasets = await Promise.all(store.catalog.datasets.map(async (about) => {
      const index = await load(about.index);
      const models = index.models.map((model) => ({
        ...model,
        name: model.model,
        rows: model.rows && numbers(Uint32Array, model.rows),
        marks: numbers(Uint16Array, model.marks),
        scores: model.scores && numbers(Float32Array, model.scores),
      }));
      const group = index.group && numbers(Uint32Array, index.group);
      return { ...about, ids: index.ids, lower: null, groups: index.groups, group, models };
    }));
  },

  row: (model, place) => (model.rows ? model.rows[place] : place),

  // The verdict of a model on a sample: its name, or null where the model was not asked.
  verdict(model, place) {
    const row = store.row(model, place);
    return row === NOT_ASKED ? null : store.catalog.verdicts[model.marks[row] & 3];
  },

  // The models of a data set that are looked at.
  chosen(dataset, names) {
    return names.size ? dataset.models.filter((model) => names.has(model.name)) : dataset.models;
  },

  // The samples that fit: two arrays, of places of data sets and of places in them.
  filter(wanted) {
    const total = store.datasets.reduce((sum, dataset) => sum + dataset.ids.length, 0);
    const inSet = new Uint32Array(total);
    const places = new Uint32Array(total);
    let found = 0;
    store.datasets.forEach((dataset, number) => {
      if (wanted.dataset && dataset.name !== wanted.dataset) return;
      const models = store.chosen(dataset, wanted.models);
      if (!models.length) return;
      const fits = store.tests(dataset, number, models, wanted);
      for (let place = 0; place < dataset.ids.length; place++) {
        if (fits(place)) {
          inSet[found] = number;
          places[found++] = place;
        }
      }
    });
    const result = { inSet: inSet.subarray(0, found), places: places.subarray(0, found), length: found };
    return wanted.order === "hardest" ? store.hardestFirst(result, wanted) : result;
  },

  // A function that tells whether a sample of a data set fits.
  tests(dataset, number, models, { group, verdict, marks, disagree, query, texts }) {
    const groupNumber = group ? dataset.groups.indexOf(group) + 1 : 0;
    if (group && !groupNumber) return () => false;
    const verdictNumber = verdict ? store.catalog.verdicts.indexOf(verdict) : -1;
    const bits = MARKS.reduce((sum, [key, bit]) => sum + (marks.has(key) ? bit : 0), 0);
    const words = query.toLowerCase();
    if (words) dataset.lower ??= dataset.ids.map((id) => id.toLowerCase());
    const right = store.catalog.verdicts.indexOf("right");
    const unscored = store.catalog.verdicts.indexOf("unscored");
    return (place) => {
      if (groupNumber && dataset.group[place] !== groupNumber) return false;
      if (words && !dataset.lower[place].includes(words) && !texts?.has(number, place)) return false;
      let fits = false;
      let rights = 0;
      let others = 0;
      for (const model of models) {
        const row = model.rows ? model.rows[place] : place;
        if (row === NOT_ASKED) continue;
        const mark = model.marks[row];
        const found = mark & 3;
        if (found === right) rights++;
        else if (found !== unscored) others++;
        fits ||= (verdictNumber < 0 || found === verdictNumber) && (mark & bits) === bits;
        if (fits && !disagree) return true;
      }
      return fits && (!disagree || (rights > 0 && others > 0));
    };
  },

  // The same samples, those first that fewest of the models get right.
  hardestFirst(result, wanted) {
    const shares = new Float32Array(result.length);
    for (let i = 0; i < result.length; i++) {
      const dataset = store.datasets[result.inSet[i]];
      const verdicts = store.chosen(dataset, wanted.models).map((model) => store.verdict(model, result.places[i])).filter(Boolean);
      shares[i] = verdicts.filter((one) => one === "right").length / verdicts.length;
    }
    const order = Uint32Array.from(shares.keys()).sort((a, b) => shares[a] - shares[b] || a - b);
    return { inSet: order.map((i) => result.inSet[i]), places: order.map((i) => result.places[i]), length: result.length };
  },

  // A sample as one layer of a model's file has it: "rows", "prompts" or "answers".
  async read(model, place, layer) {
    const row = store.row(model, place);
    const { start, chunk } = store.stretch(model, row, layer);
    return (await load(chunk))[row - start];
  },

  stretch(model, row, layer) {
    const stretches = model.layers[layer];
    let low = 0;
    for (let high = stretches.length - 1; low < high;) {
      const middle = (low + high + 1) >> 1;
      if (stretches[middle][0] <= row) low = middle;
      else high = middle - 1;
    }
    const [start, chunk] = stretches[low];
    return { start, chunk, offset: row - start };
  },

  // Whether two models' samples are the same in a layer, told without loading them.
  same(one, other, place, layer) {
    const [a, b] = [one, other].map((model) => store.stretch(model, store.row(model, place), layer));
    return a.chunk === b.chunk && a.offset === b.offset;
  },
};

// The samples in whose texts some words stand; found by loading the texts of a list, which takes as long as it takes.
class TextSearch {
  constructor(words) {
    this.words = words.toLowerCase();
    this.found = new Map();
    this.stopped = false;
  }

  has(number, place) {
    return this.found.get(number)?.has(place) ?? false;
  }

  stop() {
    this.stopped = true;
  }

  async over(list, names, progress) {
    const known = new Map(); // chunk -> which of its samples have the words
    const hits = async (chunk) => {
      if (!known.has(chunk)) known.set(chunk, (await load(chunk)).map(({ sent, ...value }) => this.within(value))); // its messages are in the prompt
      return known.get(chunk);
    };
    let last = performance.now();
    for (let i = 0; i < list.length && !this.stopped; i++) {
      const [number, place] = [list.inSet[i], list.places[i]];
      const models = store.chosen(store.datasets[number], names).filter((model) => store.row(model, place) !== NOT_ASKED);
      for (const { chunk, offset } of this.stretches(models, place)) {
        if (!(await hits(chunk))[offset]) continue;
        if (!this.found.has(number)) this.found.set(number, new Set());
        this.found.get(number).add(place);
        break;
      }
      if (performance.now() - last > 100) {
        progress(i);
        await new Promise((resolve) => setTimeout(resolve));
        last = performance.now();
      }
    }
  }

  *stretches(models, place) {
    for (const layer of ["rows", "prompts", "answers"]) {
      for (const model of models) yield store.stretch(model, store.row(model, place), layer);
    }
  }

  within(value) {
    if (typeof value === "string") return value.toLowerCase().includes(this.words);
    if (typeof value === "number") return String(value).includes(this.words);
    if (value === null || typeof value !== "object") return false;
    return Object.values(value).some((part) => this.within(part));
  }
}
