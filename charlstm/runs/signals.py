"""SIGINT, SIGTERM, SIGHUP and SIGUSR1 while a run is on its way. Imports nothing that takes long."""

import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Windows has neither
SIGHUP, SIGUSR1 = (getattr(signal, name, None) for name in ("SIGHUP", "SIGUSR1"))

_EARLY: list[int] = []  # SIGUSR1 that no run was there for


def listen() -> None:
    """From now on SIGUSR1 does not end the process: the run that comes saves when it has begun."""
    if SIGUSR1 is not None:
        signal.signal(SIGUSR1, lambda number, _: _EARLY.append(number))


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Within this context a Ctrl-C raises KeyboardInterrupt as ever, and is noted in the list that it yields,
    for a library's bare `except` may swallow it."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


@functools.cache
def end_with(home: int) -> None:
    """From now on this process ends within 8 s of its parent or of the process `home`, whatever ends that; a
    run that is on its way is saved. What a terminal sends to all is for `home` to answer."""
    parent = os.getppid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a launcher may ignore it; a run saves
    with suppress(OSError):
        os.setsid()

    def watch() -> None:
        with suppress(ProcessLookupError):
            while os.getppid() == parent:
                os.kill(home, 0)
                time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(6)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


class Stopped(Exception):
    """A signal asked the run to stop."""


class StopSignals:
    """Within this context SIGINT, SIGTERM and, unless it is ignored (`nohup`), SIGHUP set `received` in place
    of ending the process; the second one ends it, if it `is_alone`. SIGUSR1 sets `save_wanted`."""

    HANDLED = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, SIGHUP)))

    def __init__(self, is_alone: bool = True) -> None:
        self._is_alone = is_alone
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
        """0, or as a shell reports a process that a signal ended: 130 for SIGINT, 143 for SIGTERM, 129 for
        SIGHUP."""
        return 0 if self.received is None else 128 + self.received

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        if self._is_alone:  # torchrun sends on what all have got, and ends them after 30 s
            self._restore()
        if self._raises:
            raise Stopped

    def _save(self, _number: int, _frame: FrameType | None) -> None:
        self.save_wanted = True

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
