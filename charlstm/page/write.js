// Write: the model reads its own output, character by character, and can be turned off its way.

const SNAPSHOT = 64; // characters between two copies of the state

class Writing {
  constructor(model, box, app) {
    Object.assign(this, {model, app, items: [], ids: [], snapshots: [], running: 0});
    this.strip = new Strip(box.appendChild(make("div")), {
      label: `What ${app.nameOf(model)} writes. Arrow keys walk through it, 1 to 5 choose an alternative.`,
      onPoint: (n, span) => this.point(n, span),
      onKey: (event, n) => this.key(event, n),
    });
    this.said = box.appendChild(make("p", {class: "said", role: "status"}));
  }

  // Begin anew with a prompt, or, with `written`, a prompt and what came after it.
  begin(prompt, written = "") {
    this.running++;
    this.items = [];
    this.ids = [];
    this.snapshots = [];
    this.strip.clear();
    this.decoder = new TextDecoder();
    this.random = randomOf(this.app.seed);
    this.model.reset();
    this.read(this.model.start);
    const unknown = [];
    for (const [text, kind] of [[prompt, "given"], [written, ""]]) {
      for (const character of text) {
        const ids = this.model.idsOf(character);
        if (!ids) unknown.push(character);
        for (const id of ids ?? []) this.append(id, kind);
      }
    }
    this.given = this.strip.spans.filter((span) => span.classList.contains("given")).length;
    this.say(unknown.length ? `left out, as the model never saw it: ${[...new Set(unknown)].join(" ")}` : "");
  }

  read(id) {
    if (this.ids.length % SNAPSHOT === 0) this.snapshots.push(this.model.state);
    this.model.held = this.app.heldOf(this.model);
    this.ids.push(id);
    this.model.step(id);
  }

  append(id, kind = "") {
    const p = this.model.probabilities();
    const item = {id, bits: -Math.log2(p[id]), p: p[id], likely: this.model.likeliest(p), before: this.ids.length};
    const isEnd = id === this.model.end;
    const text = isEnd ? "" : this.textOf(id);
    this.read(id);
    if (isEnd) this.read(this.model.start); // what comes next is another text
    this.items.push(item);
    this.strip.add(isEnd ? "\n" : text, shadeOf(item.bits), isEnd ? "stop" : kind);
    return !isEnd;
  }

  // Bytes are shown when their character is complete.
  textOf(id) {
    const point = this.model.characters[id];
    if (this.model.data.unit !== "byte") return String.fromCodePoint(point);
    return this.decoder.decode(Uint8Array.of(point), {stream: true});
  }

  // One character; false at the end of a text.
  step() {
    return this.append(this.model.choose(this.app.temperature, this.random));
  }

  async go(length, pace) {
    const run = ++this.running, begun = performance.now();
    let written = 0, goesOn = true;
    this.say("");
    await inSlices(() => {
      if (written >= length || !goesOn) return false;
      if (written > (pace * (performance.now() - begun)) / 1000) return "wait";
      goesOn = this.step();
      written += 1;
      return true;
    }, () => {
      if (written) this.strip.box.scrollTop = this.strip.box.scrollHeight;
      return this.running === run;
    }, pace > 1000 ? 50 : 14);
    const rate = written / ((performance.now() - begun) / 1000);
    this.say(`${written} characters, ${Math.round(rate)} a second${goesOn ? "" : "; here the text ends"}`);
  }

  stop() {
    this.running++;
  }

  say(text) {
    this.said.textContent = text;
  }

  point(n, span) {
    if (n === null) return this.app.tip.hideSoon();
    const {id, p, bits, likely} = this.items[n];
    const title = `${this.model.shown(id)}   p = ${percent(p)}, ${bits.toFixed(2)} bits`;
    this.app.tip.show(span, title, bars(this.model, likely, (other) => this.turn(n, other)));
  }

  key(event, n) {
    const chosen = this.items[n]?.likely[Number(event.key) - 1];
    if (chosen) this.turn(n, chosen[0]);
    return Boolean(chosen);
  }

  // Take back character n and all after it, and go on with another one in its place.
  turn(n, id) {
    this.stop();
    this.app.tip.hide();
    const {before} = this.items[n], again = this.ids.slice(0, before);
    const from = Math.floor((before - 1) / SNAPSHOT);
    this.model.state = this.snapshots[from];
    this.snapshots.length = from;
    this.ids.length = from * SNAPSHOT;
    for (const one of again.slice(from * SNAPSHOT)) this.read(one);
    this.items.length = n;
    this.strip.cut(n);
    this.decoder = new TextDecoder();
    if (this.model.data.unit === "byte") for (const item of this.items.slice(-3)) this.textOf(item.id);
    if (this.append(id)) this.app.goOn(this);
    this.strip.mark(n);
  }

  // what was written after the prompt
  get text() {
    return this.strip.spans.slice(this.given).map((span) => span.textContent).join("");
  }
}

// The box beside the character that is pointed at.
class Tip {
  constructor(box) {
    this.box = box;
    box.addEventListener("pointerenter", () => clearTimeout(this.timer));
    box.addEventListener("pointerleave", () => this.hideSoon());
    addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
    addEventListener("scroll", () => this.hide(), {passive: true});
  }

  show(beside, title, rows = []) {
    clearTimeout(this.timer);
    this.box.replaceChildren(make("p", {}, title), ...rows);
    this.box.hidden = false;
    const at = beside.getBoundingClientRect(), {width, height} = this.box.getBoundingClientRect();
    const isBelow = at.bottom + height + 8 < innerHeight;
    this.box.style.left = `${Math.max(8, Math.min(at.left - 20, document.documentElement.clientWidth - width - 8))}px`;
    this.box.style.top = `${isBelow ? at.bottom + 4 : Math.max(8, at.top - height - 4)}px`;
  }

  hideSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.hide(), 250);
  }

  hide() {
    this.box.hidden = true;
  }
}
