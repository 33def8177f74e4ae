"""The figures of a training under way."""

import math
from dataclasses import dataclass
from typing import Any

from charlstm.config.settings import Unit
from charlstm.config.values import Count, Nonnegative

Figures = dict[str, Any]
"""Results of a run by name, as `result.json` and checkpoints keep them: each task has its own."""


def finite(value: Any) -> Any:
    """A figure, or figures by name, with None in place of each number that is not finite: JSON has none."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Progress:
    """The figures of the steps since the last ones: of an epoch, or of `every` steps.

    Attributes:
        epoch: epochs done.
        step: optimiser steps done, those that were skipped included.
        chars_seen: characters trained on so far, every stream counted.
        seconds: of training so far, without what the driver does in between.
        loss: what was optimised, averaged over the windows by their length.
        bits_per_char: the same in bits, of a model of bytes per byte; None where the scores are no
            log-probabilities (`train.loss=mse`).
        accuracy: share of characters right while fed the true text.
        chars_per_second: of these steps.
        learning_rate: of the last step.
        gradient_norm: before clipping, averaged over the steps.
        skipped: how many of the steps changed nothing, for their loss or gradient was not finite (overflows
            that float16's scale is there for are not counted); the averages are over those that did.
        free_run: how many characters a free run after these steps wrote before its first error; None: there
            was none.
        recalled: it was exact to the end token.
    """

    epoch: Count
    step: Count
    chars_seen: Count
    seconds: Nonnegative
    loss: float
    bits_per_char: float | None
    accuracy: float
    chars_per_second: float
    learning_rate: float
    gradient_norm: float
    skipped: Count = 0
    free_run: Count | None = None
    recalled: bool = False

    def curves(self, unit: Unit = "char") -> dict[str, float | None]:
        """What TensorBoard draws against the step; the prefix keeps the charts in one group of its page. The
        loss is there once: in nats, or whatever it is, only if it has no bits."""
        names = ("accuracy", "learning_rate", "gradient_norm", "chars_per_second", "free_run")
        curves = {f"train/{name}": getattr(self, name) for name in names}
        bits = self.bits_per_char
        return curves | ({"train/loss": self.loss} if bits is None else {f"bits_per_{unit}/train": bits})

    def shown(self, more: str, unit: Unit = "char") -> str:
        """What stands beside the progress bar: with it and the time left, at most 80 columns."""
        bits, speed = self.bits_per_char, self.chars_per_second
        cost = f"loss {self.loss:.4f}" if bits is None else f"{bits:.3f} bits/{unit}"
        fast = f"{speed / 1000:,.0f}k" if speed > 9999 else f"{speed:,.0f}"
        return ", ".join(filter(None, [cost, more, f"{fast} {unit}s/s"]))

    def figures(self, unit: Unit = "char") -> Figures:
        """What `result.json` keeps of the last epoch."""
        return {
            "epochs": self.epoch,
            "steps": self.step,
            "chars_seen": self.chars_seen,
            "train_seconds": self.seconds,
            "chars_per_second": self.chars_seen / self.seconds,
            "loss": self.loss,
            f"bits_per_{unit}": self.bits_per_char,
            "accuracy": self.accuracy,
        }


@dataclass
class Since:
    """What was done since figures were last taken: steps, characters, seconds."""

    steps: Count = 0
    chars: Count = 0
    seconds: Nonnegative = 0.0
