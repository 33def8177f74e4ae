"""How gradients become steps: clipping by the global norm, then Adam."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

from charlstm.settings import TrainConfig


class Adam:
    """Adam (Kingma and Ba 2015) with the gradient clipped to a global norm of `train.clip` (0: not at all).

    The arithmetic is torch's own functional, fused Adam. Its class `torch.optim.Adam` is left out because
    making one imports `torch._dynamo`, which takes longer than all of the main job's training; and with the
    moments in plain lists a checkpoint can name them.
    """

    def __init__(self, parameters: Iterable[Tensor], config: TrainConfig) -> None:
        self.parameters = list(parameters)
        self.config = config
        self.first_moments = [torch.zeros_like(p) for p in self.parameters]
        self.second_moments = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    def step(self, loss: Tensor) -> Tensor:
        """Lower `loss` by one step; returns the gradient's norm before clipping, on the device."""
        gradients = torch.autograd.grad(loss, self.parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip:
            scale = (self.config.clip / (norm + 1e-6)).clamp(max=1.0)
            gradients = tuple(g * scale for g in gradients)
        with torch.no_grad():
            adam(
                self.parameters,
                list(gradients),
                self.first_moments,
                self.second_moments,
                [],
                self.steps,
                fused=True,
                amsgrad=False,
                beta1=self.config.beta1,
                beta2=self.config.beta2,
                lr=self.config.lr,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
        return norm
