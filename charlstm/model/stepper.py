"""The network of `numpy_model.py`, one character at a time, nearly as fast as its weights can be read.

Three things make it fast. The weights are packed once: the product of the first layer with its input is a
row of a table, every other layer is one `matrix @ [input; state]`. Nothing of size is allocated on the way.
And sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, with the half of x in the packed weights, so that one call of tanh
serves all gates.

Arrays are `(features, B)` here: for one stream that is a vector, for many it is the layout in which the
products were fastest (130 against 100 to 120 GFLOP/s for `(B, features)`), and a gate is a block of rows.
The hidden states of all layers are one `(L*H, B)` array: [input; state] of an upper layer is a slice of it.
"""

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from charlstm.cells.gates import gate, not_finite
from charlstm.cells.numpy_cells import Array
from charlstm.model.numpy_model import NumpyModel


class Stepper:
    """A model that reads a character of each of B streams at a time and keeps their `state`: h, or h and
    c, of all layers one below the other, each `(L*H, B)`, at first zeros or what `after` has. The weights are
    copied: what is written to them later is not seen."""

    def __init__(self, model: NumpyModel, streams: int = 1, after: Sequence[Array] = ()) -> None:
        recurrent, size = model.recurrent, model.recurrent.hidden_size
        self._cell, self._streams = recurrent.cell, streams
        self.state = [part.reshape(-1, streams) for part in recurrent.zero_state(streams)]
        self._layers: list[Layer] = []
        for l, arrays in enumerate(recurrent.weights):
            reads = self.state[0][max(0, l - 1) * size : (l + 1) * size]
            own = [part[l * size : (l + 1) * size] for part in self.state]
            self._layers.append(LAYERS[self._cell](self._cell, arrays, reads, *own))
        self._table = model.table(self._layers[0].weight_ih) + self._layers[0].bias.T  # (V, G*H)
        self._top = self.state[0][-size:].T
        self._head = None if model.head is None else (model.head[0].copy("K"), model.head[1].copy())
        self._scores = np.empty((streams, model.vocabulary_size), recurrent.dtype)
        if len(after):
            for part, given in zip(self.state, after, strict=True):
                part[...] = given

    def __call__(self, ids: ArrayLike) -> Array:
        """Scores `(B, V)` of the character after `ids (B,)`, in a buffer that the next call overwrites.

        Every number of the state is finite afterwards, or FloatingPointError is raised; it is of no use then.
        Raises ValueError if `ids` are not B integers, and IndexError if one is not below V."""
        ids = np.asarray(ids)
        if ids.shape != (self._streams,) or ids.dtype.kind not in "iu":
            raise ValueError(f"ids are {ids.dtype} {ids.shape}, expected ({self._streams},) integers")
        with np.errstate(all="ignore"):  # an infinite pre-activation may rightly saturate: the outcome counts
            self._layers[0](self._table[ids].T)
            for layer in self._layers[1:]:
                layer(layer.bias)
            if self._head is None:
                self._scores[...] = self._top
            else:
                np.dot(self._top, self._head[0], out=self._scores)
                self._scores += self._head[1]
            h = self.state[0]
            square = np.vdot(h, h)  # one call where isfinite(h).all() is two; it may overflow, though
        # c needs no look: it grows by at most 1 a step, and not a number in it is not a number in h
        if not isfinite(square) and not np.isfinite(h).all():
            raise not_finite(self._cell, self._scores.dtype)
        return self._scores


class Layer:
    """A layer's step in place, as that of its name in numpy_cells: it reads [input; state] `(2*H, B)`, in the
    first layer the state `(H, B)` alone, and overwrites `state`, h or h and c, each `(H, B)`."""

    sigmoids: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __init__(self, cell: str, arrays: Sequence[Array], reads: Array, *state: Array) -> None:
        halves = dict.fromkeys(self.sigmoids, 0.5) | dict.fromkeys(self.others, 1.0)  # exact, both
        self.weight_ih, self.weight, bias_ih, bias_hh = (
            np.concatenate([gate(array, cell, name) * half for name, half in halves.items()])
            for array in arrays
        )
        self.bias_ih, self.bias_hh = bias_ih[:, None], bias_hh[:, None]
        self.bias = self.bias_ih + self.bias_hh
        self.reads, self.state, (size, streams) = reads, state, state[0].shape
        if len(reads) > size:
            self.weight = np.hstack([self.weight_ih, self.weight])
            self.weight_ih = self.weight[:, :size]
        self.pre = np.empty_like(reads, shape=(len(self.weight), streams))
        self.squashed = self.pre[: len(self.sigmoids) * size]
        self.gates = tuple(self.pre.reshape(-1, size, streams))

    def __call__(self, given: Array) -> None:
        """Advance the state; `given (G*H, B or 1)` is `bias`, in the first layer the input's part, too."""
        np.dot(self.weight, self.reads, out=self.pre)
        self.pre += given
        self.activate()

    def activate(self) -> None:
        """From the sums before the activations, `pre`, to the state."""


class RnnTanh(Layer):
    others = ("hidden",)

    def activate(self) -> None:
        np.tanh(self.pre, out=self.state[0])


class RnnRelu(RnnTanh):
    def activate(self) -> None:
        np.maximum(self.pre, 0, out=self.state[0])


class Lstm(Layer):
    sigmoids, others = ("input", "forget", "output"), ("cell",)

    def activate(self) -> None:
        (h, c), (i, f, o, g) = self.state, self.gates
        np.tanh(self.pre, out=self.pre)
        finish_sigmoid(self.squashed)
        c *= f
        i *= g
        c += i
        np.tanh(c, out=g)
        np.multiply(o, g, out=h)


class Gru(Layer):
    """`gru_step` of numpy_cells. The input's part is kept apart: r is for the recurrent part of n alone."""

    sigmoids, others = ("reset", "update"), ("new",)

    def __init__(self, cell: str, arrays: Sequence[Array], reads: Array, h: Array) -> None:
        super().__init__(cell, arrays, h, h)
        self.input = reads[: -len(h)]  # (0, B) in the first layer
        self.bias_n = self.bias_hh[-len(h) :]
        self.bias[-len(h) :] = self.bias_ih[-len(h) :]
        self.given = np.empty_like(self.pre)

    def __call__(self, given: Array) -> None:
        (h,), (r, z, n), squashed = self.state, self.gates, self.squashed
        if len(self.input):
            np.dot(self.weight_ih, self.input, out=self.given)
            given = np.add(self.given, given, out=self.given)
        np.dot(self.weight, h, out=self.pre)
        squashed += given[: len(squashed)]
        np.tanh(squashed, out=squashed)
        finish_sigmoid(squashed)
        n += self.bias_n
        n *= r
        n += given[len(squashed) :]
        np.tanh(n, out=n)
        h -= n  # (1 - z) * n + z * h = n + z * (h - n)
        h *= z
        h += n


def finish_sigmoid(t: Array) -> None:
    """tanh of a halved row -> sigmoid, in place."""
    t *= 0.5
    t += 0.5


LAYERS: dict[str, type[Layer]] = {"lstm": Lstm, "gru": Gru, "rnn_tanh": RnnTanh, "rnn_relu": RnnRelu}
