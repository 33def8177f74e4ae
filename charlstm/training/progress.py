"""The figures of a training under way."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The figures of the steps since the last ones: of an epoch, or of `every` steps.

    Attributes:
        epoch: epochs done.
        step: optimiser steps done, those that were skipped included.
        chars_seen: characters trained on so far, every stream counted.
        seconds: of training so far, without what the driver does in between.
        loss: what was optimised, averaged over the windows by their length.
        bits_per_char: the same in bits; None where the scores are no log-probabilities (`train.loss=mse`).
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

    epoch: int
    step: int
    chars_seen: int
    seconds: float
    loss: float
    bits_per_char: float | None
    accuracy: float
    chars_per_second: float
    learning_rate: float
    gradient_norm: float
    skipped: int = 0
    free_run: int | None = None
    recalled: bool = False

    def curves(self) -> dict[str, float | None]:
        """What TensorBoard draws against the step; the prefix keeps the charts in one group of its page."""
        return {
            "train/loss": self.loss,
            "train/bits_per_char": self.bits_per_char,
            "train/accuracy": self.accuracy,
            "train/learning_rate": self.learning_rate,
            "train/gradient_norm": self.gradient_norm,
            "train/chars_per_second": self.chars_per_second,
            "train/free_run": self.free_run,
        }

    def shown(self) -> str:
        """What stands beside the progress bar."""
        bits = "" if self.bits_per_char is None else f"{self.bits_per_char:.3f} bits/char, "
        return f"loss {self.loss:.4f}, {bits}{self.accuracy:.0%} right, {self.chars_per_second:,.0f} chars/s"

    def figures(self) -> dict[str, float | None]:
        """What `result.json` keeps of the last epoch."""
        return {
            "epochs": self.epoch,
            "steps": self.step,
            "chars_seen": self.chars_seen,
            "train_seconds": self.seconds,
            "chars_per_second": self.chars_seen / self.seconds,
            "loss": self.loss,
            "bits_per_char": self.bits_per_char,
            "accuracy": self.accuracy,
        }


@dataclass
class Since:
    """What was done since figures were last taken: steps, characters, seconds."""

    steps: int = 0
    chars: int = 0
    seconds: float = 0.0
