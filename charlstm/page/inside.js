// Look inside: the same text by what one unit does, which units follow what, and what happens without them.

const LOOKED_AT = 5000; // characters of the text: every number of every step is kept

class Inside {
  constructor(app) {
    Object.assign(this, {app, runs: 0, box: document.getElementById("inside")});
    this.strip = new Strip(document.getElementById("inside-text"), {
      label: "The text by what the chosen unit does. Arrow keys walk through it, with Shift they select.",
      onPoint: (n, span) => this.point(n, span),
      onSelect: (begin, end) => this.select(begin, end),
    });
  }

  get model() {
    return this.app.models[this.app.looked];
  }

  // Read the text, keep every gate and state of every step, and paint. Held units are held.
  async look() {
    const run = ++this.runs, {model, app} = this;
    const characters = Array.from(app.text).slice(0, LOOKED_AT);
    const isWanted = () => run === this.runs;
    const steps = model.reading(characters).length;
    const letters = Object.keys(model.layers[0].now);
    const kept = model.layers.map(() =>
      Object.fromEntries(letters.map((letter) => [letter, new Float32Array(steps * model.H)])));
    const each = (n) => model.layers.forEach(({now}, l) => {
      for (const letter of letters) kept[l][letter].set(now[letter], n * model.H);
    });
    const found = await readText(model, characters, {held: app.held, isWanted, each});
    const free = found && app.held.length ? await readText(model, characters, {isWanted}) : found;
    if (!free) return;
    Object.assign(this, {characters, kept, free, found, read: found.read});
    this.lastOf = new Map(); // of each character the last step that reads it
    found.read.forEach(({at}, n) => at !== null && this.lastOf.set(at, n));
    this.strip.clear();
    for (const character of characters) this.strip.add(character);
    this.paint();
    this.showEffect();
    app.recurrence.draw();
  }

  // What the chosen unit does at a step: a number, by the chosen letter.
  value(n, unit = this.app.unit, layer = this.app.layer, letter = this.app.letter) {
    return this.kept[layer][letter][n * this.model.H + unit];
  }

  // the largest value, without its sign, that the chosen unit comes to in this text
  largest(letter) {
    const {unit, layer} = this.app;
    return Math.max(0, ...Array.from(this.lastOf.values(), (n) => Math.abs(this.value(n, unit, layer, letter))));
  }

  paint() {
    if (!this.kept) return;
    const {letter} = this.app;
    const change = (k) => (this.found.bits[k] - this.free.bits[k]) / 4;
    // a gate from 0 to 1; what has a sign by the largest there is
    const full = letter in this.kept[0] && !isSigmoid(letter) ? this.largest(letter) : 1;
    const memory = Math.ceil(Math.max(1, this.largest(this.model.layers[0].cell.state[0])));
    Object.assign(document.getElementById("value"), {min: -memory, max: memory});
    this.characters.forEach((_, k) => {
      const n = this.lastOf.get(k);
      if (n === undefined) this.strip.paint(k, null, "unknown");
      else if (letter === "surprise") this.strip.paint(k, shadeOf(this.found.bits[k]));
      else if (letter === "change") this.strip.paint(k, change(k), "signed");
      else this.strip.paint(k, this.value(n) / (full || 1), isSigmoid(letter) ? "gate" : "signed");
    });
    const name = letter === "surprise" ? "surprise" : letter === "change" ? "change of surprise"
      : `${WORDS[letter]} of unit ${this.app.unit}, layer ${this.app.layer}`;
    const ends = letter === "surprise" ? ["0 bits", "8 or more"] : letter === "change" ? ["−4 bits", "4 bits"]
      : isSigmoid(letter) ? ["0, shut", "1, open"] : [signed2(-full), signed2(full)];
    document.querySelectorAll("#legend .scale span").forEach((end, k) => (end.textContent = ends[k]));
    document.getElementById("legend").className = letter === "surprise" ? "" : isSigmoid(letter) ? "gate" : "signed";
    document.getElementById("inside-name").textContent = name;
  }

  point(n, span) {
    if (n === null) return this.app.tip.hideSoon();
    if (!this.lastOf?.has(n)) return;
    const {letter} = this.app, at = this.lastOf.get(n);
    const value = WORDS[letter] ? `${letter} = ${signed2(this.value(at))}` : "";
    this.app.tip.show(span, `${value}   ${this.found.bits[n].toFixed(2)} bits`.trim());
    this.app.set({at});
  }

  // --- units that are on in a span, and where else they are

  // The memory of a unit is on where it is above 0.3 (as in LSTMVis); of an LSTM tanh(c) counts.
  isOn(n, unit, layer) {
    const letter = this.model.layers[0].cell.state[0];
    const value = this.value(n, unit, layer, letter);
    return (letter === "c" ? Math.tanh(value) : value) > 0.3;
  }

  select(begin, end) {
    const steps = this.read.flatMap(({at}, n) => (at !== null && at >= begin && at < end ? [n] : []));
    const total = this.read.length, found = [];
    for (let layer = 0; layer < this.model.layers.length && steps.length; layer++) {
      for (let unit = 0; unit < this.model.H; unit++) {
        if (!steps.every((n) => this.isOn(n, unit, layer))) continue;
        let elsewhere = 0;
        for (let n = 0; n < total; n++) elsewhere += this.isOn(n, unit, layer);
        found.push({layer, unit, share: elsewhere / total});
      }
    }
    found.sort((a, b) => a.share - b.share); // what is on only here tells most
    const telling = found.slice(0, 8), others = this.sameElsewhere(telling.slice(0, 3), begin, end);
    this.characters.forEach((_, k) => this.strip.toggle(k, "alike", others.some(([b, e]) => k >= b && k < e)));
    const text = (b, e) => this.characters.slice(b, e).join("").replaceAll("\n", "↵");
    document.getElementById("selected").replaceChildren(
      make("p", {}, `In “${text(begin, end)}” ${found.length} ${found.length === 1 ? "unit is" : "units are"} on` +
        (telling.length ? "; those that are on least often elsewhere:" : ".")),
      make("div", {class: "chips"}, ...telling.map(({layer, unit, share}) => this.chip(
        `${this.model.layers.length > 1 ? `${layer}:` : ""}${unit}`, `on in ${percent(share)} of the text`,
        {layer, unit, letter: this.model.layers[0].cell.state[0]}))),
      ...(others.length ? [make("p", {}, `The first ${Math.min(3, telling.length)} are on together here, too:`),
        make("ul", {}, ...others.slice(0, 8).map(([b, e]) => make("li", {},
          text(Math.max(0, b - 12), b), make("mark", {}, text(b, e)), text(e, e + 12))))] : []));
  }

  // Where all these units are on, as spans [begin, end] apart from the one that is selected, the longest first.
  sameElsewhere(units, begin, end) {
    const spans = [];
    let from = null;
    for (let k = 0; units.length && k <= this.characters.length; k++) {
      const n = this.lastOf.get(k);
      const isOn = n !== undefined && units.every(({layer, unit}) => this.isOn(n, unit, layer));
      if (isOn) from ??= k;
      else if (from !== null) {
        if (k <= begin || from >= end) spans.push([from, k]);
        from = null;
      }
    }
    return spans.sort((a, b) => b[1] - b[0] - (a[1] - a[0]));
  }

  chip(name, note, change) {
    const button = make("button", {type: "button", class: "chip"}, make("b", {}, name), ` ${note}`);
    button.addEventListener("click", () => this.app.set(change));
    return button;
  }

  // The ranked list that was computed when the page was made.
  list() {
    const rows = this.model.data.telling;
    document.getElementById("telling").replaceChildren(...rows.map((row) => {
      const where = this.model.layers.length > 1 ? `${row.layer}:${row.unit}` : `${row.unit}`;
      const chip = this.chip(where, `${row.feature} `, {layer: row.layer, unit: row.unit, letter: row.state});
      chip.append(make("i", {}, `${signed2(row.correlation)}`));
      chip.setAttribute("aria-label", `unit ${row.unit} of layer ${row.layer}: ${row.feature}, correlation ${row.correlation.toFixed(2)}`);
      return chip;
    }));
    document.getElementById("no-telling").hidden = rows.length > 0;
  }

  // --- with and without the units that are held

  showEffect() {
    const {app, model} = this, box = document.getElementById("effect");
    if (!app.held.length) return box.replaceChildren();
    const [[before], [after]] = [mean(this.free.bits), mean(this.found.bits)];
    const prompt = this.characters.slice(0, 60).join("");
    const shown = make("small", {}, prompt.slice(-20));
    box.replaceChildren(
      make("p", {}, "With these units held the text costs ", make("b", {}, after.toFixed(3)),
        ` bits per character, with all free ${before.toFixed(3)}. After its first ${prompt.length} characters the likeliest text is`),
      make("dl", {},
        make("dt", {}, "free"), make("dd", {}, shown, continued(model, prompt, [])),
        make("dt", {}, "held"), make("dd", {}, shown.cloneNode(true), continued(model, prompt, app.held))));
  }
}

// The likeliest text after a prompt, with these units held; the model is left as it was found.
function continued(model, prompt, held, length = 120) {
  const others = [model.state, model.held];
  model.reset();
  model.held = held;
  for (const {id} of model.reading(Array.from(prompt))) model.step(id);
  const points = [];
  for (let n = 0; n < length; n++) {
    const id = model.choose(0);
    if (id === model.end) break;
    points.push(model.characters[id]);
    model.step(id);
  }
  [model.state, model.held] = others;
  return model.data.unit === "byte"
    ? new TextDecoder().decode(Uint8Array.from(points)) : String.fromCodePoint(...points);
}
