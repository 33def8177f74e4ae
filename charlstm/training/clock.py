"""The time of a run, and how much of it is left for training."""

import math
import time
from collections.abc import Callable


class Clock:
    """What `train.budget` is counted by: everything from the command's start to its last line.

    Args:
        budget: seconds for all of it; None: it takes as long as it takes, and nothing depends on the clock.
        began: when the command began, by `now`; None: just now.
        before: seconds that the run which is resumed had taken already.
        now: seconds, from any beginning.
    """

    def __init__(
        self,
        budget: float | None = None,
        began: float | None = None,
        before: float = 0.0,
        now: Callable[[], float] = time.monotonic,
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
