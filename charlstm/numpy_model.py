"""`model.py` in NumPy: what `sample.py` runs, without torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.cells.numpy_cells import Recurrent
from charlstm.settings import ModelConfig

State = tuple[NDArray[np.floating[Any]], ...]
"""`(h,)`, or `(h, c)` for the LSTM, each `(L, B, H)`, or `(L, H)` for a single stream."""


class NumpyModel:
    """The network of `charlstm.model.Model` on the cells written out in NumPy.

    Args:
        config: the `model` settings.
        weights: arrays under the names of the torch model's parameters.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        recurrent = {name.removeprefix("rnn."): w for name, w in weights.items() if name.startswith("rnn.")}
        self.recurrent = Recurrent(config.cell, recurrent)
        inputs = recurrent["weight_ih_l0"].shape[1]
        # without an embedding the input is the one-hot vector: a row of the identity matrix
        self.inputs = weights["embedding.weight"] if config.embedding else np.eye(inputs, dtype=np.float32)
        self.head = (weights["head.weight"].T, weights["head.bias"]) if config.head == "linear" else None

    def __call__(
        self, ids: NDArray[np.integer[Any]], state: State | None = None
    ) -> tuple[NDArray[np.floating[Any]], State]:
        """Scores `(T, B, V)` of the character after each of `ids (T, B)`, and the state after the last.

        A single stream is `ids (T,)` with scores `(T, V)`. `state` None is the zero state.
        """
        output, after = self.recurrent(self.inputs[ids], state)
        if self.head is None:
            return output, after
        weight, bias = self.head
        return output @ weight + bias, after
