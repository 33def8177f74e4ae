"""What the tests of both engines share: the cells of torch.nn, the grid of cases."""

import itertools

import pytest
import torch
from torch import nn

CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")

# Every size differs from every other, and from the number of layers, directions and gates where it can,
# so that no swapped axis passes.
T, B, I, H = 7, 6, 5, 9

NETWORKS = pytest.mark.parametrize(
    ("cell", "layers", "bidirectional", "bias"),
    list(itertools.product(CELLS, (1, 2, 3), (False, True), (True, False))),
)
STATES = pytest.mark.parametrize("given", [True, False], ids=["state", "no-state"])


def fused(cell, *args, **kwargs):
    """torch.nn's module for a cell."""
    if cell == "lstm":
        return nn.LSTM(*args, **kwargs)
    if cell == "gru":
        return nn.GRU(*args, **kwargs)
    return nn.RNN(*args, nonlinearity=cell.removeprefix("rnn_"), **kwargs)


def random_state(cell, *shape, **kwargs):
    """A random state in torch.nn's form: h, or (h, c) for the LSTM."""
    h, c = torch.randn(2, *shape, **kwargs)
    return (h, c) if cell == "lstm" else h


def parts(state):
    """h or (h, c) -> a tuple, whatever the cell."""
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)
