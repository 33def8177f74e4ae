"""Muon: steps along the nearest orthogonal matrix to a gradient's mean."""

from dataclasses import replace

import torch
from torch import Tensor

from charlstm.cells.gates import is_recurrent, layer_of
from charlstm.training.optimizer import AdamW, Optimizer

POLYNOMIALS = (
    (8.21654, -23.712, 17.2123),
    (3.87646, -2.83522, 0.53208),
    (3.1746, -2.38043, 0.49783),
)
"""What brings all of [0.005, 1] nearest to 1: odd polynomials a x + b x^3 + c x^5, each with the least
largest error on what the one before leaves (Amsel et al. 2025, "The Polar Express"); all but the last of
x / 1.01, for rounding. They learn no worse than five steps with the coefficients of Muon's authors."""


class Muon(Optimizer):
    """Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") with the step's
    size and the weight decay of Moonlight (Liu et al. 2025, "Muon is scalable for LLM training").

    With G `(m, n)` the gradient of a matrix W and M its momentum:

        M = 0.95 M + G
        O = U V^T, where U S V^T = G + 0.95 M               about, by `orthogonal`
        W = W - lr (0.2 sqrt(max(m, n)) O + weight_decay W)

    All singular values of O are about 1: a step goes as far in the directions in which gradients are small as
    in the steep ones; and its numbers are of about the size of Adam's, so that one rate does for both.

    Each gate of a layer has a matrix of its own to the input, `(H, I)`, and to the hidden units, `(H, H)`.
    For all else, which is embedding, biases and output layer, there is AdamW."""

    MOMENTUM = 0.95

    def _first_tensors(self) -> dict[str, Tensor]:
        named = dict(zip(self.names, self.parameters, strict=True))
        hidden = {layer_of(name): p.shape[1] for name, p in named.items() if "weight_hh" in name}
        stacks: dict[tuple[int, int], list[int]] = {}
        for k, name in enumerate(self.names):
            if is_recurrent(name):
                shape = hidden[layer_of(name)], named[name].shape[1]
                stacks.setdefault(shape, []).append(k)
        # parameters (by index) whose gates' matrices are of one shape; momentum of all of them, `(N, m, n)`
        self.groups = list[tuple[list[int], Tensor]]()
        tensors = dict[str, Tensor]()
        for shape, indices in stacks.items():
            momentum = torch.cat([torch.zeros_like(self.parameters[k]).view(-1, *shape) for k in indices])
            self.groups.append((indices, momentum))
            for k, part in zip(indices, self._split(momentum, indices), strict=True):
                tensors[f"muon/momentum/{self.names[k]}"] = part
        self.others = [k for k, name in enumerate(self.names) if not is_recurrent(name)]
        own = replace(self.config, weight_bits=None)
        self.adamw = AdamW([(self.names[k], self.parameters[k]) for k in self.others], own)
        return tensors | {f"muon/{name}": tensor for name, tensor in self.adamw.tensors.items()}

    @torch.no_grad()
    def _move(self, gradients: list[Tensor], lr: float | Tensor, stay: Tensor) -> None:
        self.adamw._move([gradients[k] for k in self.others], lr, stay)
        for indices, momentum in self.groups:
            shape = momentum.shape[1:]
            gradient = torch.cat([gradients[k].view(-1, *shape) for k in indices]).masked_fill_(stay, 0)
            # tensors, so that no step waits for the device
            kept = torch.full_like(stay, self.MOMENTUM, dtype=gradient.dtype).masked_fill_(stay, 1)
            rate = torch.as_tensor(lr, dtype=gradient.dtype, device=stay.device).masked_fill(stay, 0)
            momentum.mul_(kept).add_(gradient)
            step = orthogonal(gradient.add_(momentum, alpha=self.MOMENTUM), self.products)
            step = step.to(gradient.dtype).mul_(rate * (0.2 * max(shape) ** 0.5))
            for k, part in zip(indices, self._split(step, indices), strict=True):
                self.parameters[k].mul_(1 - rate * self.weight_decay).sub_(part)

    def _split(self, stacked: Tensor, indices: list[int]) -> list[Tensor]:
        """Views of gates `(N, H, I)`, as each parameter `(G*H, I)` has them."""
        return list(torch.split(stacked.flatten(0, 1), [len(self.parameters[k]) for k in indices]))


def orthogonal(matrices: Tensor, products: torch.dtype | None = None) -> Tensor:
    """U V^T of matrices U S V^T `(N, m, n)`, about: singular values from 0.005 of the largest possible on
    become 0.5 to 1.5, smaller ones about a hundred times larger. Three steps of
    X = a X + b (X X^T) X + c (X X^T)^2 X, whose products may be computed in another dtype, the result's."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    X: Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-20)
    X = X.transpose(1, 2) if is_tall else X  # so that X X^T is the smaller one
    X = X.to(products or X.dtype).contiguous()
    # memory that is asked for once: each new page of it takes a CPU as long as some of the product
    Y, A = torch.empty_like(X), X.new_empty(*X.shape[:2], X.shape[1])
    B = torch.empty_like(A)
    for k, (a, b, c) in enumerate(POLYNOMIALS):
        torch.bmm(X, X.mT, out=A)
        if k == 0:  # no singular value is above the root of A's norm, which is nearer than the norm of X
            most = torch.linalg.matrix_norm(A, keepdim=True).clamp(min=1e-6)
            A, X = A.div_(most), X.div_(most.sqrt())
        torch.baddbmm(A, A, A, beta=b, alpha=c, out=B)
        torch.baddbmm(X, B, X, beta=a, out=Y)
        X, Y = Y, X
    return X.transpose(1, 2) if is_tall else X
