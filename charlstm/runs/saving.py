"""When a run saves, and where it goes back to when numbers went wrong. It is called; it calls nobody back."""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from charlstm.checkpoint import LAST, Checkpoint, CheckpointError
from charlstm.config.settings import TrainSettings
from charlstm.config.values import Duration
from charlstm.runs import directory, snapshot
from charlstm.runs.resume import Saved
from charlstm.training.loop import DivergedError, Training

log = logging.getLogger("charlstm")

MOST_RETURNS = 3
MEND = "try a smaller train.lr, or train.clip=1 if it is 0"


class Saving:
    """The last state of a run, on disk and in memory, as `save` and `train.on_nonfinite` want it."""

    def __init__(
        self, training: Training, path: Path, settings: TrainSettings, resumed: Saved | None = None
    ) -> None:
        self._training, self._path, self._config = training, path, settings.save
        self._on_nonfinite = settings.train.on_nonfinite
        self._every = Duration.seconds(self._config.every) if self._config.every is not None else None
        # of the state that is there already, which was verified when it was read
        is_there = resumed is not None and resumed.path.resolve() == (path / LAST).resolve()
        self._last_step = resumed.trained.step if resumed is not None and is_there else None
        self._saved_at = time.monotonic()
        self._good = snapshot.take(training)
        # how often training went back to the last good state
        self.returns = resumed.state.driver.returns if resumed is not None and resumed.same_training else 0
        self.unsaved: str | None = None  # why the latest save failed

    def is_due(self) -> bool:
        step = self._training.step
        in_steps = self._config.steps is not None and step % self._config.steps == 0
        in_time = self._every is not None and time.monotonic() - self._saved_at >= self._every
        return in_time or (in_steps and step != self._good.numbers.step)

    def take(self) -> snapshot.Snapshot:
        """The present state, the one to go back to from now on. DivergedError if a number is not finite."""
        state = snapshot.take(self._training)
        if not state.is_finite():
            raise DivergedError(f"a number in the state after step {self._training.step} is not finite")
        self._good = state
        return state

    def write(self, trained: Checkpoint) -> None:
        """Make a state the last one of the run; where that fails, say so, note why, leave what there was."""
        where = self._path, trained, self._config.keep, self._last_step
        self.unsaved = attempt(self._path / LAST, trained, directory.save_last, *where)
        if self.unsaved is None:
            self._last_step = trained.step
        self._saved_at = time.monotonic()

    def go_back(self, error: DivergedError) -> None:
        """Put the last good state back, with half the learning rate. Raises DivergedError if the policy
        forbids it, or it was done too often; the good state is put back then, too."""
        factor = self._training.lr_factor / 2
        snapshot.put_back(self._good, self._training)
        if self._on_nonfinite == "stop" or self.returns == MOST_RETURNS:
            after = f" after {self.returns} returns to an earlier state" if self.returns else ""
            self.returns = 0
            raise DivergedError(f"{error}{after}; {MEND}") from None
        self.returns += 1
        self._training.lr_factor = factor
        self._training.wrong = [0, 0, 0]  # it may have been saved in the middle of them
        log.warning(
            f"Went back to step {self._training.step}, with {factor:g} times the learning rate: {error}."
        )


def attempt(path: Path, trained: Checkpoint, save: Callable[..., object], *given: object) -> str | None:
    """Save; if that is not possible, log why, with the bytes that are needed and free, and return it."""
    try:
        save(*given)
    except (OSError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        needed = sum(array.nbytes for array in (*trained.weights.values(), *trained.arrays.values()))
        message = f"{path}: not saved: {reason}; it needs {needed:,} bytes"
        with suppress(OSError):  # the directory is gone
            message += f", {shutil.disk_usage(path.parent).free:,} are free"
        log.warning(f"{message}. What was there before is untouched.")
        return message
    return None
