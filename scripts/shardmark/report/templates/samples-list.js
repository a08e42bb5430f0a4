// A list that makes elements only of the rows in sight, however many there are.
class LongList {
  static ROW = 44; // px
  static TALLEST = 8e6; // px; browsers cannot draw much taller elements

  constructor(box, { draw, open, label }) {
    Object.assign(this, { box, draw, open, length: 0, active: -1 });
    this.inner = make("div", { className: "rows" });
    box.replaceChildren(this.inner);
    box.tabIndex = 0;
    box.setAttribute("role", "listbox");
    box.setAttribute("aria-label", label);
    box.addEventListener("scroll", () => this.render(), { passive: true });
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => {
      const row = event.target.closest("[data-place]");
      if (row) this.choose(Number(row.dataset.place));
    });
    new ResizeObserver(() => this.render()).observe(box);
  }

  // Show another list of so many rows; `active` is the row that is open, or -1.
  show(length, active) {
    Object.assign(this, { length, active });
    this.height = Math.min(length * LongList.ROW, LongList.TALLEST);
    this.inner.style.height = `${this.height}px`;
    if (active >= 0) this.reveal(active);
    else this.box.scrollTop = 0;
    this.render();
  }

  // How many rows stand above the upper edge, with fractions.
  get first() {
    const hidden = this.length * LongList.ROW - this.box.clientHeight;
    const way = this.height - this.box.clientHeight;
    return way > 0 ? ((this.box.scrollTop / way) * hidden) / LongList.ROW : 0;
  }

  reveal(place) {
    const rows = this.box.clientHeight / LongList.ROW;
    if (place >= this.first && place + 1 <= this.first + rows) return;
    const hidden = this.length * LongList.ROW - this.box.clientHeight;
    const wanted = Math.max(0, (place - rows / 3) * LongList.ROW);
    this.box.scrollTop = hidden > 0 ? (wanted / hidden) * (this.height - this.box.clientHeight) : 0;
  }

  render() {
    const from = Math.max(0, Math.floor(this.first) - 4);
    const to = Math.min(this.length, Math.ceil(this.first + this.box.clientHeight / LongList.ROW) + 4);
    const top = this.box.scrollTop - this.first * LongList.ROW;
    const rows = [];
    for (let place = from; place < to; place++) {
      const row = this.draw(place);
      row.className = `item${place === this.active ? " active" : ""}`;
      row.id = `row-${place}`;
      row.dataset.place = place;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", place === this.active);
      row.setAttribute("aria-setsize", this.length);
      row.setAttribute("aria-posinset", place + 1);
      row.style.top = `${top + place * LongList.ROW}px`;
      rows.push(row);
    }
    this.inner.replaceChildren(...rows);
    if (from <= this.active && this.active < to) this.box.setAttribute("aria-activedescendant", `row-${this.active}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  choose(place) {
    if (place < 0 || place >= this.length) return;
    this.active = place;
    this.reveal(place);
    this.render();
    this.open(place);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / LongList.ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey || !this.length) return;
    event.preventDefault();
    this.choose(Math.min(this.length - 1, Math.max(0, this.active + steps[event.key])));
  }
}
