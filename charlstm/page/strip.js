// A text whose characters are coloured, can be pointed at, walked through with the arrow keys, and selected.
// All of it is set as text content: nothing that a model writes is ever taken for HTML.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text
  return element;
};

class Strip {
  // `onPoint(n, span)` is told which character is pointed at (null: none any more), `onSelect(begin, end)`
  // which were selected.
  constructor(box, {label, onPoint = () => {}, onSelect = null, onKey = () => false}) {
    Object.assign(this, {box, onPoint, onSelect, onKey, spans: [], active: null, anchor: null});
    for (const [name, value] of Object.entries({
      class: `strip${onSelect ? " selectable" : ""}`, tabindex: 0, role: "textbox", "aria-readonly": true,
      "aria-multiline": true, "aria-label": label, spellcheck: false,
    })) box.setAttribute(name, value);
    const indexOf = (event) => event.target.closest("span")?.index ?? null;
    box.addEventListener("pointerover", (event) => this.point(indexOf(event)));
    box.addEventListener("pointerleave", () => onPoint(null));
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("focus", () => {
      if (box.matches(":focus-visible")) this.point(this.active ?? 0);
    });
    box.addEventListener("blur", () => this.mark(null));
    if (!onSelect) return;
    box.addEventListener("pointerdown", (event) => (this.anchor = indexOf(event)));
    box.addEventListener("pointerover", (event) => {
      if (event.buttons && this.anchor !== null) this.select(this.anchor, indexOf(event));
    });
    box.addEventListener("pointerup", (event) => {
      if (this.anchor !== null) this.select(this.anchor, indexOf(event));
      this.anchor = null;
    });
  }

  clear() {
    this.box.replaceChildren();
    this.spans = [];
    this.active = this.line = null;
  }

  // Each line is an element of its own, so that a long text is laid out line by line.
  add(text, value = null, kind = "") {
    if (!this.line) this.box.append((this.line = make("div")));
    const span = make("span", {}, text);
    span.index = this.spans.length;
    this.spans.push(span);
    this.line.append(span);
    this.paint(span.index, value, kind);
    if (text.includes("\n")) this.line = null;
    return span;
  }

  // Keep the first n characters.
  cut(n) {
    for (const span of this.spans.splice(n)) span.remove();
    for (const line of [...this.box.children]) if (!line.firstChild) line.remove();
    const last = this.spans.at(-1);
    this.line = last && !last.textContent.includes("\n") ? last.parentElement : null;
    if (this.active >= n) this.active = null;
  }

  // `value` from 0 to 1, or with a sign from -1 to 1, becomes the shade; null: none
  paint(n, value, kind = "") {
    const span = this.spans[n];
    const isNone = value === null || Number.isNaN(value);
    span.className = `${kind}${span.textContent === "\n" ? " end" : ""}${value < 0 ? " negative" : ""}`;
    span.style.setProperty("--shade", isNone ? 0 : Math.min(1, Math.abs(value)).toFixed(3));
  }

  toggle(n, name, isOn) {
    this.spans[n]?.classList.toggle(name, isOn);
  }

  point(n) {
    if (n === null || !this.spans[n]) return;
    this.mark(n);
    this.onPoint(n, this.spans[n]);
  }

  mark(n) {
    if (this.active !== null) this.toggle(this.active, "active", false);
    if (n === null) return;
    this.active = n;
    this.toggle(n, "active", true);
  }

  key(event) {
    const before = this.active ?? 0;
    if (this.onKey(event, before)) return event.preventDefault();
    const steps = {ArrowLeft: -1, ArrowRight: 1, Home: -before, End: this.spans.length};
    let to = before + (steps[event.key] ?? NaN);
    if (event.key === "ArrowUp" || event.key === "ArrowDown") to = this.beside(before, event.key === "ArrowUp");
    if (Number.isNaN(to)) return;
    event.preventDefault();
    to = Math.max(0, Math.min(this.spans.length - 1, to));
    if (this.onSelect && event.shiftKey) {
      this.anchorKey ??= before;
      this.select(this.anchorKey, to);
    } else this.anchorKey = null;
    this.point(to);
    this.spans[to]?.scrollIntoView({block: "nearest"});
  }

  // the character above or below
  beside(n, isAbove) {
    const from = this.spans[n]?.getBoundingClientRect();
    const candidates = this.spans.slice(Math.max(0, n - 300), n + 300);
    let best = n, least = Infinity;
    for (const span of from ? candidates : []) {
      const at = span.getBoundingClientRect();
      const lines = (isAbove ? from.top - at.top : at.top - from.top) / from.height;
      const distance = Math.abs(at.left - from.left) + 1000 * Math.round(lines);
      if (lines > 0.5 && distance < least) [best, least] = [span.index, distance];
    }
    return best;
  }

  select(from, to) {
    if (to === null) return;
    const [begin, end] = [Math.min(from, to), Math.max(from, to) + 1];
    this.spans.forEach((span, n) => span.classList.toggle("selected", n >= begin && n < end));
    this.onSelect(begin, end);
  }
}

const shadeOf = (bits) => bits / 8; // a character of 8 bits or more has the full shade
const percent = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : `${(100 * p).toPrecision(2)} %`);
const signed2 = (x) => (x < 0 ? "−" : "") + Math.abs(x).toFixed(2);

// What is likely next, as buttons with bars: `likely` is [[id, p], ...], `choose(id)` is called on a click.
function bars(model, likely, choose = null) {
  return likely.map(([id, p], k) => {
    const row = make(choose ? "button" : "div", {class: "bar", ...(choose ? {type: "button"} : {})},
      make("kbd", {}, model.shown(id)), make("i", {}), make("span", {}, percent(p)));
    row.style.setProperty("--p", p.toFixed(4));
    if (choose) {
      row.setAttribute("aria-label", `${k + 1}: ${model.shown(id)}, ${percent(p)}; continue with it`);
      row.addEventListener("click", () => choose(id));
    }
    return row;
  });
}
