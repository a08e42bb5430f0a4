"use strict";
// Draws each chart when it comes into sight, the others later for whoever prints the page, in the colours of the page.
const drawn = new Set();

const loadVega = (address) => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = address;
  script.addEventListener("load", resolve);
  script.addEventListener("error", () => reject(new Error(`${address} is missing: copy the whole folder of the report`)));
  document.head.append(script);
});
let drawing = null;

const NARROW = 520; // px, below which legends stand below, ticks are fewer, and names are cut
const CELL = 18; // px, the least width of a heat map's columns: their names stand side by side

const style = (width) => {
  const own = getComputedStyle(document.documentElement);
  const [ink, muted, line, edge] = ["--ink", "--muted", "--line", "--edge"].map((name) => own.getPropertyValue(name).trim());
  return {
    background: null, font: getComputedStyle(document.body).fontFamily, view: { stroke: null },
    mark: { aria: false }, // whoever cannot see marks reads the table (CSV)
    axis: { labelColor: ink, titleColor: muted, gridColor: line, domainColor: edge, tickColor: edge, labelFontSize: 12, titleFontSize: 12, titleLimit: width },
    axisX: { tickCount: width < NARROW ? 4 : 8 }, axisY: { labelLimit: width < NARROW ? 0.35 * width : 260 },
    legend: { orient: width < NARROW ? "bottom" : "right", columns: 1, labelColor: ink, titleColor: muted, labelFontSize: 12, titleFontSize: 12, labelLimit: 220 }, text: { fill: ink, fontSize: 12 },
  };
};

const draw = async (box) => {
  try {
    drawing ??= loadVega(box.dataset.vega);
    const [{ spec, columns, rows }] = await Promise.all([load(box.dataset.chunk), drawing]);
    const values = rows.map((row) => Object.fromEntries(columns.map((name, place) => [name, row[place]])));
    const width = Math.max(240, Math.min(820, box.clientWidth - 8));
    const height = spec.height.step ? spec.height.step * new Set(rows.map(([model]) => model)).size : spec.height;
    const across = spec.mark === "rect" ? new Set(rows.map(([, dataset]) => dataset)).size : 0;
    const step = spec.width.step ?? (across * CELL > 0.4 * width ? CELL : 0);
    const size = step ? { width: { step } } : { width, autosize: { type: "fit-x", contains: "padding" } };
    const whole = { ...spec, description: box.ariaLabel, data: { values }, height, ...size };
    await vegaEmbed(box, whole, { ast: true, actions: false, renderer: "svg", defaultStyle: false, config: style(width), logLevel: 1, // errors only
      tooltip: { disableDefaultStyle: true } });
    box.dataset.drawn = "1";
  } catch (error) {
    box.replaceChildren(make("p", { className: "failed", text: error.message }));
  }
};

const drawOnce = async (box) => {
  if (drawn.has(box)) return;
  drawn.add(box);
  await draw(box);
};
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) drawOnce(target);
}, { rootMargin: "400px" });
const boxes = [...document.querySelectorAll("[data-chunk]")];
boxes.forEach((box) => sight.observe(box));
setTimeout(async () => { for (const box of boxes) await drawOnce(box); }, 1000);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
