"""SIGINT, SIGTERM, SIGHUP and SIGUSR1 while a run is on its way. Imports nothing that takes long."""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

SIGHUP, SIGUSR1 = (getattr(signal, name, None) for name in ("SIGHUP", "SIGUSR1"))  # Windows has neither

_EARLY: list[int] = []  # SIGUSR1 that no run was there for


def listen() -> None:
    """From now on SIGUSR1 does not end the process: the run that comes saves when it has begun."""
    if SIGUSR1 is not None:
        signal.signal(SIGUSR1, lambda number, _: _EARLY.append(number))


@contextmanager
def noted_interrupts(*others: int) -> Iterator[list[int]]:
    """Within this context a Ctrl-C raises KeyboardInterrupt as ever, and so do these other signals; each is
    noted in the list that it yields, for a library's bare `except` may swallow it."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, *others)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@functools.cache
def serve(home: int, going: Path) -> Callable[[], bool]:
    """From now on this process works for the process `home` as long as the file `going` is there. When it is
    not, or `home` or the parent has ended, it gets SIGTERM, and it ends within 8 s of them. What a terminal
    sends to all is for `home` to answer. Returns what says whether it is wanted."""
    parent = os.getppid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # between two runs
    with suppress(OSError):
        os.setsid()

    def is_there() -> bool:
        with suppress(ProcessLookupError):
            os.kill(home, 0)
            return os.getppid() == parent
        return False

    def is_wanted() -> bool:
        return is_there() and going.exists()

    def watch() -> None:
        while is_wanted():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        while is_there():  # and waits for what is saved, until it is told to stop once more
            time.sleep(0.5)
        time.sleep(6)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return is_wanted


class Stopped(Exception):
    """A signal asked the run to stop."""


class StopSignals:
    """Within this context SIGINT, SIGTERM and, unless it is ignored (`nohup`), SIGHUP set `received` and call
    `then`; the second one ends the process, if it `is_alone`. SIGUSR1 sets `save_wanted`."""

    HANDLED = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, SIGHUP)))

    def __init__(self, is_alone: bool = True, then: Callable[[], object] = lambda: None) -> None:
        self._is_alone, self._then = is_alone, then
        self.received: int | None = None
        self.save_wanted = False
        self._raises = False

    def __enter__(self) -> "StopSignals":
        heeded = [n for n in self.HANDLED if n != SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._stop) for number in heeded}
        if SIGUSR1 is not None:
            self._usr1_before = signal.signal(SIGUSR1, self._save)
        self.save_wanted = bool(_EARLY)
        _EARLY.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        if SIGUSR1 is not None:
            signal.signal(SIGUSR1, self._usr1_before)

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Within this context, for what can be broken off anywhere, being asked to stop raises `Stopped`."""
        if self.received is not None:
            raise Stopped
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def exit_code(self) -> int:
        """0, or as a shell reports it: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP."""
        return 0 if self.received is None else 128 + self.received

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        if self._is_alone:  # torchrun sends on what all have got, and ends them after 30 s
            self._restore()
        self._then()
        if self._raises:
            raise Stopped

    def _save(self, _number: int, _frame: FrameType | None) -> None:
        self.save_wanted = True

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
