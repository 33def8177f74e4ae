"""How gradients become steps: learning rate, clipping, AdamW; and the average of the weights."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from charlstm.settings import TrainConfig


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The learning rate of a step, counted from 0, of `steps` in all.

    It rises linearly to `train.lr` over the first `train.warmup` steps and then stays there, or falls to 0
    at the end as `train.decay` says.
    """
    warmup = min(config.warmup, steps // 2)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(steps - warmup, 1)
    shape = {"none": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return config.lr * shape[config.decay]


class AdamW:
    """AdamW (Loshchilov and Hutter 2019; Adam: Kingma and Ba 2015) on clipped gradients.

    The gradient's global norm is clipped to `train.clip` (0: not at all). Weights are decayed, biases not.

    The arithmetic is torch's own functional, fused AdamW. Its class `torch.optim.AdamW` is left out because
    making one imports `torch._dynamo`, which takes longer than all of the main job's training; and with the
    moments in plain lists a checkpoint can name them.
    """

    def __init__(self, parameters: Iterable[Tensor], config: TrainConfig) -> None:
        self.parameters = list(parameters)
        self.config = config
        self.first_moments = [torch.zeros_like(p) for p in self.parameters]
        self.second_moments = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]
        indices = range(len(self.parameters))
        matrices = [k for k in indices if self.parameters[k].dim() > 1] if config.weight_decay else []
        others = [k for k in indices if k not in matrices]
        # each is a call of the fused kernel, so there are no more of them than needed
        self.groups = [(group, d) for group, d in ((matrices, config.weight_decay), (others, 0.0)) if group]

    def step(self, loss: Tensor, lr: float) -> Tensor:
        """Lower `loss` by one step; returns the gradient's norm before clipping, on the device."""
        gradients = list(torch.autograd.grad(loss, self.parameters))
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip:
            # not in place: autograd may give two parameters one gradient, or a number seen as a matrix
            gradients = list(torch._foreach_mul(gradients, (self.config.clip / (norm + 1e-6)).clamp(max=1.0)))
        for group, weight_decay in self.groups:
            self._step([gradients[k] for k in group], group, lr, weight_decay)
        return norm

    @torch.no_grad()
    def _step(self, gradients: list[Tensor], group: list[int], lr: float, weight_decay: float) -> None:
        parameters, first, second, steps = (
            [tensors[k] for k in group]
            for tensors in (self.parameters, self.first_moments, self.second_moments, self.steps)
        )
        adamw(
            parameters,
            gradients,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            lr=lr,
            weight_decay=weight_decay,
            eps=1e-8,
            maximize=False,
        )


class Average:
    """An exponential moving average of parameters (Polyak and Juditsky 1992 average them evenly).

    Args:
        parameters: followed from their present values on.
        steps: over about how many of the latest steps to average.
    """

    def __init__(self, parameters: Iterable[Tensor], steps: float) -> None:
        self.parameters = list(parameters)
        self.averages = [p.detach().clone() for p in self.parameters]
        self.weight = 1 / max(steps, 1.0)

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values in."""
        torch._foreach_lerp_(self.averages, self.parameters, self.weight)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and parameters; twice is not at all."""
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
