"""The learning rate of each step: warm-up and decay by a plan, or by what was learnt."""

import math
from dataclasses import dataclass
from typing import Annotated

from charlstm.config.settings import TrainConfig
from charlstm.config.values import Count, Nonnegative, Range


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The learning rate of a step, counted from 0, of `steps` in all: it rises linearly to `train.lr` over
    the first `train.warmup` steps and then stays there, or falls to 0 at the end as `train.decay` says."""
    warmup = min(config.warmup, steps // 2)
    if step < warmup:
        return config.peak_lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(steps - warmup, 1)
    shape = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return config.peak_lr * shape.get(config.decay, 1.0)


@dataclass
class Settling:
    """The factor of the learning rate with `train.decay=loss`: it falls as a text is learnt.

    It is the square root of the lowest loss so far, in nats, where that is below 1; and 0.8 times that for
    each 50 epochs in a row whose mean loss is not 1 % below the lowest such mean before (as PyTorch's
    ReduceLROnPlateau does), down to a twenty-fifth: 23,000 characters, 3.7 bits for each parameter, spent the
    last 5,000 of 8,412 epochs there, and with a fiftieth they were never known. Nothing has to be known
    beforehand about how long learning will take."""

    PATIENCE, SHRINK, PROGRESS, LEAST = 50, 0.8, 0.99, 0.04

    lowest: Nonnegative = 1.0
    lowest_mean: Nonnegative | None = None
    total: Nonnegative = 0.0
    epochs: Count = 0
    shrunk: Annotated[float, Range(0, 1)] = 1.0

    def update(self, loss: float) -> None:
        """Take in an epoch's loss."""
        self.lowest = min(self.lowest, loss)
        self.total, self.epochs = self.total + loss, self.epochs + 1
        if self.epochs == self.PATIENCE:
            mean = self.total / self.epochs
            lowest = self.lowest_mean if self.lowest_mean is not None else math.inf
            if mean > self.PROGRESS * lowest:
                self.shrunk = max(self.SHRINK * self.shrunk, self.LEAST)
            self.lowest_mean = min(lowest, mean)
            self.total, self.epochs = 0.0, 0

    @property
    def factor(self) -> float:
        """Of the learning rate."""
        return math.sqrt(self.lowest) * self.shrunk
