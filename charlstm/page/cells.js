// One step of each recurrence, as in docs/recurrence.md and with its letters: x input, h hidden state,
// c cell state, W weight, b bias, a prime for the next step. The products are made by the layer:
//
//   input  = W_ih x + b_ih    the part of the input, all gates one below the other, (G * H)
//   hidden = W_hh h + b_hh    the part of the state
//
// A step finds the state of a layer in `now` and leaves there the next one, with the gates that made it.

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

function lstm(input, hidden, now) {
  const {i, f, g, o, c, h} = now, H = h.length;
  for (let k = 0; k < H; k++) {
    i[k] = sigmoid(input[k] + hidden[k]);                        // input gate: how much of g is written
    f[k] = sigmoid(input[H + k] + hidden[H + k]);                // forget gate: how much of c is kept
    g[k] = Math.tanh(input[2 * H + k] + hidden[2 * H + k]);      // cell gate: what there is to write
    o[k] = sigmoid(input[3 * H + k] + hidden[3 * H + k]);        // output gate: how much of c is shown
    c[k] = f[k] * c[k] + i[k] * g[k];                            // c' = f * c + i * g
    h[k] = o[k] * Math.tanh(c[k]);                               // h' = o * tanh(c')
  }
}

function gru(input, hidden, now) {
  const {r, z, n, h} = now, H = h.length;
  for (let k = 0; k < H; k++) {
    r[k] = sigmoid(input[k] + hidden[k]);                              // reset gate
    z[k] = sigmoid(input[H + k] + hidden[H + k]);                      // update gate
    n[k] = Math.tanh(input[2 * H + k] + r[k] * hidden[2 * H + k]);     // new value
    h[k] = (1 - z[k]) * n[k] + z[k] * h[k];                            // h' = (1 - z) * n + z * h
  }
}

function rnnTanh(input, hidden, {h}) {
  for (let k = 0; k < h.length; k++) h[k] = Math.tanh(input[k] + hidden[k]);
}

function rnnRelu(input, hidden, {h}) {
  for (let k = 0; k < h.length; k++) h[k] = Math.max(0, input[k] + hidden[k]);
}

// gates: in the order of the weights' rows; state: what goes on from step to step, the memory first
const CELLS = {
  lstm: {step: lstm, gates: ["i", "f", "g", "o"], state: ["c", "h"]},
  gru: {step: gru, gates: ["r", "z", "n"], state: ["h"]},
  rnn_tanh: {step: rnnTanh, gates: [""], state: ["h"]},
  rnn_relu: {step: rnnRelu, gates: [""], state: ["h"]},
};

const WORDS = {
  c: "cell", h: "hidden state", i: "input gate", f: "forget gate", g: "cell gate (what is written)",
  o: "output gate", r: "reset gate", z: "update gate", n: "new value",
};

const isSigmoid = (letter) => "ifozr".includes(letter);   // from 0, shut, to 1, open; all others have a sign

// A layer with its weights and its state; `x` is the input, or, where that is one-hot, the number of its 1.
class Layer {
  constructor(cell, weights, l, isOneHot) {
    const [rows, inputs] = weights(`rnn.weight_ih_l${l}`).shape;
    const H = weights(`rnn.weight_hh_l${l}`).shape[1];
    Object.assign(this, {cell: CELLS[cell], H, rows, isOneHot});
    const W_ih = weights(`rnn.weight_ih_l${l}`).values;
    if (isOneHot) this.columns = transposed(W_ih, rows, inputs); // W x is the column of W that x names
    else this.W_ih = new Matrix(W_ih, rows, inputs);
    this.W_hh = new Matrix(weights(`rnn.weight_hh_l${l}`).values, rows, H);
    this.b_ih = weights(`rnn.bias_ih_l${l}`).values;
    this.b_hh = weights(`rnn.bias_hh_l${l}`).values;
    this.input = new Float32Array(rows);
    this.hidden = new Float32Array(rows);
    const letters = [...this.cell.gates.filter((letter) => letter), ...this.cell.state];
    this.now = Object.fromEntries(letters.map((letter) => [letter, new Float32Array(H)]));
  }

  step(x) {
    const {input, hidden, b_ih, b_hh, rows} = this;
    const fromInput = this.isOneHot
      ? this.columns.subarray(x * rows, (x + 1) * rows) : this.W_ih.times(x);
    const fromHidden = this.W_hh.times(this.now.h);
    for (let k = 0; k < rows; k++) {
      input[k] = fromInput[k] + b_ih[k];
      hidden[k] = fromHidden[k] + b_hh[k];
    }
    this.cell.step(input, hidden, this.now);
  }
}

function transposed(values, rows, columns) {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) result[column * rows + row] = values[row * columns + column];
  }
  return result;
}
