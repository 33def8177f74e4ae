"""How far a wait has come: a bar where people watch, a line now and then in a file or a pipe."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

DRAWN, TOLD = 0.25, 10.0  # seconds between two pictures of a bar, and between two lines


def progress_bar(total: float | None, what: str, unit: str = "") -> "Bar":
    """A bar that is seen where something takes over a second; the arguments are attributes of `Bar`."""
    return Bar(lambda line: print(line, file=sys.stderr), total, what, unit, delay=1.0)


class Bar:
    """A bar on standard error, while it is used as a context. Whoever waits sets the attributes; a thread
    draws it, so that it moves in a long call, too, and costs the caller nothing.

    Args:
        tell: gets a line every 10 s where standard error is no terminal.
        delay: seconds until it is first seen.

    Attributes:
        total, n: units in all, None if nobody knows; those that are done.
        what: is waited for, or the latest figures.
        unit: whose number in a second is shown; empty: it is not.
        left: seconds, for who knows better than by the share; `state` stands in place of it.
    """

    def __init__(
        self,
        tell: Callable[[str], object],
        total: float | None = 1.0,
        what: str = "",
        unit: str = "",
        delay: float = DRAWN,
    ) -> None:
        self.total, self.what, self.unit, self.state = total, what, unit, ""
        self.n, self.left = 0.0, cast(float | None, None)
        self._tell, self._delay = tell, delay
        self._over, self._drawn = threading.Event(), cast(Any, None)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Bar":
        self._first, self._begin = self.n, time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._drawn is not None:
            self._drawn.close()

    def update(self, n: float = 1) -> None:
        """So many more units are done."""
        self.n += n

    def draw(self) -> None:
        """Draw it as it stands, as wide as the terminal."""
        from tqdm import tqdm  # here: most waits are over before

        if self._drawn is None:
            form = "{percentage:3.0f}% |{bar}| {desc}" if self.total else "{desc}"
            self._drawn = tqdm(total=1, leave=False, dynamic_ncols=True, bar_format=form, delay=1e-9)
        self._drawn.n = min(self.n / self.total, 1.0) if self.total else 0
        self._drawn.set_description_str(self.words())

    def words(self) -> str:
        """What stands beside the bar: the time left, what is waited for, the speed."""
        spent, done = time.monotonic() - self._begin, self.n - self._first
        state, speed = self.state or clock(spent), ""
        if self.total and not self.state:
            left = spent * (self.total - self.n) / done if self.left is None and done > 0 else self.left
            state = "" if left is None else f"{clock(left)} left"
        if done > 0 and self.unit:
            speed = f"{compact(done / spent)} {self.unit}s/s"
        return ", ".join(filter(None, [state, self.what, speed]))

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


def compact(number: float) -> str:
    """A number in few characters, as 9,876 or 12k."""
    return f"{number:,.0f}" if number < 9999.5 else f"{number / 1000:,.0f}k"
