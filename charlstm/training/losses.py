"""What training lowers, and what is reported beside it: pure functions of scores and targets."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats per character.

    Args:
        scores: `(T, B, V)`, unnormalised log-probabilities.
        targets: ids `(T, B)`.
    """
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def mse(scores: Tensor, targets: Tensor) -> Tensor:
    """The sum over the T steps of the mean squared error, over B and V, against the one-hot target.

    Args:
        scores: `(T, B, V)`, taken as they are for the predicted one-hot vector.
        targets: ids `(T, B)`.
    """
    one_hot = functional.one_hot(targets, scores.shape[-1]).to(scores.dtype)
    return functional.mse_loss(scores, one_hot) * scores.shape[0]


def correct(scores: Tensor, targets: Tensor) -> Tensor:
    """How many of the T x B targets have the highest score; stays on the device."""
    return (scores.argmax(dim=-1) == targets).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "mse": mse}
