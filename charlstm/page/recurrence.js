// The recurrence: one step of one unit, drawn with the numbers that are in it.

// Where things stand in the drawing: boxes with a letter and its number, and circles with an operation.
const DRAWINGS = {
  lstm: {
    boxes: {c0: [42, 42], c: [322, 42], f: [42, 150], i: [118, 150], g: [194, 150], o: [270, 150],
      h: [322, 256], x: [100, 256], h0: [194, 256]},
    circles: {keep: [104, 42, "×"], add: [194, 42, "+"], write: [194, 96, "×"], tanh: [332, 96, "tanh"], show: [332, 204, "×"]},
    lines: ["c0 keep", "keep add", "add c", "f keep", "i write", "g write", "write add", "c tanh", "tanh show", "o show",
      "show h", "x f", "x i", "x g", "x o", "h0 f", "h0 i", "h0 g", "h0 o"],
  },
  gru: {
    boxes: {h0: [42, 42], h: [318, 42], z: [96, 150], n: [212, 150], r: [308, 150], x: [100, 262], h1: [212, 262]},
    circles: {keep: [96, 42, "×"], add: [212, 42, "+"], write: [212, 96, "×"], reset: [258, 206, "×"]},
    lines: ["h0 keep", "keep add", "add h", "z keep", "z write", "n write", "write add", "r reset", "h1 reset", "reset n",
      "x z", "x n", "x r", "h1 z", "h1 r"],
  },
  rnn: {
    boxes: {x: [90, 250], h0: [270, 250], h: [180, 42]},
    circles: {add: [180, 180, "+"], squash: [180, 112, ""]},
    lines: ["x add", "h0 add", "add squash", "squash h"],
  },
};

const svg = (tag, attributes, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
};

class Recurrence {
  constructor(app) {
    this.app = app;
  }

  // Make the step again from the state before it, and show what was in it.
  draw() {
    const {app} = this, inside = app.inside, {model} = inside;
    if (!inside.kept) return;
    const n = Math.min(app.at, inside.read.length - 1), {unit, layer: l} = app;
    const others = [model.state, model.held], layer = model.layers[l];
    model.reset();
    if (n > 0) {
      model.layers.forEach(({now}, k) => {
        for (const letter in now) now[letter].set(inside.kept[k][letter].subarray((n - 1) * model.H, n * model.H));
      });
    }
    const before = Object.fromEntries(layer.cell.state.map((letter) => [letter, layer.now[letter][unit]]));
    model.held = app.held;
    model.step(inside.read[n].id);
    const now = Object.fromEntries(Object.entries(layer.now).map(([letter, values]) => [letter, values[unit]]));
    const parts = layer.cell.gates.map((_, k) => [layer.input[k * model.H + unit], layer.hidden[k * model.H + unit]]);
    const likely = model.likeliest(model.probabilities());
    const scores = likely.map(([id]) => model.scores[id]);
    [model.state, model.held] = others;

    const symbol = inside.read[n].id === model.start ? "start" : model.shown(inside.read[n].id);
    this.drawing(model.cell, before, now, l ? "from below" : symbol);
    this.equations(model.cell, before, now, parts);
    const around = inside.read.slice(Math.max(0, n - 24), n + 1).map(({id}) =>
      id === model.start ? "▸" : model.shown(id).replace("␣", " "));
    document.getElementById("step-text").replaceChildren(
      `step ${n + 1} of ${inside.read.length}: `, make("span", {}, around.slice(0, -1).join("")), make("mark", {}, around.at(-1)));
    document.getElementById("step").max = inside.read.length - 1;
    document.getElementById("step").value = n;
    document.getElementById("scores").replaceChildren(...bars(model, likely));
    document.querySelectorAll("#scores kbd").forEach((key, k) => key.after(make("small", {}, signed2(scores[k]))));
  }

  drawing(cell, before, now, symbol) {
    const {boxes, circles, lines} = DRAWINGS[cell] ?? DRAWINGS.rnn;
    const numbers = {...now, c0: before.c, h0: before.h, h1: before.h};
    const at = (name) => boxes[name] ?? circles[name];
    const picture = svg("svg", {viewBox: "0 0 360 294", role: "img"});
    const shown = Object.keys(boxes).filter((name) => name in numbers).map((name) =>
      `${name.replace(/[01]/, " before")} ${signed2(numbers[name])}`);
    picture.append(svg("title", {}, `One step: ${shown.join(", ")}`));
    for (const line of lines) {
      const [[x1, y1], [x2, y2]] = line.split(" ").map(at);
      picture.append(svg("line", {x1, y1, x2, y2, class: /^[xh]/.test(line) && y1 > 205 ? "thin" : ""}));
    }
    for (const [name, [x, y, sign]] of Object.entries(circles)) {
      const label = sign || (cell === "rnn_relu" ? "max 0" : "tanh");
      const isWide = label.length > 1;
      picture.append(svg("rect", {x: x - (isWide ? 24 : 12), y: y - 12, width: isWide ? 48 : 24, height: 24, rx: 12, class: "op", "data-name": name}),
        svg("text", {x, y: y + 5, class: "sign"}, label));
    }
    for (const [name, [x, y]] of Object.entries(boxes)) {
      const letter = name.replace(/[01]/, ""), value = numbers[name];
      const box = svg("rect", {x: x - 35, y: y - 22, width: 70, height: 44, rx: 8, class: `box ${value < 0 ? "negative" : ""}`});
      box.style.setProperty("--shade", value === undefined ? 0 : Math.min(1, Math.abs(value)).toFixed(3));
      const prime = /^[ch]$/.test(name) ? "′" : "";
      picture.append(svg("rect", {x: x - 35, y: y - 22, width: 70, height: 44, rx: 8, class: "under"}), box,
        svg("text", {x, y: y - 4, class: "letter"}, letter + prime),
        svg("text", {x, y: y + 14, class: "value"}, value === undefined ? symbol : signed2(value)));
    }
    document.getElementById("drawing").replaceChildren(picture);
  }

  // The equations of docs/recurrence.md with the numbers of this unit: from the input and from the state.
  equations(cell, before, now, parts) {
    const s = signed2, sum = ([a, b]) => `${s(a)} ${b < 0 ? "−" : "+"} ${Math.abs(b).toFixed(2)}`;
    const lines = {
      lstm: () => [
        ["i", "σ", "input gate", sum(parts[0])], ["f", "σ", "forget gate", sum(parts[1])],
        ["g", "tanh", "what there is to write", sum(parts[2])], ["o", "σ", "output gate", sum(parts[3])],
        ["c′", "", "f · c + i · g", `${s(now.f)} · ${s(before.c)} + ${s(now.i)} · ${s(now.g)}`, now.c],
        ["h′", "", "o · tanh(c′)", `${s(now.o)} · ${s(Math.tanh(now.c))}`, now.h]],
      gru: () => [
        ["r", "σ", "reset gate", sum(parts[0])], ["z", "σ", "update gate", sum(parts[1])],
        ["n", "tanh", "new value", `${s(parts[2][0])} + ${s(now.r)} · ${s(parts[2][1])}`],
        ["h′", "", "(1 − z) · n + z · h", `${s(1 - now.z)} · ${s(now.n)} + ${s(now.z)} · ${s(before.h)}`, now.h]],
    }[cell]?.() ?? [["h′", cell === "rnn_relu" ? "max 0," : "tanh", "new state", sum(parts[0]), now.h]];
    document.getElementById("equations").replaceChildren(...lines.flatMap(([letter, f, what, numbers, value]) => [
      make("dt", {}, letter), make("dd", {}, make("small", {}, what),
        `${f ? `${f}(${numbers})` : numbers} = `, make("b", {}, s(value ?? now[letter])))]));
  }
}
