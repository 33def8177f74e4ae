"""`torch_model.py` in NumPy; `stepper.py` is the same one character at a time, for `sample.py`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import gates
from charlstm.cells.numpy_cells import Recurrent, Terms, trace
from charlstm.config.settings import ModelConfig

State = tuple[NDArray[np.floating[Any]], ...]  # `(h,)`, or of the LSTM `(h, c)`, each `(L, B, H)` or `(L, H)`


def parameter_shapes(config: ModelConfig, vocabulary_size: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of the network that `config` makes for V ids."""
    inputs = config.embedding or vocabulary_size
    recurrent = gates.parameter_shapes(config.cell, inputs, config.width, config.layers)
    shapes = {f"rnn.{name}": shape for name, shape in recurrent.items()}
    if config.embedding:
        shapes["embedding.weight"] = (vocabulary_size, config.embedding)
    if config.head == "linear":
        shapes |= {"head.weight": (vocabulary_size, config.width), "head.bias": (vocabulary_size,)}
    return shapes


def parameter_count(config: ModelConfig, vocabulary_size: int) -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(config, vocabulary_size).values())


class NumpyModel:
    """The network of `torch_model.Model` on the cells written out in NumPy; ValueError unless names and
    shapes of its parameters, `weights`, are those that `config` asks for."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        self.embedding = weights.get("embedding.weight")
        recurrent = {name.removeprefix("rnn."): w for name, w in weights.items() if name.startswith("rnn.")}
        self.recurrent = Recurrent(config.cell, recurrent)
        self.vocabulary_size = self.recurrent.input_size if self.embedding is None else len(self.embedding)
        shapes = {name: w.shape for name, w in weights.items()}
        if shapes != parameter_shapes(config, self.vocabulary_size):
            raise ValueError(f"the weights {shapes} are not those of {config}")
        self.head = (weights["head.weight"].T, weights["head.bias"]) if config.head == "linear" else None

    def __call__(
        self, ids: NDArray[np.integer[Any]], state: State | None = None
    ) -> tuple[NDArray[np.floating[Any]], State]:
        """Scores `(T, B, V)` of the character after each of `ids (T, B)`, and the state after the last; a
        single stream is `ids (T,)` with scores `(T, V)`. `state` None is the zero state."""
        output, after = self.recurrent(self._inputs(ids), state)
        if self.head is None:
            return output, after
        weight, bias = self.head
        return output @ weight + bias, after

    def trace(self, ids: NDArray[np.integer[Any]]) -> Terms:
        """Every gate's activation and pre-activation, c and h while the model reads `ids (T,)` from a zero
        state, `(T, L, H)` each, by the names of `numpy_cells.trace`."""
        return trace(self.recurrent, self._inputs(ids))

    def table(self, weight: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """The products `(V, N)` of a weight `(N, I)` with the input vectors of all ids, one-hot or not."""
        return weight.T if self.embedding is None else self.embedding @ weight.T

    def _inputs(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        if self.embedding is not None:
            return np.asarray(self.embedding[ids])
        one_hot = np.zeros((*ids.shape, self.vocabulary_size), self.recurrent.dtype)
        np.put_along_axis(one_hot, ids[..., None].astype(np.intp), 1, axis=-1)
        return one_hot
