"""Drives a training to its end: saves what is due, obeys signals, and goes back from numbers gone wrong."""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from charlstm.checkpoint import LAST, Checkpoint, CheckpointError
from charlstm.config.settings import SaveConfig
from charlstm.config.values import Duration
from charlstm.runs import directory, snapshot
from charlstm.runs.signals import Stopped, StopSignals
from charlstm.runs.snapshot import Snapshot
from charlstm.training.loop import DivergedError, Training
from charlstm.training.progress import Progress

log = logging.getLogger("charlstm")

MOST_RETURNS = 3


class Driver:
    """One training on its way.

    Every figure is handled exactly once, however often the run is stopped and gone on with: one that was
    not handled to its end is saved with the state and handled first when the run goes on.

    Args:
        training: at its beginning, or where an earlier run left it.
        path: the run directory.
        save: when to save.
        on_nonfinite: the policy of `train.on_nonfinite`.
        signals: asked after every step.
        as_checkpoint: makes a file's content of a snapshot and of what `state` returns.
        went_back: told the step that training went back to.

    Attributes:
        pending: figures that are not handled yet.
        finished: whoever handles them said that it is enough.
        returns: how often it went back to the last good state.
        unsaved: why the latest save failed; None: it did not.
    """

    def __init__(
        self,
        training: Training,
        path: Path,
        *,
        save: SaveConfig,
        on_nonfinite: str,
        signals: StopSignals,
        as_checkpoint: Callable[[Snapshot, dict[str, Any]], Checkpoint],
        went_back: Callable[[int], None],
    ) -> None:
        self.training, self.path, self.config, self.signals = training, path, save, signals
        self.on_nonfinite = on_nonfinite
        self.pending: Progress | None = None
        self.finished, self.returns = False, 0
        self.unsaved: str | None = None
        self._as_checkpoint, self._went_back = as_checkpoint, went_back
        self._every = Duration.seconds(save.every) if save.every is not None else None

    def state(self) -> dict[str, Any]:
        """What of this must be known to go on."""
        return {
            "pending": vars(self.pending) if self.pending else None,
            "finished": self.finished,
            "returns": self.returns,
        }

    def put_back(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.pending = Progress(**state["pending"]) if state["pending"] else None
        self.finished, self.returns = state["finished"], state["returns"]

    def drive(self, handle: Callable[[Progress], bool]) -> None:
        """Train until the last step, until `handle`, which gets the figures, says that it is enough, or until
        a signal; then save. `handle` may raise `DivergedError` where it finds that numbers went wrong.

        Raises:
            DivergedError: numbers went wrong too often; the last good state is saved.
        """
        self._good = snapshot.take(self.training)
        self._saved_at = time.monotonic()
        try:
            while True:
                while self._go_on(handle):
                    if self._is_due():
                        self.save()
                    try:
                        self.training.run(self._wants_to_pause)
                        self._take_figures()
                    except DivergedError as error:
                        self._go_back(error)
                if self.save():
                    return
        except DivergedError:
            snapshot.put_back(self._good, self.training)
            self.pending, self.returns = None, 0
            self.save()
            raise

    def save(self) -> bool:
        """Make the present state the last one of the run; where that is not possible, say so and leave what
        there was. Returns false for a state that must not be saved: training went back from it."""
        state = snapshot.take(self.training)
        if not state.is_finite():
            self._go_back(
                DivergedError(f"a number in the state after step {self.training.step} is not finite")
            )
            return False
        self._good, self.signals.save_wanted = state, False
        trained = self._as_checkpoint(state, self.state())
        self.unsaved = attempt(
            lambda: directory.save_last(self.path, trained, self.config.keep), self.path / LAST, trained
        )
        self._saved_at = time.monotonic()
        return True

    def _go_on(self, handle: Callable[[Progress], bool]) -> bool:
        if self.pending is not None:
            try:
                self.finished = handle(self.pending) or self.finished
            except Stopped:
                return False
            except DivergedError as error:
                self._go_back(error)
            self.pending = None
        is_over = self.finished or self.training.step >= self.training.steps
        return not is_over and self.signals.received is None

    def _wants_to_pause(self) -> bool:
        return self.signals.received is not None or self._is_due()

    def _is_due(self) -> bool:
        in_time = self._every is not None and time.monotonic() - self._saved_at >= self._every
        step = self.training.step
        in_steps = self.config.steps is not None and step % self.config.steps == 0
        return in_time or self.signals.save_wanted or (in_steps and step != self._good.numbers["step"])

    def _take_figures(self) -> None:
        if not self.training.is_due():
            return
        self.pending = self.training.figures()
        if self.pending is not None and self.pending.skipped:
            log.warning(
                f"At step {self.training.step}: the loss or a gradient was no finite number in "
                f"{self.pending.skipped} of the last steps, which were left out."
            )

    def _go_back(self, error: DivergedError) -> None:
        if self.on_nonfinite == "stop" or self.returns == MOST_RETURNS:
            after = f" after {self.returns} returns to an earlier state" if self.returns else ""
            raise DivergedError(f"{error}{after}; {MEND}") from None
        self.returns += 1
        factor = self.training.lr_factor / 2
        snapshot.put_back(self._good, self.training)
        self.training.lr_factor = factor
        self.training.wrong = [0, 0, 0]  # it may have been saved in the middle of them
        self.pending = None
        self._went_back(self.training.step)
        log.warning(
            f"Went back to step {self.training.step}, with {factor:g} times the learning rate: {error}."
        )


MEND = "try a smaller train.lr, or train.clip=1 if it is 0"


def attempt(save: Callable[[], object], path: Path, trained: Checkpoint) -> str | None:
    """Save; if that is not possible, log why, with the bytes that are needed and free, and return it."""
    try:
        save()
    except (OSError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        needed = sum(array.nbytes for array in (*trained.weights.values(), *trained.arrays.values()))
        message = f"{path}: not saved: {reason}; it needs {needed:,} bytes"
        with suppress(OSError):  # the directory is gone
            message += f", {shutil.disk_usage(path.parent).free:,} are free"
        log.warning(f"{message}. What was there before is untouched.")
        return message
    return None
