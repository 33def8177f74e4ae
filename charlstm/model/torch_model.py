"""One-hot or embedded characters -> stacked recurrent layers -> scores, in torch; dropout while training.

`numpy_model.py` is the same network for sampling; both know the weights by the same names.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from charlstm.cells import torch_cells
from charlstm.cells.gates import STATE, gate, parameter_names
from charlstm.cells.layers import stack
from charlstm.config.settings import DropoutConfig, ModelConfig
from charlstm.model.numpy_model import NumpyModel

State = tuple[Tensor, ...]  # `(h,)`, or `(h, c)` for the LSTM, each `(L, B, H)`

FUSED: dict[str, Any] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": partial(nn.RNN, nonlinearity="tanh"),
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
}


class Model(nn.Module):
    """A character-level language model of V = `vocabulary_size` ids, by default without dropout. Raises
    ValueError if `model.head=none` and H differs from V.

        x_t = one_hot(id_t)   or   x_t = E id_t              model.embedding
        h_t, state = cell(x_t, state)   in each of L layers  model.cell, model.engine
        scores_t = W h_t + b   or   scores_t = h_t           model.head

    In training mode, with p the probabilities of `dropout`, masks are drawn anew for each call:

        x and the output of each layer: the same units are dropped at all T steps ("locked" dropout; Gal and
            Ghahramani 2016, "A theoretically grounded application of dropout in recurrent neural networks")
        weight_hh of each layer: single weights (Merity et al. 2018, "Regularizing and optimizing LSTM
            language models"), the same at all T steps, so that the fused kernel runs with what is left
    """

    def __init__(
        self, config: ModelConfig, vocabulary_size: int, dropout: DropoutConfig | None = None
    ) -> None:
        super().__init__()
        config.fit_vocabulary(vocabulary_size)
        self.config = config
        self.dropout = (0.0, 0.0, 0.0) if dropout is None else dropout.probabilities
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, config.embedding) if config.embedding else None
        cell = FUSED[config.cell] if config.engine == "fused" else partial(torch_cells.Recurrent, config.cell)
        self.rnn = cell(config.embedding or vocabulary_size, config.width, config.layers)
        self.head = nn.Linear(config.width, vocabulary_size) if config.head == "linear" else nn.Identity()

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Scores `(T, B, V)` of what follows each of `ids (T, B)`, and the state after; None: zero."""
        if self.embedding is None or ids.is_cuda:
            x = functional.one_hot(ids, self.vocabulary_size).type_as(next(self.parameters()))  # (T, B, V)
            if self.embedding is not None:  # whose own gradients a GPU adds up in any order
                x = x @ self.embedding.weight
        else:
            x = self.embedding(ids)
        if self.training and any(self.dropout):
            output, after = self._with_dropout(x, state)
        else:
            output, after = self.rnn(x, self._as_argument(state))
            after = (after,) if isinstance(after, Tensor) else after
        return self.head(output), after

    def _with_dropout(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        names = parameter_names(self.config.layers, bias=True, bidirectional=False)
        if state is None:
            shape = (self.config.layers, x.shape[1], self.config.width)
            state = tuple(x.new_zeros(shape) for _ in STATE[self.config.cell])
        of_input, of_hidden, of_weight = self.dropout
        x, finals = locked_dropout(x, of_input), []
        for l, layer in enumerate(names):
            weight_ih, weight_hh, *biases = (getattr(self.rnn, name) for name in layer)
            weights = [weight_ih, drop_weights(weight_hh, of_weight), *biases]
            x, final = self._layer(x, [part[l : l + 1] for part in state], weights)
            x = locked_dropout(x, of_hidden)
            finals.append(final)
        return x, tuple(torch.cat(part) for part in zip(*finals, strict=True))

    def _layer(self, x: Tensor, state: Sequence[Tensor], weights: list[Tensor]) -> tuple[Tensor, State]:
        """One layer with these weights: x `(T, B, I)`, state `(1, B, H)` -> output `(T, B, H)`, state."""
        if self.config.engine == "plain":
            states = [tuple(part[0] for part in state)]
            outputs, ((*after,),) = stack(torch_cells.CELLS[self.config.cell], x.unbind(), states, [weights])
            return torch.stack(list(outputs)), tuple(part[None] for part in after)
        # torch.lstm, torch.gru, ...: the modules' kernels, with weights that may be other ones than their own
        kernel, argument = getattr(torch, self.config.cell), self._as_argument(tuple(state))
        output, *after = kernel(x, argument, weights, True, 1, 0.0, True, False, False)
        return output, tuple(after)

    def _as_argument(self, state: State | None) -> State | Tensor | None:
        """torch.nn takes the LSTM's state as a pair, any other's as a tensor."""
        return state if state is None or self.config.cell == "lstm" else state[0]

    def add_forget_bias(self, value: float | Literal["chrono"], longest: int = 1) -> None:
        """Raise the bias of the LSTM's forget gates: what is in the cells is kept from the start (Jozefowicz
        et al. 2015). Nothing happens to other cells.

        chrono: by log u, u uniform between 1 and `longest` steps, which is taken off the input gates' bias:
        each cell is a clock that runs down in about u steps (Tallec & Ollivier 2018, "Can recurrent neural
        networks warp time?")."""
        if self.config.cell == "lstm":
            with torch.no_grad():
                for _, _, bias, _ in parameter_names(self.config.layers, bias=True, bidirectional=False):
                    forget = gate(getattr(self.rnn, bias), "lstm", "forget")
                    if value == "chrono":
                        logs = torch.empty(len(forget)).uniform_(1, longest).log_().to(forget)
                        gate(getattr(self.rnn, bias), "lstm", "input").sub_(logs)
                    forget.add_(logs if value == "chrono" else value)

    def load_arrays(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Copy weights by name into the parameters."""
        self.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The parameters by name as NumPy arrays; on a CPU they share memory with the model."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.named_parameters()}

    def in_numpy(self) -> NumpyModel:
        """The same network on the NumPy cells, as it is now; on a CPU it costs no copy."""
        return NumpyModel(self.config, self.weights())


def connectivity(network: Model, ids: Tensor, following: Tensor) -> NDArray[np.float64]:
    """How much a prediction depends on each input before it, `(T,)`: the norm of the gradient of the log
    probability that `following (K,)` comes after `ids (T,)` with respect to each one's vector (Madsen 2019,
    "Visualizing memorization in RNNs")."""
    vectors: list[Tensor] = []

    def watched(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        vectors.append(given[0].detach().requires_grad_())
        return vectors[0], *given[1:]

    with network.rnn.register_forward_pre_hook(watched):
        scores, _ = network(torch.cat([ids, following[:-1]])[:, None])
    last = functional.log_softmax(scores[len(ids) - 1 :, 0], dim=1)
    (gradients,) = torch.autograd.grad(last.gather(1, following[:, None]).sum(), vectors)
    return np.asarray(gradients[: len(ids), 0].double().norm(dim=1).numpy())


def locked_dropout(x: Tensor, p: float) -> Tensor:
    """Zero each unit of each stream of x `(T, B, H)` with probability p at all steps; scale up the others."""
    if not p:
        return x
    return x * functional.dropout(x.new_ones(1, *x.shape[1:]), p)


def drop_weights(weight: Tensor, p: float) -> Tensor:
    """Zero each weight with probability p and scale up the others. Eight share one random number of 64 bits,
    a byte each, and one whose byte does not decide gets another: torch's own dropout draws one for each,
    which takes a CPU as long as a third of the LSTM's backward pass."""
    if not p or weight.is_cuda:  # a GPU would have to wait to hear how many are undecided
        return functional.dropout(weight, p) if p else weight
    draws = torch.empty(-(-weight.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    draw, (rest, whole) = draws.view(torch.uint8)[: weight.numel()], math.modf(p * 256)
    factor = (draw >= int(whole)).to(weight.dtype).mul_(1 / (1 - p))
    undecided = (draw == int(whole)).nonzero().squeeze(1)
    factor[undecided[torch.rand(len(undecided), dtype=torch.float64) < rest]] = 0
    return weight * factor.view_as(weight)
