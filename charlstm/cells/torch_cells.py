"""The recurrences in plain torch operations, differentiable and with the parameters of torch.nn: the same
equations, letters and shapes as in `numpy_cells.py`, where their sources stand."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from charlstm.cells import gates
from charlstm.cells.layers import affine, stack

State = tuple[Tensor, ...]
Bias = Tensor | None
Cell = Callable[..., State]


def rnn_cell(
    activation: Callable[[Tensor], Tensor],
    x: Tensor,
    state: State,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Bias = None,
    bias_hh: Bias = None,
) -> State:
    """h' = activation(W_ih x + b_ih + W_hh h + b_hh)"""
    (h,) = state
    return (activation(affine(x, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh)),)


def gru_cell(
    x: Tensor, state: State, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Bias = None, bias_hh: Bias = None
) -> State:
    """r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)         reset gate
    z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)         update gate
    n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))      new value
    h' = (1 - z) * n + z * h"""
    (h,) = state
    r_in, z_in, n_in = affine(x, weight_ih, bias_ih).chunk(3, dim=-1)
    r_rec, z_rec, n_rec = affine(h, weight_hh, bias_hh).chunk(3, dim=-1)
    r = torch.sigmoid(r_in + r_rec)
    z = torch.sigmoid(z_in + z_rec)
    n = torch.tanh(n_in + r * n_rec)
    return ((1 - z) * n + z * h,)


def lstm_cell(
    x: Tensor, state: State, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Bias = None, bias_hh: Bias = None
) -> State:
    """i  = sigmoid(W_ii x + b_ii + W_hi h + b_hi)      input gate: how much of g is written
    f  = sigmoid(W_if x + b_if + W_hf h + b_hf)      forget gate: how much of c is kept
    g  = tanh(W_ig x + b_ig + W_hg h + b_hg)         cell gate: what there is to write
    o  = sigmoid(W_io x + b_io + W_ho h + b_ho)      output gate: how much of c is shown
    c' = f * c + i * g
    h' = o * tanh(c')"""
    h, c = state
    i, f, g, o = (affine(x, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh)).chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return h, c


CELLS: dict[str, Cell] = {
    "lstm": lstm_cell,
    "gru": gru_cell,
    "rnn_tanh": partial(rnn_cell, torch.tanh),
    "rnn_relu": partial(rnn_cell, torch.relu),
}


class Recurrent(nn.Module):
    """torch.nn's RNN, GRU or LSTM written out: the same call, parameters and, for a seed, initial weights. A
    `state_dict` goes both ways as it is. Time comes first, `(T, B, I)`; there is no `batch_first`."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.cell, self.input_size, self.hidden_size = cell, input_size, hidden_size
        self.num_layers, self.bias, self.bidirectional = num_layers, bias, bidirectional
        shapes = gates.parameter_shapes(cell, input_size, hidden_size, num_layers, bias, bidirectional)
        bound = hidden_size**-0.5
        for name, shape in shapes.items():  # uniform in +-1/sqrt(H), in this order, as in torch.nn
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))

    def forward(
        self, x: Tensor, state: Tensor | tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """x `(T, B, I)`, state `(L*D, B, H)` -> output `(T, B, D*H)`, final state; or all without B.

        The state is h, or for the LSTM (h, c); None means zeros. Every number returned is finite, or
        FloatingPointError is raised (to know, a GPU is waited for once in each call)."""
        gates.check_input(x.shape, self.input_size)
        names = gates.parameter_names(self.num_layers, self.bias, self.bidirectional)
        shape = (len(names), *x.shape[1:-1], self.hidden_size)
        if state is None:
            state = tuple(x.new_zeros(shape) for _ in gates.STATE[self.cell])
        parts = (state,) if isinstance(state, Tensor) else tuple(state)
        gates.check_state([part.shape for part in parts], self.cell, shape)

        weights = [[getattr(self, name) for name in group] for group in names]
        join = partial(torch.cat, dim=-1) if self.bidirectional else None
        outputs, finals = stack(CELLS[self.cell], x.unbind(), list(zip(*parts, strict=True)), weights, join)
        if outputs:
            output = torch.stack(list(outputs))
        else:  # T = 0
            output = x.new_zeros((0, *shape[1:-1], self.hidden_size * (2 if self.bidirectional else 1)))
        final = tuple(torch.stack(part) for part in zip(*finals, strict=True))
        if not all(tensor.isfinite().all() for tensor in (output, *final)):
            raise gates.not_finite(self.cell, output.dtype)
        return output, final if self.cell == "lstm" else final[0]

    def extra_repr(self) -> str:
        names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional")
        return ", ".join([repr(self.cell), *(f"{name}={getattr(self, name)}" for name in names)])
