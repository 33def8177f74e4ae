"""One-hot or embedded characters -> stacked recurrent layers -> scores, in torch.

`numpy_model.py` is the same network for sampling; both know the weights by the same names.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from charlstm.cells import torch_cells
from charlstm.numpy_model import NumpyModel
from charlstm.settings import ModelConfig

State = tuple[Tensor, ...]
"""`(h,)`, or `(h, c)` for the LSTM, each `(L, B, H)`: a value that is passed in and returned."""

FUSED: dict[str, Any] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": partial(nn.RNN, nonlinearity="tanh"),
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
}


class Model(nn.Module):
    """A character-level language model.

        x_t = one_hot(id_t)   or   x_t = E id_t              model.embedding
        h_t, state = cell(x_t, state)   in each of L layers  model.cell, model.engine
        scores_t = W h_t + b   or   scores_t = h_t           model.head

    Args:
        config: the `model` settings.
        vocabulary_size: V.

    Raises:
        ValueError: `model.head=none` and H differs from V.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        config.fit_vocabulary(vocabulary_size)
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, config.embedding) if config.embedding else None
        cell = FUSED[config.cell] if config.engine == "fused" else partial(torch_cells.Recurrent, config.cell)
        self.rnn = cell(config.embedding or vocabulary_size, config.hidden, config.layers)
        self.head = nn.Linear(config.hidden, vocabulary_size) if config.head == "linear" else nn.Identity()

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Scores `(T, B, V)` of the character after each of `ids (T, B)`, and the state after the last.

        `state` None is the zero state.
        """
        if self.embedding is None:
            x = functional.one_hot(ids, self.vocabulary_size).type_as(next(self.parameters()))  # (T, B, V)
        else:
            x = self.embedding(ids)
        is_lstm = self.config.cell == "lstm"
        output, after = self.rnn(x, state if state is None or is_lstm else state[0])
        return self.head(output), tuple(after) if is_lstm else (after,)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The parameters by name as NumPy arrays; on a CPU they share memory with the model."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.named_parameters()}

    def in_numpy(self) -> NumpyModel:
        """The same network on the NumPy cells, as it is now; on a CPU it costs no copy."""
        return NumpyModel(self.config, self.weights())

    def parameter_count(self) -> int:
        """The number of trainable parameters."""
        return sum(tensor.numel() for tensor in self.parameters())


def detach(state: State) -> State:
    """The same state, cut off from the graph that led to it: gradients stop at a window's border."""
    return tuple(tensor.detach() for tensor in state)
