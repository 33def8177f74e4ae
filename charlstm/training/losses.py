"""What training lowers, and what is said beside it: functions of scores `(T, B, V)` and targets `(T, B)`."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats per character; scores are unnormalised log-probabilities."""
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def focal(scores: Tensor, targets: Tensor) -> Tensor:
    """The mean of each character's cross-entropy, in nats, times the square of what its probability lacks of
    1 (Lin et al. 2017, "Focal loss for dense object detection"), which is no part of the gradient.

    A text is known when each character is the likeliest, not when it is certain. By the mean, thousands that
    are right and could be surer outweigh the few that are still wrong."""
    each = functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none")
    return (each * (1 - torch.exp(-each.detach())).square()).mean()


def hardest(scores: Tensor, targets: Tensor) -> Tensor:
    """The soft maximum of the cross-entropies l_t of all N characters, in nats, between their mean and the
    largest: k (log sum_t exp(l_t / k) - log N), where k is five times their mean.

    Of a text in which nothing happens for a long time, hardly any character says when something will. By the
    mean it is better to be sure of the many before it than of that one, which is never the likeliest as long
    as the scores change little from step to step. The largest loss is the least where the scores cross each
    other in between (minimax, as the margin of a support vector machine; Li et al. 2021, "Tilted empirical
    risk minimization")."""
    each = functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none")
    k = (5 * each.detach().mean()).clamp(min=1e-6)
    return k * (torch.logsumexp(each / k, 0) - math.log(len(each)))


def mse(scores: Tensor, targets: Tensor) -> Tensor:
    """The sum over the T steps of the mean squared error, over B and V, against the one-hot target; scores
    are taken as they are for the predicted one-hot vector."""
    one_hot = functional.one_hot(targets, scores.shape[-1]).to(scores.dtype)
    return functional.mse_loss(scores, one_hot) * scores.shape[0]


def correct(scores: Tensor, targets: Tensor) -> Tensor:
    """How many of the T x B targets have the highest score; stays on the device."""
    return (scores.argmax(dim=-1) == targets).sum()


LOSSES = {"cross_entropy": cross_entropy, "focal": focal, "hardest": hardest, "mse": mse}
