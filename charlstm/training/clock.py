"""The time of a run, and how much of it is left for training."""

import math
import time
from collections.abc import Callable


class Clock:
    """What `train.budget` is counted by: everything from the command's start to its last line. Without a
    budget it takes as long as it takes, and nothing depends on the clock."""

    def __init__(
        self,
        budget: float | None = None,  # seconds for all of it
        began: float | None = None,  # when the command did, by `now`; None: just now
        before: float = 0.0,  # seconds that the run which is resumed had taken already
        now: Callable[[], float] = time.monotonic,  # seconds, from any beginning
    ) -> None:
        self.budget, self.now = budget, now
        self.reserve = 0.0  # seconds for what comes after the training
        self._began = (now() if began is None else began) - before

    def spent(self) -> float:
        """Seconds since the command began, and those of the run that it resumes."""
        return self.now() - self._began

    def left(self) -> float:
        """Seconds that are left for training; infinite without a budget."""
        return math.inf if self.budget is None else self.budget - self.reserve - self.spent()
