// Elements and text. Nothing here, nor in what uses it, makes HTML of a text: all of it goes into text nodes.
const make = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.append(value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
};

// What a text hides: control characters, marks of direction, characters without width, halves of surrogate pairs.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const visible = (letter) => {
  const code = letter.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "\u2421" : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
};
const plain = (text) => String(text).replace(HIDDEN, visible);

// Keys with their values, as the part of an address after the page.
const address = (parts) => `#${parts.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&")}`;

const SPACES = /\n|\t|^ +| +$| +(?=\n)|(?<=\n) +| {2,}/g;
const LONGEST = 20000; // characters shown at first
const whole = (text, end) => (/[\udc00-\udfff]/.test(text[end] ?? "") ? end - 1 : end); // no cut within a letter of two units

// Slices of a text, in characters as Python counts them.
const slicer = (text) => {
  const letters = /[\ud800-\udfff]/.test(text) ? [...text] : null;
  return (start, end) => letters?.slice(start, end).join("") ?? text.slice(start, end);
};

const pieces = (text, spaces) => {
  const found = document.createDocumentFragment();
  const add = (part, kind) => part && found.append(kind ? make("span", { className: kind, text: part }) : part);
  const marked = (part) => {
    let end = 0;
    for (const match of part.matchAll(HIDDEN)) {
      add(part.slice(end, match.index));
      add(visible(match[0]), "hidden-mark");
      end = match.index + match[0].length;
    }
    add(part.slice(end));
  };
  if (!spaces) marked(text);
  else {
    let end = 0;
    for (const match of text.matchAll(SPACES)) {
      marked(text.slice(end, match.index));
      add(match[0], `ws ${{ "\n": "newline", "\t": "tab" }[match[0]] ?? "space"}`);
      end = match.index + match[0].length;
    }
    marked(text.slice(end));
  }
  return found;
};

// A block of foreign text; `spaces` marks white space that is easy to miss. What is very long is cut until asked for.
const block = (text, { spaces = false, className = "box" } = {}) => {
  const box = make("pre", { className, dir: "auto" });
  box.append(pieces(text.slice(0, whole(text, LONGEST)), spaces));
  if (text.length > LONGEST) {
    const more = make("button", { type: "button", className: "more-text", text: `… show all ${count(text.length)} characters` });
    more.addEventListener("click", () => box.replaceChildren(pieces(text, spaces)));
    box.append(more);
  }
  return box;
};

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");
const asList = (value) => (value === null || value === undefined ? [] : Array.isArray(value) ? value : [value]);
const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const signed = (text) => text.replace("-", "\u2212");
const figure = (value, percent) =>
  value === null || value === undefined || Number.isNaN(value) ? "–" : signed(percent ? (100 * value).toFixed(1) : String(Number(value.toPrecision(4))));
const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

const at = (id) => document.getElementById(id);

// Menus close by Escape and by a click elsewhere.
const menus = () => {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll(".menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
};
