// One sample: what was asked, and what models made of it.
const NAMES = { right: "✓ right", wrong: "✗ wrong", unscored: "no score" };
const OPEN_AT_FIRST = 4; // models

const badge = (verdict, score, percent) =>
  make("span", { className: `badge is-${verdict}`, text: NAMES[verdict] ?? `${figure(score, percent)}${percent ? " %" : ""}` });

const titled = (title, ...parts) => make("div", {}, make("h4", { text: title }), ...parts);
const none = (text) => make("p", { className: "none", text });
const folded = (summary, className, content) => {
  const found = make("details", { className }, make("summary", { text: summary }));
  found.addEventListener("toggle", () => found.open && found.children.length === 1 && found.append(content()));
  return found;
};

// A long prompt keeps its end in sight, where the question is, and any prompt shows the white space that it ends with.
const ended = (text) => {
  const box = block(text.trimEnd());
  box.append(pieces(text.slice(text.trimEnd().length), true));
  return box;
};
const promptBlock = (text) => {
  const KEPT = 1400;
  if (text.length < 2 * KEPT) return ended(text);
  let cut = text.lastIndexOf("\n", text.length - KEPT) + 1;
  if (text.length - cut > 2 * KEPT) cut = whole(text, text.length - KEPT);
  const earlier = folded(`${count(cut)} earlier characters`, "earlier", () => block(text.slice(0, cut)));
  return make("div", {}, earlier, ended(text.slice(cut)));
};

const softmax = (values) => {
  const known = values.filter((value) => typeof value === "number");
  const peak = Math.max(...known);
  const total = known.reduce((sum, value) => sum + Math.exp(value - peak), 0);
  return values.map((value) => (typeof value === "number" ? Math.exp(value - peak) / total : null));
};

const positions = (choices, values) =>
  new Set(values.map((value) => (Number.isInteger(value) ? value : choices.indexOf(value))).filter((place) => place >= 0));

const choiceTable = (row, answer) => {
  const choices = row.choices;
  const logprobs = choices.map((_, place) => answer.logprobs?.[place] ?? null);
  const shares = softmax(logprobs);
  const chosen = positions(choices, [Number.isInteger(answer.answer) ? answer.answer : answer.output]);
  const gold = positions(choices, asList(row.target));
  const head = ["Choice", "Share", "Log-likelihood", "per token"].map((name, place) => make("th", { scope: "col", className: place > 1 ? "num" : "", text: name }));
  const rows = choices.map((choice, place) => {
    const text = make("td", { className: "text" }, make("span", { dir: "auto" }, pieces(asText(choice), false)));
    if (chosen.has(place)) text.append(" ", make("span", { className: "chip chosen-mark", text: "chosen" }));
    if (gold.has(place)) text.append(" ", make("span", { className: "chip gold-mark", text: "target" }));
    const share = make("td", { className: "nowrap" });
    if (shares[place] === null) share.append("–");
    else {
      const bar = make("i");
      bar.style.width = `${(100 * shares[place]).toFixed(1)}%`;
      share.append(make("span", { className: "meter" }, bar), `${figure(shares[place], true)} %`);
    }
    const tokens = answer.tokens?.[place];
    const each = tokens && logprobs[place] !== null ? logprobs[place] / tokens : null;
    const number = (value) => make("td", { className: "num", text: value === null ? "–" : signed(value.toFixed(2)) });
    return make("tr", { className: `${chosen.has(place) ? "chosen" : ""} ${gold.has(place) ? "gold" : ""}` }, text, share, number(logprobs[place]), number(each));
  });
  const table = make("table", { className: "choices" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  const found = make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Choices" }, table);
  return gold.size ? found : make("div", {}, found, targets(row.target));
};

const targets = (target) =>
  titled("Target", ...(asList(target).length ? asList(target).map((one) => block(asText(one), { className: "value-box" })) : [none("none")]));

const chip = (text, title = "", kind = "warn") => make("span", { className: `chip ${kind}`, title, text });
const chips = (answer) => [
  answer.truncated ? chip(`${plural(answer.truncated, "prompt token")} cut`, "the start of the prompt was left out so that the rest fits the model") : "",
  answer.tied ? chip("tied choices", "another choice is exactly as good as the best; the first of them counts") : "",
  answer.alone ? chip(`${plural(answer.alone, "choice")} tokenized alone`, "a token of the model spans prompt and choice") : "",
  answer.within_thought ? chip("scored within a thought", "the prompt opens a thought, and the choices follow it") : "",
  answer.thought_cut ? chip("reasoning cut", "the output ends within a thought, so it has no answer") : "",
  Number.isInteger(answer.thought_tokens) ? chip(`${plural(answer.thought_tokens, "token")} of reasoning, ${count(answer.answer_tokens ?? 0)} of the answer`, "", "") : "",
  answer.end === "time" ? chip("ended by the time limit", "generation ended at the request_seconds of the model's file, which another run may not reproduce") : "",
  answer.end === "length" ? chip("ended by the length limit", "generation ended at the limit of new tokens") : "",
  answer.end === "refusal" ? chip("refused by the model", "according to the endpoint; what there is of the answer was scored") : "",
  answer.end === "filter" ? chip("withheld by the endpoint", "according to the endpoint; what there is of the answer was scored") : "",
];

const output = (text) => (text === "" ? none("empty") : block(text, { spaces: true }));

// Each of several outputs, or each rotation of the options, with what was found in it and what it is worth.
const several = (answer, dataset, settings, group) => {
  const turns = answer.rotations ?? [];
  const outputs = turns.length ? turns.map((turn) => turn.output) : answer.outputs ?? [];
  if (!outputs.length) return null;
  const chains = turns.length ? { "": turns.map((turn) => turn.answer) } : answer.answers ?? {};
  const marks = answer.answer_scores?.[dataset.metric] ?? Object.values(answer.answer_scores ?? {})[0] ?? [];
  const parts = outputs.map((text, place) => {
    const found = Object.values(chains)[0]?.length === outputs.length ? Object.values(chains)[0][place] : undefined;
    const mark = marks.length === outputs.length ? marks[place] : null;
    const verdict = mark === 1 ? "✓ " : mark === 0 ? "✗ " : mark === null || mark === undefined ? "" : `${figure(mark, dataset.percent)} `;
    const told = found === null ? "nothing extracted" : found === undefined ? `answer ${place + 1}` : plain(asText(found));
    const target = turns.length ? ` (target ${plain(asList(turns[place].target).map(asText).join(" or "))})` : "";
    const ways = turns.length && turns[place].steps ? filterSteps(turns[place], settings, group, [text]) : [];
    return folded(`${verdict}${told}${target}`, "answer-of", () => make("div", {}, output(asText(text)), ...ways));
  });
  const title = turns.length ? `${turns.length} rotations of the options` : `${outputs.length} answers`;
  return titled(title, ...parts);
};

// By chain of filters, what it made of the output.
const filtered = (answer, single) => {
  const chains = Object.entries(answer.answers ?? {}).filter(([name]) => name);
  if (chains.length) {
    return titled("Extracted by each chain of filters", ...chains.map(([name, found]) =>
      make("div", { className: "chain" }, make("span", { className: "muted", text: plain(name) }), ...found.map((one) => (one === null ? none("nothing extracted") : block(asText(one), { className: "value-box" }))))));
  }
  return single ? titled("Extracted answer", answer.answer === null ? none("nothing extracted") : block(asText(answer.answer), { className: "value-box answer" })) : null;
};

// The chains of filters of a data set, or of one of lm-eval's tasks: pairs of a name and filters.
const chainsOf = (settings, group) => {
  if (settings?.lm_eval) {
    const tasks = settings.lm_eval.tasks ?? {};
    const task = tasks[group] ?? Object.values(tasks)[0];
    return (task?.filter_list ?? [{ name: "none", filter: [{ function: "take_first" }] }]).map((chain) =>
      [chain.name, (chain.filter ?? []).map(({ function: name, ...more }) => ({ name: name?.["!function"] ?? name, ...more }))]);
  }
  const chains = Object.entries(settings?.chains ?? {});
  return (chains.length ? chains : [["", settings?.filters ?? []]]).filter(([, filters]) => filters?.length);
};

const filterName = (filter) => {
  if (typeof filter === "string") return filter;
  const { name, ...more } = filter ?? {};
  const set = Object.entries(more).filter(([, value]) => value !== null && value !== "").map(([key, value]) => `${key}: ${asText(value)}`);
  return set.length ? `${name} (${set.join(", ")})` : String(name);
};

// A recorded text: itself, or the place of a piece of the text before.
const pieceOf = (told, place, before) => (Array.isArray(told) ? slicer(asText(before[Math.min(place, before.length - 1)]))(...told) : told);
const boxes = (texts) => texts.map((one) => (one === null ? none("nothing extracted") : one === "" ? none("empty") : block(asText(one), { className: "value-box" })));

// What each filter of a chain did: the texts after it, where it has changed them.
const stepList = (filters, told, outputs, final) => {
  let before = outputs;
  const found = make("ol", { className: "filter-steps", start: told[0] ? 0 : 1 });
  ["what the filters were given", ...filters.map(filterName)].forEach((name, number) => {
    const texts = told[number]?.map((one, place) => pieceOf(one, place, before)) ?? (number === filters.length ? final : undefined);
    const same = !texts || JSON.stringify(texts) === JSON.stringify(before);
    if (number || !same) found.append(make("li", {}, make("code", { text: plain(name) }), ...(same ? [make("p", { className: "none", text: "changes nothing" })] : boxes(texts))));
    before = same ? before : texts;
  });
  return found;
};

// A line for each chain of filters, which unfolds to what each filter did; earlier versions have not recorded that.
const filterSteps = (answer, settings, group, outputs) =>
  chainsOf(settings, group).map(([name, filters], number) => {
    const way = plain(`${name && name !== "none" ? `${name}: ` : ""}output → ${filters.map(filterName).join(" → ")} → answer`);
    const told = answer.steps?.[name];
    if (!told) return make("p", { className: "note steps", text: way });
    const final = answer.answers?.[name] ?? (number ? undefined : answer.answer === null ? [null] : asList(answer.answer));
    return folded(way, "steps", () => stepList(filters, told, outputs, final));
  });

// The prompt as a model was sent it: of a chat, its template's text with pieces of the messages.
const sentText = (prompt, answer) => {
  const piece = slicer(asText(prompt.prompt));
  return answer.sent ? answer.sent.map((told) => (Array.isArray(told) ? piece(...told) : told)).join("") : asText(prompt.prompt);
};
const sentNote = (model, answer) => {
  if (answer.sent) return `The text that ${plain(model.name)} was sent: the messages in its template.`;
  return {
    messages: "The messages, as the endpoint was sent them: it formats them itself.",
    chat: "The messages. An earlier version asked this and did not keep the text that the model's template made of them; scripts/prompts.py shows it.",
  }[model.asked] ?? "";
};
const sentBlock = (model, prompt, answer) => {
  const note = sentNote(model, answer);
  return make("div", { className: "sent" }, note ? make("p", { className: "note", text: note }) : "", promptBlock(sentText(prompt, answer)));
};

const answerBody = async (dataset, model, place, first) => {
  const [row, answer, settings] = await Promise.all([store.read(model, place, "rows"), store.read(model, place, "answers"), load(model.settings[1])]);
  const all = several(answer, dataset, settings, row.group);
  const body = make("div", { className: "answer-body" });
  const tags = chips(answer).filter(Boolean);
  if (tags.length) body.append(make("p", { className: "chips" }, ...tags));
  if (model !== first) {
    const [prompt, other, others] = await Promise.all([store.read(model, place, "prompts"), ...["prompts", "answers"].map((layer) => store.read(first, place, layer))]);
    const asked = asText(prompt.prompt) === asText(other.prompt);
    if (!asked || model.asked !== first.asked || JSON.stringify(answer.sent) !== JSON.stringify(others.sent)) {
      const title = asked ? "The prompt as this model was sent it" : "This model was asked a different prompt";
      body.append(folded(title, "row", () => sentBlock(model, prompt, answer)));
    }
  }
  if (row.choices) body.append(choiceTable(row, answer));
  if (answer.reasoning) body.append(folded("Reasoning", "row", () => block(answer.reasoning)));
  if (all) body.append(all);
  else if (!row.choices) body.append(titled("Output", output(asText(answer.output ?? ""))));
  const single = !row.choices && !Object.keys(answer.answer_scores ?? {}).length;
  body.append(filtered(answer, single) ?? "");
  if (!row.choices && !answer.rotations?.length) body.append(...filterSteps(answer, settings, row.group, answer.outputs ?? [answer.output]));
  if (model !== first && !store.same(model, first, place, "rows")) {
    const other = await store.read(first, place, "rows");
    if (JSON.stringify(other) !== JSON.stringify(row)) body.append(targets(row.target), folded("Original row of this model", "row", () => block(JSON.stringify(row.row, null, 2))));
  }
  const scores = Object.entries(answer.scores ?? {}).map(([name, value]) => `${plain(name)} ${figure(value, false)}`);
  body.append(make("p", { className: "note", text: `Scores: ${scores.join(", ") || "none"}` }));
  return body;
};

const modelCard = (dataset, model, place, first, open) => {
  const row = store.row(model, place);
  const verdict = store.verdict(model, place);
  const summary = make("summary", {}, badge(verdict, model.scores?.[row], dataset.percent), " ", make("span", { className: "name", text: model.name }));
  const card = make("details", { className: `answer-card is-${verdict}` }, summary);
  const fill = () => answerBody(dataset, model, place, first).then((body) => card.children.length === 1 && card.append(body), (error) => card.append(make("p", { className: "failed", text: error.message })));
  card.addEventListener("toggle", () => card.open && card.children.length === 1 && fill());
  card.open = open;
  return card;
};

// The whole of a sample, as an element, once its texts are there.
const sampleCard = async (number, place, names) => {
  const dataset = store.datasets[number];
  const models = store.chosen(dataset, names).filter((model) => store.row(model, place) !== NOT_ASKED);
  const [first] = models;
  const [row, prompt, answer] = await Promise.all(["rows", "prompts", "answers"].map((layer) => store.read(first, place, layer)));
  const group = dataset.group?.[place] ? dataset.groups[dataset.group[place] - 1] : null;
  const head = make("header", {},
    make("h2", { tabIndex: -1 }, make("bdi", { text: plain(dataset.ids[place]) })),
    make("p", { className: "about" }, make("span", { text: dataset.name }), group === null ? "" : make("span", { className: "chip", text: plain(group) }),
      make("a", { href: link(number, place, names), className: "permanent", text: "Permanent link" }),
      prompt.request ? make("span", { className: "muted mono", title: `request ${prompt.request}`, text: `request ${prompt.request.slice(0, 10)}` }) : ""));
  const asked = make("section", { className: "asked" }, make("h3", { text: "Prompt" }), sentBlock(first, prompt, answer));
  if (!row.choices) asked.append(targets(row.target));
  if (row.row !== null) asked.append(folded("Original row", "row", () => block(JSON.stringify(row.row, null, 2))));
  const cards = models.map((model, at) => modelCard(dataset, model, place, first, at < OPEN_AT_FIRST));
  return make("article", { className: "sample" }, head, asked, make("section", { className: "answers" }, make("h3", { text: models.length === 1 ? "Answer" : "Answers" }), ...cards));
};
