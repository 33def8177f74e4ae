"""Fit: windows -> new weights, an epoch at a time; and the proof that a text is known by heart.

Knows no Hydra, no file format and no TensorBoard: it yields figures, and whoever drives it decides what
becomes of them and when to stop.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm import batches, objective, sampling
from charlstm.model import Model, State, detach
from charlstm.optimizer import AdamW, learning_rate
from charlstm.settings import TrainConfig
from charlstm.vocabulary import Ids, Vocabulary

# A free run stops at its first error, so trying one is cheap; but it is pointless while, fed with the true
# text, the model still gets this share of the characters wrong.
WORTH_A_FREE_RUN = 0.9


class DivergedError(ArithmeticError):
    """The loss is no longer a finite number; training cannot go on from there."""


@dataclass(frozen=True)
class Progress:
    """The figures of one epoch.

    Attributes:
        epoch: epochs done, this one included.
        step: optimiser steps done.
        chars_seen: characters trained on so far, every stream counted.
        seconds: since training began.
        loss: what was optimised, averaged over the epoch's windows by their length.
        bits_per_char: of the epoch; None where the scores are no log-probabilities (`train.loss=mse`).
        accuracy: share of characters right while fed the true text.
        chars_per_second: of the epoch's training alone, without what the driver does in between.
        learning_rate: of the epoch's last step.
        gradient_norm: before clipping, averaged over the epoch's steps.
        recalled: a free run after this epoch was exact to the end token.
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


class TorchWindow(NamedTuple):
    """A `batches.Window` on the model's device: `inputs` and `targets`, int64 `(T, B)`."""

    inputs: Tensor
    targets: Tensor


def memorize(model: Model, vocabulary: Vocabulary, text: Ids, config: TrainConfig) -> Iterator[Progress]:
    """Train until the model, fed only its own output, writes the text back; at most `train.epochs` epochs.

    Args:
        model: trained in place.
        text: ids `(N,)` of the text between the start and the end token.
        config: with `stop_at_recall=false` all epochs are run; the first exact free run is still reported.

    Yields:
        The figures of each epoch; until the next one is asked for, the model is as that epoch left it.

    Raises:
        DivergedError: the loss is not finite.
    """
    known = False
    for progress in fit(model, text, config):
        if progress.accuracy >= WORTH_A_FREE_RUN and not known:
            known = sampling.recall(model.in_numpy(), vocabulary, text) == len(text) - 1
            progress = replace(progress, recalled=known)
        yield progress
        if known and config.stop_at_recall:
            return


def fit(model: Model, text: Ids, config: TrainConfig) -> Iterator[Progress]:
    """Train for `train.epochs` epochs on the windows of a text; yields as `memorize` does."""
    device = next(model.parameters()).device
    windows = [
        TorchWindow(*(torch.from_numpy(ids.astype("int64")).to(device) for ids in window))
        for window in batches.windows(text, config)
    ]
    optimizer = AdamW(model.parameters(), config)
    predicted = sum(window.targets.numel() for window in windows)
    begin = time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        epoch_begin = time.perf_counter()
        model.train()
        loss, correct, norm = _epoch(model, windows, optimizer, config, epoch - 1).tolist()
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} in epoch {epoch}; try a smaller train.lr, or train.clip=1 if it is 0"
            )
        now = time.perf_counter()
        yield Progress(
            epoch=epoch,
            step=epoch * len(windows),
            chars_seen=epoch * predicted,
            seconds=now - begin,
            loss=loss,
            bits_per_char=loss / objective.NATS_PER_BIT if config.loss == "cross_entropy" else None,
            accuracy=correct / predicted,
            chars_per_second=predicted / (now - epoch_begin),
            learning_rate=learning_rate(epoch * len(windows) - 1, config.epochs * len(windows), config),
            gradient_norm=norm,
        )


def _epoch(
    model: Model, windows: list[TorchWindow], optimizer: AdamW, config: TrainConfig, epochs_before: int
) -> Tensor:
    """One pass; returns (loss, characters right, gradient norm), summed on the device and read once."""
    loss_function = objective.LOSSES[config.loss]
    steps = sum(len(window.targets) for window in windows)
    state: State | None = None
    figures = []
    for step, window in enumerate(windows, epochs_before * len(windows)):
        scores, state = model(window.inputs, state)
        state = detach(state)
        loss = loss_function(scores, window.targets)
        norm = optimizer.step(loss, learning_rate(step, config.epochs * len(windows), config))
        share = len(window.targets) / steps
        correct = objective.correct(scores.detach(), window.targets)
        figures.append(torch.stack([loss.detach() * share, correct, norm / len(windows)]))
    return torch.stack(figures).sum(dim=0)
