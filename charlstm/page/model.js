// A trained model: its weights, its characters, and a state that goes on with every character it reads.

const BITS = 1 / Math.LN2; // nats -> bits

class Model {
  static async from(data) {
    const arrays = {};
    for (const name of Object.keys(data.weights)) arrays[name] = await unpacked(data.weights[name]);
    return new Model(data, (name) => arrays[name]);
  }

  constructor(data, weights) {
    const {cell, layers, embedding, head} = data.model;
    const characters = Array.from(data.characters, (character) => character.codePointAt(0)); // by their ids
    Object.assign(this, {data, cell, characters});
    this.embedding = embedding ? weights("embedding.weight") : null;
    this.layers = Array.from({length: layers}, (_, l) => new Layer(cell, weights, l, l === 0 && !embedding));
    this.H = this.layers[0].H;
    // ids: the characters, then the tokens
    this.start = characters.length;
    this.end = this.start + 1;
    this.unknown = data.unknown ? this.start + 2 : null;
    this.V = this.start + (data.unknown ? 3 : 2);
    this.ids = new Map(characters.map((character, id) => [character, id]));
    if (head === "linear") {
      this.W = new Matrix(weights("head.weight").values, this.V, this.H);
      this.b = weights("head.bias").values;
    }
    this.scores = new Float32Array(this.V);
    this.held = [];  // units that are held at a value: {layer, unit, value}
  }

  reset() {
    for (const {now} of this.layers) for (const letter in now) now[letter].fill(0);
  }

  // What the model knows of the past, and the scores that follow from it, as a copy.
  get state() {
    const layers = this.layers.map(({cell, now}) => cell.state.map((letter) => now[letter].slice()));
    return {layers, scores: this.scores.slice()};
  }

  set state({layers, scores}) {
    this.layers.forEach(({cell, now}, l) => cell.state.forEach((letter, k) => now[letter].set(layers[l][k])));
    this.scores.set(scores);
  }

  // Read the character `id`; afterwards `scores` (V) are those of the character that comes next.
  step(id) {
    let x = id;
    if (this.embedding) {
      const size = this.embedding.shape[1];
      x = this.embedding.values.subarray(id * size, (id + 1) * size);
    }
    this.layers.forEach((layer, l) => {
      layer.step(x);
      if (this.held.length) this.hold(layer, l);
      x = layer.now.h;
    });
    if (!this.W) return void this.scores.set(x);
    const product = this.W.times(x);
    for (let v = 0; v < this.V; v++) this.scores[v] = product[v] + this.b[v];
  }

  // Held is the memory of a unit: of an LSTM the cell, of which the output gate still shows what it likes.
  hold({now}, l) {
    for (const {layer, unit, value} of this.held) {
      if (layer !== l) continue;
      if (now.c) {
        now.c[unit] = value;
        now.h[unit] = now.o[unit] * Math.tanh(value);
      } else now.h[unit] = value;
    }
  }

  // p = softmax(scores / temperature), over all V ids, as in training
  probabilities(temperature = 1) {
    const p = new Float64Array(this.V);
    let largest = -Infinity, sum = 0;
    for (const score of this.scores) largest = Math.max(largest, score);
    for (let v = 0; v < this.V; v++) sum += p[v] = Math.exp((this.scores[v] - largest) / temperature);
    for (let v = 0; v < this.V; v++) p[v] /= sum;
    return p;
  }

  // start and unknown token are never written, the end token not where a text has no end
  canWrite(id) {
    return id < this.start || (id === this.end && this.data.ends);
  }

  // The next id: at temperature 0 the likeliest, else by chance; `random` gives numbers from 0 to 1.
  choose(temperature, random) {
    if (temperature === 0) {
      let best = -1;
      for (let v = 0; v < this.V; v++) {
        if (this.canWrite(v) && (best < 0 || this.scores[v] > this.scores[best])) best = v;
      }
      return best;
    }
    const p = this.probabilities(temperature).map((one, v) => (this.canWrite(v) ? one : 0));
    let left = random() * p.reduce((sum, one) => sum + one, 0), last = 0;
    for (let v = 0; v < this.V; v++) {
      if (p[v] > 0) last = v;
      if ((left -= p[v]) < 0) break;
    }
    return last;
  }

  // the likeliest ids with their probabilities, `[[id, p], ...]`
  likeliest(p, count = 5) {
    const best = [];
    for (let v = 0; v < this.V; v++) {
      if (!this.canWrite(v) || (best.length === count && p[v] <= best[count - 1][1])) continue;
      let k = best.length;
      while (k > 0 && best[k - 1][1] < p[v]) k--;
      best.splice(k, 0, [v, p[v]]);
      best.length = Math.min(best.length, count);
    }
    return best;
  }

  // How people see an id: a character, a byte by its number, or the end of a text.
  shown(id) {
    if (id === this.end) return "end";
    const point = this.characters[id];
    if (this.data.unit === "byte" && point > 126) return point.toString(16);
    return {10: "↵", 13: "CR", 9: "tab", 32: "␣"}[point] ?? String.fromCodePoint(point);
  }

  // The ids of one character: one, or of a model of bytes one for each byte of its UTF-8; null if unknown.
  idsOf(character) {
    let points = [character.codePointAt(0)];
    if (this.data.unit === "byte") {
      const lone = points[0] >= 0xdc80 && points[0] <= 0xdcff; // stands for a byte that is no UTF-8
      points = lone ? [points[0] - 0xdc00] : [...new TextEncoder().encode(character)];
    }
    const ids = points.map((point) => this.ids.get(point) ?? this.unknown);
    return ids.includes(null) ? null : ids;
  }

  // What the model reads of a text: a list of {id, at}, `at` the place of the character that id completes or
  // belongs to; null for tokens. Every record stands between a start and an end token.
  reading(characters) {
    const read = [];
    for (const [begin, end] of records(characters, this.data.records)) {
      if (read.length) read.push({id: this.end, at: null});
      read.push({id: this.start, at: null});
      for (let at = begin; at < end; at++) {
        for (const id of this.idsOf(characters[at]) ?? []) read.push({id, at});
      }
    }
    return read.length ? read : [{id: this.start, at: null}];
  }
}

// Where the records of a text are, as pairs [begin, end]: charlstm/text/records.py says what separates them.
function records(characters, kind) {
  const length = characters.length;
  if (!["line", "blank"].includes(kind)) return length ? [[0, length]] : [];
  const isEnd = (k) => characters[k] === "\n" || characters[k] === "\r";
  const found = [];
  if (kind === "line") {
    for (let k = 0, begin = 0; k <= length; k++) {
      if (k < length && !isEnd(k)) continue;
      if (k > begin) found.push([begin, k]);
      begin = k + 1;
    }
    return found;
  }
  // blank: lines of nothing but blanks; the lines between them, without the last line end, are a record
  let begin = null, end = 0;
  for (let k = 0, line = 0; k <= length; k++) {
    if (k < length && !isEnd(k)) continue;
    const isBlank = characters.slice(line, k).every((c) => c === " " || c === "\t");
    if (isBlank && begin !== null) {
      found.push([begin, end]);
      begin = null;
    } else if (!isBlank) {
      begin ??= line;
      end = k;
    }
    if (characters[k] === "\r" && characters[k + 1] === "\n") k++;
    line = k + 1;
    if (k >= length && begin !== null) found.push([begin, end]);
  }
  return found;
}

// The numbers of an array as charlstm/page/document.py packed them: {shape, values}, values float32.
async function unpacked({shape, scales, data}) {
  const packed = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  if (scales) { // a row of int8 has a scale of its own
    const columns = shape[1], numbers = new Int8Array(bytes.buffer);
    return {shape, values: Float32Array.from(numbers, (n, k) => n * scales[Math.floor(k / columns)])};
  }
  const half = bytes.length / 2, values = new Float32Array(half);
  for (let k = 0; k < half; k++) values[k] = float16Of(bytes[k] | bytes[half + k] << 8);
  return {shape, values};
}

// sign, 5 bits of exponent, 10 bits of fraction
function float16Of(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

// Work for some milliseconds at a time and let the browser draw in between. `work` returns false when all is
// done, "wait" when there is nothing to do yet. Returns whether it came to its end while it was wanted.
async function inSlices(work, isWanted, milliseconds = 14) {
  while (isWanted()) {
    const until = performance.now() + milliseconds;
    do {
      const said = work();
      if (said === false) return true;
      if (said === "wait") break;
    } while (performance.now() < until);
    await new Promise((resolve) => (document.hidden ? setTimeout(resolve) : requestAnimationFrame(resolve)));
  }
  return false;
}

// Let a model read a text, an array of characters, from its beginning, with these units held. Returns
// {bits, read, missing}: the bits of each character, NaN where there are none, what `reading` says, and how
// many characters the model does not know; null when it was not wanted any more. `each(n)` is called after
// every step. Others may use the model in between, so it is left as it was found.
async function readText(model, characters, {held = [], isWanted = () => true, each = () => {}} = {}) {
  const bits = new Float64Array(characters.length).fill(NaN);
  const read = model.reading(characters);
  let next = 0, mine = null;
  const some = () => {
    const others = [model.state, model.held];
    if (mine) model.state = mine;
    else model.reset();
    model.held = held;
    for (let n = 0; n < 20 && next < read.length; n++, next++) {
      const {id, at} = read[next];
      if (at !== null) bits[at] = (bits[at] || 0) + surprise(model.scores, id);
      model.step(id);
      each(next);
    }
    mine = model.state;
    [model.state, model.held] = others;
    return next < read.length;
  };
  if (!(await inSlices(some, isWanted))) return null;
  return {bits, read, missing: characters.filter((character) => model.idsOf(character) === null).length};
}

// The mean of what there is: [bits per character, characters].
function mean(bits) {
  const scored = bits.filter((bit) => !Number.isNaN(bit));
  return [scored.reduce((sum, bit) => sum + bit, 0) / scored.length, scored.length];
}

// -log2 softmax(scores)[id]
function surprise(scores, id) {
  let largest = -Infinity, sum = 0;
  for (const score of scores) largest = Math.max(largest, score);
  for (const score of scores) sum += Math.exp(score - largest);
  return (Math.log(sum) + largest - scores[id]) * BITS;
}
