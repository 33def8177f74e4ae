"""What training lowers, and what is reported beside it: pure functions of scores `(T, B, V)` and the ids that
they are for, targets `(T, B)`."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats per character; scores are unnormalised log-probabilities."""
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def mse(scores: Tensor, targets: Tensor) -> Tensor:
    """The sum over the T steps of the mean squared error, over B and V, against the one-hot target; scores
    are taken as they are for the predicted one-hot vector."""
    one_hot = functional.one_hot(targets, scores.shape[-1]).to(scores.dtype)
    return functional.mse_loss(scores, one_hot) * scores.shape[0]


def correct(scores: Tensor, targets: Tensor) -> Tensor:
    """How many of the T x B targets have the highest score; stays on the device."""
    return (scores.argmax(dim=-1) == targets).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "mse": mse}
