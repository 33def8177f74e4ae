"""How far a wait has come: a bar where people watch, a line now and then in a file or a pipe."""

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

DRAWN, TOLD = 0.25, 10.0  # seconds between two pictures of a bar, and between two lines


def progress_bar(total: float | None, what: str) -> "Bar":
    """A bar over so many units, None if nobody knows, that is seen where `what` takes over a second."""
    return Bar(lambda line: print(line, file=sys.stderr), total, what, delay=1.0)


class Bar:
    """A bar on standard error, seen after `delay` seconds, while it is used as a context; `tell` gets a line
    every 10 s where that is no terminal. Whoever waits sets its attributes, at no cost: it has a thread that
    draws it, in long calls, too. `n` units of `total` are done; `left` are seconds, infinite if nobody knows,
    None as the share says, and `state` stands in place of it."""

    def __init__(
        self, tell: Callable[[str], object], total: float | None = 1.0, what: str = "", delay: float = DRAWN
    ) -> None:
        self.total, self.what, self.state = total, what, ""
        self.n, self.left = 0.0, cast(float | None, None)
        self._tell, self._delay = tell, delay
        self._over, self._drawn = threading.Event(), cast(Any, None)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Bar":
        self._begin = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._drawn is not None:
            self._drawn.close()

    def update(self, n: float = 1) -> None:
        self.n += n

    def draw(self) -> None:
        """Draw it as it stands, as wide as the terminal."""
        from tqdm import tqdm  # here: most waits are over before

        self._drawn = self._drawn or tqdm(total=1, leave=False, dynamic_ncols=True, delay=1e-9)
        self._drawn.bar_format = "{percentage:3.0f}% |{bar}| {desc}" if self.total else "{desc}"
        self._drawn.n = min(self.n / self.total, 1.0) if self.total else 0
        self._drawn.set_description_str(self.words())

    def words(self) -> str:
        """What stands beside the bar."""
        spent, left = time.monotonic() - self._begin, self.left
        if left is None:
            left = spent * (self.total - self.n) / self.n if self.total and self.n else math.inf
        known = f"{clock(left)} left" if left < math.inf else clock(spent)
        return ", ".join(filter(None, [self.state or known, self.what]))

    def _watch(self) -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            while not self._over.wait(DRAWN if self._drawn else self._delay):
                self.draw()
        while not self._over.wait(TOLD):
            share = f"{self.n / self.total:.0%} done, " if self.total else ""
            self._tell(share + self.words())


def clock(seconds: float) -> str:
    """A time in hours, minutes and seconds, as 1:02:03 or 0:07."""
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
