"""How many threads a training with a budget uses while it runs: others may come and want the cores, too."""

import logging
import statistics

import torch

log = logging.getLogger("charlstm")

JUDGED = 4  # steps, by their median
SLOW = 1.3  # times as long as the shortest step yet: something else is going on
KEPT = 60  # steps for which what was faster stays at least
FIRST_WAIT = 8  # steps until another trial where one brought nothing; twice as many after each such


class Threads:
    """All threads of a run, `count` of at least two, or one: where a step takes much longer than it did, at
    first than `pace` in seconds, the other number is tried for some steps, and what is faster stays. Threads
    that wait for each other stand still as soon as one of them does not get its core."""

    def __init__(self, count: int, pace: float) -> None:
        self.all, self.now, self.pace = count, count, pace
        self._taken: list[float] = []
        self._before = 0.0  # seconds of a step with the other number, while this one is tried
        self._wait, self._left = FIRST_WAIT, 0

    def took(self, seconds: float) -> None:
        self._left -= 1
        self._taken = [*self._taken[1 - JUDGED :], seconds]
        self.pace = min(self.pace, seconds)
        if self._before and len(self._taken) > 1 and min(self._taken) > self._before:
            self._end_trial(is_worth=False)
        elif self._left > 0 or len(self._taken) < JUDGED:
            return
        elif self._before:
            self._end_trial(statistics.median(self._taken) < 0.9 * self._before)
        elif (median := statistics.median(self._taken)) > SLOW * self.pace:
            self._before = median
            self._switch()

    def _end_trial(self, is_worth: bool) -> None:
        self._before = 0.0
        if is_worth:
            self._left, self._wait = KEPT, FIRST_WAIT
            log.info(f"Other programs take turns with this one: on {self.now} of {self.all} threads.")
        else:
            self._left, self._wait = self._wait, min(2 * self._wait, 1000)
            self._switch()

    def _switch(self) -> None:
        self.now = self.all if self.now == 1 else 1
        torch.set_num_threads(self.now)
        self._taken = []
