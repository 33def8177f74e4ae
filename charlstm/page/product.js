// The product y = W x, in which nearly all the time of a step goes.
//
// Sixteen rows of W are computed side by side. So the numbers of W are stored sixteen rows at a time,
// column by column: what is needed together lies together. `plainProduct` says what is computed;
// `simdProduct` is the same loop in WebAssembly, which alone can use the processor's vector instructions,
// four float32 at a time (about five times as fast).

const ROWS = 16;

// blocks of 16 rows; `packed` is W in that order, x has `columns` numbers, y a multiple of 16
function plainProduct(packed, x, y) {
  let at = 0;
  for (let row = 0; row < y.length; row += ROWS) {
    const sums = new Float64Array(ROWS);
    for (let column = 0; column < x.length; column++) {
      for (let k = 0; k < ROWS; k++) sums[k] += packed[at++] * x[column];
    }
    for (let k = 0; k < ROWS; k++) y[row + k] = sums[k];
  }
}

// A matrix (rows, columns) whose product with `x` comes out in `y`. `x` and `y` are there to be written and
// read: x has `columns` numbers, y at least `rows`.
class Matrix {
  constructor(values, rows, columns) {
    const blocks = Math.ceil(rows / ROWS);
    const sizes = [blocks * ROWS * columns, columns, blocks * ROWS];
    const bytes = 4 * (sizes[0] + sizes[1] + sizes[2]);
    this.compiled = simdProduct(bytes);
    const buffer = this.compiled ? this.compiled.memory.buffer : new ArrayBuffer(bytes);
    const packed = new Float32Array(buffer, 0, sizes[0]);
    this.x = new Float32Array(buffer, 4 * sizes[0], sizes[1]);
    this.y = new Float32Array(buffer, 4 * (sizes[0] + sizes[1]), sizes[2]);
    for (let row = 0; row < rows; row++) {
      const start = (row - row % ROWS) * columns + row % ROWS;
      for (let column = 0; column < columns; column++) {
        packed[start + column * ROWS] = values[row * columns + column];
      }
    }
    this.packed = packed;
    this.blocks = blocks;
  }

  times(x) {
    this.x.set(x);
    if (this.compiled) this.compiled.run(0, this.x.byteOffset, this.y.byteOffset, this.blocks);
    else plainProduct(this.packed, this.x, this.y);
    return this.y;
  }
}

// --- the same in WebAssembly -------------------------------------------------------------------------
// The code of a function is a list of bytes: instructions, each with its operands after it. Like a pocket
// calculator with postfix notation they take their arguments from a stack and put their result there.

function productInWebAssembly() {
  const [I32, V128] = [0x7f, 0x7b];                        // types: an address or count; four float32
  const [W, X, Y, BLOCKS, NEXT, FACTOR, END] = [0, 1, 2, 3, 4, 9, 10];  // variables; the first four are given
  const sums = [5, 6, 7, 8];                                             // and four more
  const get = (name) => [0x20, name];
  const set = (name) => [0x21, name];
  const number = (n) => [0x41, ...(n < 64 ? [n] : [n & 127 | 128, n >> 7])];  // seven bits a byte
  const PLUS = [0x6a], MINUS = [0x6b], BELOW = [0x49];
  const advance = (name, bytes) => [...get(name), ...number(bytes), ...PLUS, ...set(name)];
  const load = (name, offset) => [...get(name), 0xfd, 0x00, 2, offset];   // four numbers from W
  const repeat = (name) => [...get(name), 0xfd, 0x09, 2, 0];              // one number of x, four times
  const store = (name, offset, value) => [...get(name), ...get(value), 0xfd, 0x0b, 2, offset];
  const TIMES4 = [0xfd, 0xe6, 0x01], PLUS4 = [0xfd, 0xe4, 0x01];          // of four numbers each
  const ZERO4 = [0xfd, 0x0c, ...new Array(16).fill(0)];
  const loopWhile = (body, condition) => [0x03, 0x40, ...body, ...condition, 0x0d, 0, 0x0b];

  const product = loopWhile([                             // for each block of 16 rows
    ...sums.flatMap((sum) => [...ZERO4, ...set(sum)]),
    ...get(X), ...set(NEXT),
    ...loopWhile([                                          // for each column: sums += W * x[column]
      ...repeat(NEXT), ...set(FACTOR),
      ...sums.flatMap((sum, k) =>
        [...load(W, 16 * k), ...get(FACTOR), ...TIMES4, ...get(sum), ...PLUS4, ...set(sum)]),
      ...advance(W, 4 * ROWS), ...advance(NEXT, 4),
    ], [...get(NEXT), ...get(END), ...BELOW]),
    ...sums.flatMap((sum, k) => store(Y, 16 * k, sum)),
    ...advance(Y, 4 * ROWS),
    ...get(BLOCKS), ...number(1), ...MINUS, ...set(BLOCKS),
  ], get(BLOCKS));

  const sized = (bytes) => [bytes.length & 127 | 128, bytes.length >> 7, ...bytes];
  const section = (id, bytes) => [id, ...sized(bytes)];

  // its own variables (NEXT; sums and FACTOR; END), its code: x ends where y begins
  const body = [3, 1, I32, 5, V128, 1, I32, ...get(Y), ...set(END), ...product, 0x0b];
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,                                         // "\0asm", version 1
    ...section(1, [1, 0x60, 4, I32, I32, I32, I32, 0]),                      // four arguments, no result
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 2, 0, 1]),                           // a memory, "m" of "m"
    ...section(3, [1, 0]), ...section(7, [1, 3, 0x72, 0x75, 0x6e, 0, 0]),    // the function, called "run"
    ...section(10, [1, ...sized(body)]),
  ]);
}

const MODULE = (() => {
  try {
    return new WebAssembly.Module(productInWebAssembly());
  } catch {
    return null; // an old browser, or one told not to: the plain loop does it
  }
})();

function simdProduct(bytes) {
  if (!MODULE) return null;
  const memory = new WebAssembly.Memory({initial: Math.ceil(bytes / 65536)});
  const {run} = new WebAssembly.Instance(MODULE, {m: {m: memory}}).exports;
  return {run, memory};
}
