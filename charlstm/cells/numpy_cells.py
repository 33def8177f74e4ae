"""The recurrences in plain NumPy.

Letters are those of the equations: x input, h hidden state, c cell state, W weight, b bias, `*` the
elementwise product, a prime for the next step. A state is a tuple of arrays, `(h,)` or for the LSTM
`(h, c)`. Weights have the names, shapes and gate order of torch.nn (see `gates.py`). Shapes are written
with a batch; for a single stream leave the B out everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from charlstm.cells.gates import STATE, check_input, check_state, not_finite, parameter_names, sizes_of
from charlstm.cells.layers import affine, stack

Array = NDArray[np.floating[Any]]
State = tuple[Array, ...]
Terms = dict[str, Array]
Step = Callable[..., State]


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, which saturates where exp overflows."""
    return np.asarray(0.5 * np.tanh(np.multiply(x, 0.5)) + 0.5)


def split(stacked: Array, gates: int) -> list[Array]:
    """`(B, G*H)` -> G arrays `(B, H)`, one for each gate."""
    hidden = stacked.shape[-1] // gates
    return [stacked[..., k * hidden : (k + 1) * hidden] for k in range(gates)]


# --- one step: x (B, I), state of (B, H) arrays -> the next state -------------------------------------
# A dict given as `terms` receives every term of the equations, `*_pre` before its activation: `trace`
# stands on it, so that no equation is written twice.


def rnn_step(
    activation: Callable[[Array], Array],
    x: Array,
    state: State,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    terms: Terms | None = None,
) -> State:
    """h' = activation(W_ih x + b_ih + W_hh h + b_hh)

    Elman 1990, "Finding structure in time". tanh bounds h; a ReLU, max(0, a), does not, and may overflow."""
    (h,) = state
    a_pre = affine(x, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh)
    h = activation(a_pre)
    if terms is not None:
        terms.update(a_pre=a_pre, h=h)
    return (h,)


rnn_tanh_step: Step = partial(rnn_step, np.tanh)
rnn_relu_step: Step = partial(rnn_step, lambda a: np.maximum(a, 0))


def gru_step(
    x: Array,
    state: State,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    terms: Terms | None = None,
) -> State:
    """r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)         reset gate
    z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)         update gate
    n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))      new value
    h' = (1 - z) * n + z * h

    Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder". The paper applies the
    reset gate before the recurrent product, W_hn (r * h); torch.nn, and so this, after it."""
    (h,) = state
    r_in, z_in, n_in = split(affine(x, weight_ih, bias_ih), 3)
    r_rec, z_rec, n_rec = split(affine(h, weight_hh, bias_hh), 3)
    r_pre, z_pre = r_in + r_rec, z_in + z_rec
    r, z = sigmoid(r_pre), sigmoid(z_pre)
    n_pre = n_in + r * n_rec
    n = np.tanh(n_pre)
    h = (1 - z) * n + z * h
    if terms is not None:
        terms.update(r_pre=r_pre, z_pre=z_pre, n_pre=n_pre, r=r, z=z, n=n, h=h)
    return (h,)


def lstm_step(
    x: Array,
    state: State,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    terms: Terms | None = None,
) -> State:
    """i  = sigmoid(W_ii x + b_ii + W_hi h + b_hi)      input gate: how much of g is written
    f  = sigmoid(W_if x + b_if + W_hf h + b_hf)      forget gate: how much of c is kept
    g  = tanh(W_ig x + b_ig + W_hg h + b_hg)         cell gate: what there is to write
    o  = sigmoid(W_io x + b_io + W_ho h + b_ho)      output gate: how much of c is shown
    c' = f * c + i * g
    h' = o * tanh(c')

    Hochreiter & Schmidhuber 1997, "Long short-term memory"; the forget gate is of Gers et al. 2000,
    "Learning to forget"; for its bias see Jozefowicz et al. 2015, "An empirical exploration of
    recurrent network architectures"."""
    h, c = state
    pre = affine(x, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh)
    i_pre, f_pre, g_pre, o_pre = split(pre, 4)
    i, f, g, o = sigmoid(i_pre), sigmoid(f_pre), np.tanh(g_pre), sigmoid(o_pre)
    c = f * c + i * g
    h = o * np.tanh(c)
    if terms is not None:
        terms.update(i_pre=i_pre, f_pre=f_pre, g_pre=g_pre, o_pre=o_pre, i=i, f=f, g=g, o=o, c=c, h=h)
    return h, c


STEPS: dict[str, Step] = {
    "lstm": lstm_step,
    "gru": gru_step,
    "rnn_tanh": rnn_tanh_step,
    "rnn_relu": rnn_relu_step,
}


# --- a sequence, a batch, a stack, both directions ----------------------------------------------------


class Recurrent:
    """torch.nn's RNN, GRU or LSTM, time first, from its weights alone: L, D, H, I and bias are read off them.

    `weights` maps exactly torch.nn's names to arrays of one dtype, float32 or float64, in which all is
    computed. They are not copied: a gate that is written later is the gate that runs."""

    def __init__(self, cell: str, weights: Mapping[str, ArrayLike]) -> None:
        arrays = {name: np.asarray(weight) for name, weight in weights.items()}
        sizes = sizes_of(cell, {name: array.shape for name, array in arrays.items()})
        dtypes = {array.dtype for array in arrays.values()}
        if dtypes not in ({np.dtype("float32")}, {np.dtype("float64")}):
            found = ", ".join(sorted(map(str, dtypes)))
            raise ValueError(f"weights must all be float32 or all float64, got {found}: use astype")
        self.cell = cell
        self.input_size, self.hidden_size, self.num_layers, self.bias, self.bidirectional = sizes
        self.dtype = dtypes.pop()
        self.weights = [[arrays[name] for name in names] for names in parameter_names(*sizes[2:])]

    def zero_state(self, batch: int | None = None) -> State:
        """The state before the first step: zeros `(L*D, B, H)`, or `(L*D, H)` without a batch."""
        streams = () if batch is None else (batch,)
        shape = (len(self.weights), *streams, self.hidden_size)
        return tuple(np.zeros(shape, self.dtype) for _ in STATE[self.cell])

    def __call__(self, x: ArrayLike, state: Sequence[ArrayLike] | None = None) -> tuple[Array, State]:
        """x `(T, B, I)`, state `(h,)` or `(h, c)` of `(L*D, B, H)` -> output `(T, B, D*H)`, final state.

        No state means zeros. In one direction the final state continues the sequence to the very same
        bits. Every number returned is finite, or FloatingPointError is raised."""
        with np.errstate(all="ignore"):  # an infinite pre-activation may rightly saturate: the outcome counts
            x = np.ascontiguousarray(x, self.dtype)  # another layout in memory may be rounded otherwise
            check_input(x.shape, self.input_size)
            streams = x.shape[1:-1]
            start = self.zero_state(*streams) if state is None else state
            parts = [np.ascontiguousarray(part, self.dtype) for part in start]
            check_state(
                [part.shape for part in parts], self.cell, (len(self.weights), *streams, self.hidden_size)
            )
            join = partial(np.concatenate, axis=-1) if self.bidirectional else None
            outputs, finals = stack(
                STEPS[self.cell], list(x), list(zip(*parts, strict=True)), self.weights, join
            )
        columns = self.hidden_size * (2 if self.bidirectional else 1)
        output = np.array(outputs, self.dtype).reshape(len(x), *streams, columns)  # T = 0 has a shape too
        final = tuple(np.stack(part) for part in zip(*finals, strict=True))
        check_finite(self.cell, output, *final)
        return output, final


def trace(recurrent: Recurrent, x: ArrayLike) -> Terms:
    """Every term of the equations, at every step and layer from a zero state: x `(T, I)` -> `(T, L, H)` each.

    lstm: i f g o, i_pre f_pre g_pre o_pre (before the activation), c, h; gru: r z n, r_pre z_pre n_pre, h;
    rnn: a_pre, h. One direction only, ValueError otherwise: two have no common order of time."""
    if recurrent.bidirectional:
        raise ValueError("trace follows one direction; these weights have two")
    x = np.ascontiguousarray(x, recurrent.dtype)
    check_input(x.shape, recurrent.input_size, batch=False)
    records: list[Terms] = []

    def recording_step(*args: Any) -> State:
        records.append({})
        return STEPS[recurrent.cell](*args, terms=records[-1])

    states = list(zip(*recurrent.zero_state(), strict=True))
    with np.errstate(all="ignore"):
        recording_step(np.zeros_like(x, shape=recurrent.input_size), states[0], *recurrent.weights[0])
        names = list(records.pop())  # so that they are known when T = 0, too
        stack(recording_step, list(x), states, recurrent.weights)
    shape = (recurrent.num_layers, len(x), recurrent.hidden_size)  # the stack runs layer by layer
    stacked = {name: np.array([terms[name] for terms in records], x.dtype) for name in names}
    traced = {name: term.reshape(shape).swapaxes(0, 1) for name, term in stacked.items()}
    check_finite(recurrent.cell, *(traced[name] for name in STATE[recurrent.cell]))
    return traced


def check_finite(cell: str, *arrays: Array) -> None:
    """FloatingPointError unless every number is finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise not_finite(cell, arrays[0].dtype)
