// The page: its controls, what they set, and the address's fragment, which keeps all of it for a link.

const $ = (id) => document.getElementById(id);

// Random numbers from 0 to 1 that a seed gives again (mulberry32, T. Ettinger).
function randomOf(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

class App {
  constructor(models) {
    this.models = models;
    const {task, excerpt, telling, model: config} = models[0].data;
    const first = telling[0] ?? {layer: 0, unit: 0, state: models[0].layers[0].cell.state[0]};
    this.usual = {
      prompt: "", written: "", temperature: task === "lm" ? 0.8 : 0, seed: 1, length: 400, pace: 100,
      text: excerpt, looked: 0, layer: first.layer, unit: first.unit, letter: first.state, at: 8, held: [], section: "",
    };
    Object.assign(this, this.usual, this.fromFragment());
    if (!models[this.looked]) this.looked = 0;
    this.fit();
    this.tip = new Tip($("tip"));
    this.inside = new Inside(this);
    this.recurrence = new Recurrence(this);
    this.writings = models.map((model) => new Writing(model, this.column("write-columns", model), this));
    this.readings = models.map((model) => new Reading(model, this.column("read-columns", model), this));
    for (const model of models) this.column("card-columns", model).append(...card(model));
    document.title = `${models.map((model) => this.nameOf(model)).join(" and ")} – charlstm`;
    $("name").textContent = models.map((model) => this.nameOf(model)).join(" and ");
    $("summary").textContent = `${config.cell.replace("_", " ").toUpperCase()} of ${config.layers} × ${config.hidden} units, ` +
      `${models[0].data.parameters.toLocaleString("en")} parameters, ${models[0].characters.length} ` +
      `${models[0].data.unit === "byte" ? "bytes" : "characters"}. It lives in this file: nothing leaves your browser.`;
    this.controls();
  }

  nameOf(model) {
    return model.data.name.replace(/\/(best|last)\.safetensors$/, "").split("/").filter(Boolean).at(-1) ?? "model";
  }

  column(id, model) {
    const column = make("div", {class: "column"});
    if (this.models.length > 1) column.append(make("h3", {}, this.nameOf(model)));
    return $(id).appendChild(column);
  }

  // Layer, unit and letter that the model looked at has.
  fit() {
    const {layers, H, data} = this.models[this.looked], letters = Object.keys(layers[0].now);
    this.layer = Math.max(0, Math.min(this.layer, layers.length - 1)) || 0;
    this.unit = Math.max(0, Math.min(this.unit, H - 1)) || 0;
    if (![...letters, "surprise", "change"].includes(this.letter)) this.letter = layers[0].cell.state[0];
    this.held = this.held.filter(({layer, unit, value}) => layer < data.model.layers && unit < H && Number.isFinite(value));
  }

  // Units are held of the model that is looked at.
  heldOf(model) {
    return model === this.models[this.looked] ? this.held : [];
  }

  controls() {
    const on = (id, event, act) => $(id).addEventListener(event, act);
    const number = (id) => Number($(id).value);
    on("prompt", "change", () => { this.set({prompt: $("prompt").value}); this.begin(); });
    on("temperature", "input", () => this.set({temperature: number("temperature")}));
    on("length", "change", () => this.set({length: Math.max(1, Math.min(100000, number("length")) || 1)}));
    on("pace", "change", () => this.set({pace: number("pace")}));
    on("go", "click", () => (this.isWriting ? this.stop() : this.go()));
    on("step-one", "click", () => { this.stop(); this.writings.forEach((writing) => writing.step()); this.remember(); });
    on("again", "click", () => { this.set({seed: this.seed + 1}); this.begin(); this.go(); });
    on("text", "input", () => { this.set({text: $("text").value}); this.readSoon(); });
    on("reset-text", "click", () => { this.set({text: this.usual.text}); this.readSoon(); });
    on("unit", "change", () => this.set({unit: number("unit")}));
    on("layer", "change", () => this.set({layer: number("layer")}));
    on("letter", "change", () => this.set({letter: $("letter").value}));
    on("looked", "change", () => { this.set({looked: number("looked"), held: []}); this.inside.list(); this.lookAgain(); });
    on("value", "input", () => ($("value-shown").textContent = signed2(number("value"))));
    on("off", "click", () => this.hold(0));
    on("hold", "click", () => this.hold(number("value")));
    on("step", "input", () => this.set({at: number("step")}));
    on("back", "click", () => this.set({at: Math.max(0, this.at - 1)}));
    on("forth", "click", () => this.set({at: this.at + 1}));
    for (const link of document.querySelectorAll("nav a")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const section = link.getAttribute("href").slice(1);
        this.set({section});
        $(section).scrollIntoView();
        $(section).querySelector("h2").focus({preventScroll: true});
      });
    }
    addEventListener("hashchange", () => location.reload());
    this.models.forEach((model, k) => $("looked").append(make("option", {value: k}, this.nameOf(model))));
    $("looked").closest("label").hidden = this.models.length < 2;
  }

  // Change what is set, show it, and keep it in the fragment.
  set(changes) {
    Object.assign(this, changes);
    this.fit();
    this.show();
    if ("unit" in changes || "layer" in changes || "letter" in changes) this.inside.paint();
    if (["unit", "layer", "at", "letter"].some((name) => name in changes)) this.recurrence.draw();
    this.remember();
  }

  show() {
    const model = this.models[this.looked], letters = Object.keys(model.layers[0].now);
    for (const name of ["prompt", "temperature", "length", "pace", "unit", "layer", "text", "looked"]) {
      if (document.activeElement !== $(name) || $(name).type !== "text") $(name).value = this[name];
    }
    $("unit").max = model.H - 1;
    $("layer").max = model.layers.length - 1;
    $("layer").closest("label").hidden = model.layers.length < 2;
    const choices = [...model.layers[0].cell.state, ...letters.filter((l) => !model.layers[0].cell.state.includes(l))];
    $("letter").replaceChildren(...choices.map((letter) => make("option", {value: letter}, `${letter}: ${WORDS[letter]}`)),
      make("option", {value: "surprise"}, "surprise"), make("option", {value: "change"}, "change of surprise by what is held"));
    $("letter").value = this.letter;
    $("temperature-shown").textContent = this.temperature ? this.temperature.toFixed(2) : "0: always the likeliest";
    $("held").replaceChildren(...this.held.map((one) => {
      const button = make("button", {type: "button", class: "chip"},
        `unit ${one.unit}${model.layers.length > 1 ? ` of layer ${one.layer}` : ""} held at ${signed2(one.value)} `, make("b", {}, "release"));
      button.addEventListener("click", () => this.letHeld(this.held.filter((other) => other !== one)));
      return button;
    }));
    $("held-note").hidden = this.held.length === 0;
    $("held-note").textContent = `${this.held.length} ${this.held.length === 1 ? "unit is" : "units are"} held (see Look inside).`;
  }

  hold(value) {
    const rest = this.held.filter(({unit, layer}) => unit !== this.unit || layer !== this.layer);
    this.letHeld([...rest, {layer: this.layer, unit: this.unit, value}]);
  }

  letHeld(held) {
    this.set({held});
    this.lookAgain();
  }

  lookAgain() {
    for (const reading of this.readings) reading.read();
    this.inside.look();
  }

  readSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.lookAgain(), 120);
  }

  begin(written = "") {
    this.stop();
    for (const writing of this.writings) writing.begin(this.prompt, written);
    this.written = written;
    this.remember();
  }

  async go(writings = this.writings) {
    const run = (this.isWriting = {});
    $("go").textContent = "Stop";
    await Promise.all(writings.map((writing) => writing.go(this.length, this.pace)));
    if (this.isWriting === run) this.stop();
  }

  // The one in which another character was chosen goes on alone.
  goOn(writing) {
    this.go([writing]);
  }

  stop() {
    this.isWriting = null;
    for (const writing of this.writings) writing.stop();
    $("go").textContent = "Go";
    this.written = this.writings[0].text;
    this.remember();
  }

  // --- the fragment

  remember() {
    const kept = new URLSearchParams();
    for (const [name, usual] of Object.entries(this.usual)) {
      const value = name === "held" ? this.held.map(({layer, unit, value}) => `${layer}:${unit}:${value}`).join(",") : String(this[name]);
      if (value !== String(usual) && value.length <= 4000) kept.set(name, value);
    }
    const fragment = kept.toString();
    clearTimeout(this.remembering);
    if (fragment === location.hash.slice(1)) return;
    this.remembering = setTimeout(() => history.replaceState(null, "", `#${fragment}`), 100);
  }

  fromFragment() {
    const given = {};
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      if (!(name in this.usual)) continue;
      const usual = this.usual[name];
      if (name === "held") {
        given.held = value.split(",").filter(Boolean).map((one) => {
          const [layer, unit, at] = one.split(":").map(Number);
          return {layer, unit, value: at};
        });
      } else if (typeof usual !== "number") given[name] = value;
      else if (value !== "" && Number.isFinite(Number(value))) given[name] = Number(value);
    }
    return given;
  }
}

async function begin() {
  const data = JSON.parse($("models").textContent);
  const app = new App(await Promise.all(data.map(Model.from)));
  window.app = app; // for the curious, in the browser's console
  const {written} = app;
  app.show();
  app.inside.list();
  app.begin(written);
  document.body.classList.add("ready");
  app.lookAgain();
  if (app.section) $(app.section)?.scrollIntoView();
  if (!written) app.go();
}

begin().catch((error) => {
  $("summary").textContent = `This page needs a newer browser: ${error.message}`;
  throw error;
});
