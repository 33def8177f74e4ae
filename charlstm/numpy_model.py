"""`model.py` in NumPy, without torch; `stepper.py` is the same one character at a time, for `sample.py`."""

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

    Raises:
        ValueError: names or shapes are not those of that network.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        recurrent = {name.removeprefix("rnn."): w for name, w in weights.items() if name.startswith("rnn.")}
        self.recurrent = Recurrent(config.cell, recurrent)
        inputs, size = self.recurrent.input_size, config.hidden
        # without an embedding the input is the one-hot vector: a row of the identity matrix
        self.inputs = weights.get("embedding.weight", np.eye(inputs, dtype=self.recurrent.dtype))
        self.vocabulary_size = len(self.inputs)
        expected: dict[str, tuple[int, ...]] = (
            {"embedding.weight": (self.vocabulary_size, config.embedding)} if config.embedding else {}
        )
        self.head = None
        if config.head == "linear":
            expected |= {"head.weight": (self.vocabulary_size, size), "head.bias": (self.vocabulary_size,)}
            self.head = (weights["head.weight"].T, weights["head.bias"])
        shapes = {name: w.shape for name, w in weights.items() if not name.startswith("rnn.")}
        found = (self.recurrent.num_layers, self.recurrent.hidden_size)
        if shapes != expected or found != (config.layers, config.hidden) or self.recurrent.bidirectional:
            raise ValueError(f"the weights {shapes} on layers x hidden = {found} are not those of {config}")

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
