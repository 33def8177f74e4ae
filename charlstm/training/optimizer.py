"""How gradients become steps: clipping, AdamW; and the average of the weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from charlstm.config.settings import TrainConfig
from charlstm.training.processes import Processes


class Step(NamedTuple):
    """What came of an optimiser's step, on the device."""

    norm: Tensor  # of the gradient before clipping
    made: Tensor  # whether the weights were changed; they are not where the loss or a gradient is not finite
    wrong: Tensor  # that it was not made, and float16's small range is no excuse
    figures: tuple[Tensor, ...]  # the loss, and what was given with it; their means over all processes


class LossScale:
    """The factor that lifts gradients into the range of float16 (Micikevicius et al. 2018, "Mixed precision
    training"): halved when they overflow, never below 1, and doubled after every 2,000 steps in which they
    did not. It stays on the device, so that no step waits for it, which `torch.amp.GradScaler` does."""

    PATIENCE = 2000

    def __init__(self, device: torch.device) -> None:
        self.tensor = torch.tensor([2.0**16, 0.0], device=device)
        self.factor, self.fitting = self.tensor.unbind()

    def update(self, made: Tensor) -> Tensor:
        """Learn whether the gradients fitted; returns whether a smaller scale could not have helped."""
        smallest = self.factor <= 1
        self.fitting.add_(1).mul_(made)
        grown = self.fitting >= self.PATIENCE
        self.fitting.mul_(~grown)
        self.factor.copy_(torch.where(made, self.factor * (1 + grown), (self.factor / 2).clamp(min=1)))
        return smallest


class Optimizer(ABC):
    """Gradients, whose global norm is clipped to `train.clip` (0: not at all) -> steps. Weights are decayed,
    biases not. A step whose loss, gradients or learning rate are not finite changes nothing. `tensors` are
    all that the next step depends on besides the parameters, by name; they are changed in place.

    With `train.weight_bits` the parameters are `rounded`. A step then moves what they were before, `exact`,
    by the gradient of what they are ("straight through": Courbariaux et al. 2015, "BinaryConnect")."""

    processes: Processes | None = None  # that train together; each has a share of the batch
    products: torch.dtype | None = None  # of matrix products that may be rounded; None: that of the weights

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        config: TrainConfig,
        scale: LossScale | None = None,  # of the loss, where gradients are computed in float16
    ) -> None:
        self.names, self.parameters = map(list, zip(*named_parameters, strict=True))
        self.config = config
        assert not isinstance(config.weight_decay, str)  # a plan has decided it
        self.weight_decay = config.weight_decay
        self.scale = scale
        self.tensors = self._first_tensors() | ({} if scale is None else {"scale": scale.tensor})
        self.exact = [p.detach().clone() for p in self.parameters] if config.weight_bits else []
        self.tensors |= {f"exact/{name}": p for name, p in zip(self.names, self.exact, strict=False)}
        self._round()

    def added(self, held: Sequence[Tensor], loss: Tensor, *figures: Tensor) -> list[Tensor]:
        """To what is held of other parts of a batch: the gradients of this one's loss, and the figures."""
        scaled = loss if self.scale is None else loss * self.scale.factor
        mine = [*torch.autograd.grad(scaled, self.parameters), loss.detach(), *figures]
        return list(torch._foreach_add([*held], mine)) if held else mine

    def step(
        self, loss: Tensor, lr: float | Tensor, *figures: Tensor, held: Sequence[Tensor] = (), parts: int = 1
    ) -> Step:
        """Lower `loss` by one step; `figures` are averaged with it. `held` is of a batch's other `parts`."""
        total, count = self.added(held, loss, *figures), len(self.parameters)
        if parts > 1:
            total = list(torch._foreach_div(total, parts))
        if self.processes is not None:
            total = self.processes.mean(total)
        gradients, loss, figures = total[:count], total[count], tuple(total[count + 1 :])
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.scale is not None:
            gradients = list(torch._foreach_div(gradients, self.scale.factor))
            norm = norm / self.scale.factor
        stay = (loss + norm) * (0.0 * lr) != 0  # 0 times a number that is not finite is none
        made = ~stay
        wrong = stay if self.scale is None else stay & self.scale.update(made)
        if self.config.clip:
            # not in place: autograd may give two parameters one gradient, or a number seen as a matrix
            gradients = list(torch._foreach_mul(gradients, (self.config.clip / (norm + 1e-6)).clamp(max=1.0)))
        if self.exact:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.exact)
        self._move(gradients, lr, stay)
        self._round()
        return Step(norm, made, wrong, (loss, *figures))

    @torch.no_grad()
    def _round(self) -> None:
        for parameter, exact in zip(self.parameters, self.exact, strict=False):  # or none are kept
            exact.copy_(parameter)
            parameter.copy_(rounded(parameter, self.config.weight_bits or 0))

    @abstractmethod
    def _first_tensors(self) -> dict[str, Tensor]:
        """The tensors before the first step."""

    @abstractmethod
    def _move(self, gradients: list[Tensor], lr: float | Tensor, stay: Tensor) -> None:
        """Change the parameters, unless they are to stay."""


class AdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019; Adam: Kingma and Ba 2015).

    The arithmetic is torch's own functional, fused AdamW. Its class `torch.optim.AdamW` is left out because
    making one imports `torch._dynamo`, which takes longer than all of the main job's training; and with the
    moments in plain lists a checkpoint can name them."""

    def _first_tensors(self) -> dict[str, Tensor]:
        self.first_moments = [torch.zeros_like(p) for p in self.parameters]
        self.second_moments = [torch.zeros_like(p) for p in self.parameters]
        counts = torch.zeros(len(self.parameters), device=self.parameters[0].device)
        self.steps = list(counts.unbind())
        # by their decay; each is a call of the fused kernel, so there are no more of them than needed
        self.groups = dict[float, list[int]]()
        for k, parameter in enumerate(self.parameters):
            self.groups.setdefault(self.weight_decay if parameter.dim() > 1 else 0.0, []).append(k)
        tensors = {"adam/steps": counts}
        for name, first, second in zip(self.names, self.first_moments, self.second_moments, strict=True):
            tensors |= {f"adam/first/{name}": first, f"adam/second/{name}": second}
        return tensors

    @torch.no_grad()
    def _move(self, gradients: list[Tensor], lr: float | Tensor, stay: Tensor) -> None:
        how: dict[str, Any] = {"lr": lr, "beta1": self.config.beta1, "beta2": self.config.beta2, "eps": 1e-8}
        how |= {"fused": True, "found_inf": stay.float(), "amsgrad": False, "maximize": False}
        every = (self.parameters, gradients, self.first_moments, self.second_moments, self.steps)
        for weight_decay, group in self.groups.items():
            parameters, grads, first, second, steps = ([tensors[k] for k in group] for tensors in every)
            adamw(parameters, grads, first, second, [], steps, weight_decay=weight_decay, **how)


def rounded(weight: Tensor, bits: int) -> Tensor:
    """A matrix `(m, n)` or vector that could be stored in so many bits a number, at least 2, the sign
    included, and a float for each row of the matrix or the vector: whole multiples of that, the largest of
    them 2^(bits - 1) - 1 times as large."""
    scale: Tensor = weight.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (weight / scale.masked_fill(scale == 0, 1)).round() * scale


class Average:
    """An exponential moving average of parameters, from their present values on, over about the latest
    `steps` steps (Polyak and Juditsky 1992 average evenly)."""

    def __init__(self, parameters: Iterable[Tensor], steps: float) -> None:
        self.parameters = list(parameters)
        self.averages = [p.detach().clone() for p in self.parameters]
        self.span(steps)

    def span(self, steps: float) -> None:
        """From now on it is over about so many steps."""
        self.weight = 1 / max(steps, 1.0)

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values in."""
        torch._foreach_lerp_(self.averages, self.parameters, self.weight)
