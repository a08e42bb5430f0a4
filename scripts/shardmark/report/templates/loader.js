"use strict";
// Loads chunks: scripts beside the page that call shardmark(NAME, base64 of deflated JSON). See docs/report.md.
const load = (() => {
  const KEPT = 400; // chunks in memory; the least recently used goes first
  const arrived = new Map();
  const kept = new Map();

  globalThis.shardmark = (name, text) => arrived.set(name, text);

  // Integers that a number of JavaScript cannot hold stay as they are written, in browsers that can tell.
  const exact = (key, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source) ? JSON.rawJSON(context.source) : value;
  const parsed = (text) => (/[\s:,[]-?\d{16,}[\s,}\]]/.test(text) ? JSON.parse(text, exact) : JSON.parse(text));

  const inflate = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return parsed(await new Response(stream).text());
  };

  const fetchChunk = (name) => new Promise((resolve, reject) => {
    if (!/^[A-Za-z0-9_-]+$/.test(name)) throw new Error(`${name} is not the name of a chunk`);
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    const end = () => {
      script.remove();
      const text = arrived.get(name);
      arrived.delete(name);
      if (text === undefined) reject(new Error(`data/${name}.js is missing or damaged: copy the whole folder of the report`));
      else inflate(text).then(resolve, () => reject(new Error(`data/${name}.js is damaged`)));
    };
    script.addEventListener("load", end);
    script.addEventListener("error", end);
    document.head.append(script);
  });

  // The value of a chunk, as a promise.
  return (name) => {
    const found = kept.get(name) ?? fetchChunk(name);
    kept.delete(name);
    kept.set(name, found);
    found.catch(() => kept.delete(name));
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    return found;
  };
})();

// Typed arrays from base64.
const numbers = (kind, text) => new kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
