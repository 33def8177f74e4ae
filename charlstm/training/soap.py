"""SOAP: Adam in the space of the eigenvectors of Shampoo's preconditioner."""

import torch
from torch import Tensor

from charlstm.cells.gates import layer_of
from charlstm.training.optimizer import Optimizer


class Soap(Optimizer):
    """SOAP (Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", algorithm 3): Adam in a
    rotated space, that of the eigenvectors of the gradient's covariances.

    With G `(m, n)` the gradient of a matrix W, M its mean and Q, P orthogonal:

        L = mean of G G^T,  R = mean of G^T G        over the latest 20 steps or so
        Q, P = eigenvectors of L and R               followed by a step of power iteration and QR
        W = W - lr Q (Q^T M P / sqrt(mean of (Q^T G P)^2)) P^T

    Q and P are always of earlier gradients than the one that they rotate, for in the space of its own
    eigenvectors a gradient is diagonal; so the first step moves no weight.

    One layer's weights and biases share their outputs, so they make one matrix `[W_ih | W_hh | b_ih | b_hh]`.
    A side longer than `LONGEST` is not rotated. Products and decompositions at each step cost little beside a
    text that is long for its model, which takes several times fewer steps to be learnt by heart than by Adam.
    """

    LONGEST = 1024
    COVARIANCE_BETA = 0.95
    PERIOD = 2  # steps from turn to turn of the eigenvectors; with 5, learning by heart takes twice as many

    def _first_tensors(self) -> dict[str, Tensor]:
        tensors = {"soap/steps": torch.zeros((), device=self.parameters[0].device)}
        self.groups: dict[str, list[int]] = {}
        for k, name in enumerate(self.names):
            self.groups.setdefault(layer_of(name), []).append(k)
        for name, group in self.groups.items():
            joint = self._joint([self.parameters[k].detach() for k in group])
            parts = {"first": torch.zeros_like(joint), "second": torch.zeros_like(joint)}
            for side, size in enumerate(joint.shape):
                if size <= self.LONGEST:
                    parts |= {f"covariance{side}": joint.new_zeros(size, size)}
                    parts |= {f"basis{side}": torch.eye(size, dtype=joint.dtype, device=joint.device)}
            tensors |= {f"soap/{part}/{name}": tensor for part, tensor in parts.items()}
        return tensors

    @torch.no_grad()
    def _move(self, gradients: list[Tensor], lr: float | Tensor, stay: Tensor) -> None:
        if stay:  # waits for the device, as decompositions do anyway
            return
        self.tensors["soap/steps"] += 1
        step = int(self.tensors["soap/steps"])
        for name, group in self.groups.items():
            gradient = self._joint([gradients[k] for k in group])
            if step > 1:
                parameters = [self.parameters[k] for k in group]
                widths = [p.shape[1] if p.dim() > 1 else 1 for p in parameters]
                parts = torch.split(self._update(name, gradient, step), widths, dim=1)
                for parameter, part in zip(parameters, parts, strict=True):
                    if parameter.dim() > 1:
                        parameter.mul_(1 - lr * self.weight_decay)
                    parameter.sub_(part.reshape(parameter.shape), alpha=lr)
            self._look(name, gradient, step)

    def _update(self, name: str, gradient: Tensor, step: int) -> Tensor:
        """What a matrix is moved along, `(m, n)`; takes the gradient `(m, n)` in."""
        first, second = (self.tensors[f"soap/{part}/{name}"] for part in ("first", "second"))
        beta1, beta2, bases = self.config.beta1, self.config.beta2, self._bases(name)
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(_rotated(gradient, bases).square(), 1 - beta2)
        mean = _rotated(first, bases) / (1 - beta1 ** (step - 1))
        update = mean / ((second / (1 - beta2 ** (step - 1))).sqrt() + 1e-8)
        return _rotated(update, {side: basis.T for side, basis in bases.items()})

    def _look(self, name: str, gradient: Tensor, step: int) -> None:
        """Let covariances and eigenvectors follow the gradient `(m, n)`."""
        for side, basis in self._bases(name).items():
            covariance = self.tensors[f"soap/covariance{side}/{name}"]
            product = gradient @ gradient.T if side == 0 else gradient.T @ gradient
            covariance.lerp_(product, 1 - self.COVARIANCE_BETA if step > 1 else 1.0)
            if step == 1:
                basis.copy_(torch.linalg.eigh(covariance).eigenvectors)
            elif step % self.PERIOD == 0:
                # sorted so that QR keeps each in its place
                order = (basis * (covariance @ basis)).sum(0).argsort(descending=True)
                second = self.tensors[f"soap/second/{name}"]
                second.copy_(second.index_select(side, order))
                basis.copy_(torch.linalg.qr(covariance @ basis[:, order]).Q)

    def _bases(self, name: str) -> dict[int, Tensor]:
        """The eigenvectors of the sides that are rotated: 0 of L, 1 of R."""
        bases = {side: self.tensors.get(f"soap/basis{side}/{name}") for side in (0, 1)}
        return {side: basis for side, basis in bases.items() if basis is not None}

    @staticmethod
    def _joint(tensors: list[Tensor]) -> Tensor:
        """Matrices `(m, n)` and vectors `(m,)` side by side."""
        return torch.cat([t if t.dim() > 1 else t[:, None] for t in tensors], dim=1)


def _rotated(matrix: Tensor, bases: dict[int, Tensor]) -> Tensor:
    """`Q^T matrix P`, with Q the basis of side 0 and P that of side 1."""
    matrix = bases[0].T @ matrix if 0 in bases else matrix
    return matrix @ bases[1] if 1 in bases else matrix
