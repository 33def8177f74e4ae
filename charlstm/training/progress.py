"""The figures of a training under way."""

import math
from dataclasses import dataclass
from typing import Any

from charlstm.config.settings import Unit
from charlstm.config.values import Count, Nonnegative

Figures = dict[str, Any]  # results of a run by name, as `result.json` and checkpoints keep them


def finite(value: Any) -> Any:
    """A figure, or figures by name, with None in place of each number that is not finite: JSON has none."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Progress:
    """The figures of the steps since the last ones, of an epoch or of `every` steps; averages are over those
    that were not skipped."""

    epoch: Count  # done
    step: Count  # done, those that were skipped included
    chars_seen: Count  # trained on so far, every stream counted
    seconds: Nonnegative  # of training so far, without what the driver does in between
    loss: float  # what was optimised, averaged over the windows by their length
    bits_per_char: float | None  # the same, or per byte; None where scores are no log-probabilities (mse)
    accuracy: float  # share of characters right while fed the true text
    chars_per_second: float  # of these steps
    learning_rate: float  # of the last step
    gradient_norm: float  # before clipping
    skipped: Count = 0  # steps whose loss or gradient was not finite, but for overflows of float16
    free_run: Count | None = None  # characters right before its first error; None: there was none
    recalled: bool = False  # it was exact to the end token

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
    """What was done since figures were last taken: steps, characters, seconds; and the sum over their T time
    steps of what was lowered, of which older files do not say."""

    steps: Count = 0
    chars: Count = 0
    seconds: Nonnegative = 0.0
    lowered: float = 0.0
