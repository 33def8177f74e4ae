"""The machine that a run uses: device, threads, seeds, signals."""

import os
import signal
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal

from charlstm.settings import Device

if TYPE_CHECKING:
    import torch

# Up to this many hidden units x streams one thread is faster than several: the recurrence is a chain of T
# small matrix products, and waking a thread costs more than its share of one (`benchmarks.threads`).
ONE_THREAD_WORK = 8192


def choose_device(name: Device) -> "torch.device":
    """The torch device of a `device` setting; auto is CUDA where there is one.

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = cuda: this machine or this torch has no CUDA device; use device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_threads(wanted: int | Literal["auto"], hidden: int, streams: int) -> int:
    """The number of CPU threads: as asked, or by the size of the recurrent matrix product."""
    if wanted != "auto":
        return wanted
    return 1 if hidden * streams <= ONE_THREAD_WORK else available_cores()


def available_cores() -> int:
    """The cores that this process may use, which containers and `taskset` make fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(seed: int, threads: int) -> None:
    """Seed torch and set it up for this process."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # saturated gates make denormals, which slow the kernels 20 times


class StopSignals:
    """Within this context SIGINT and SIGTERM set `received` in place of ending the process, once; the second
    one ends it."""

    HANDLED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._handle) for number in self.HANDLED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def exit_code(self) -> int:
        """0, or as a shell reports a process that a signal ended: 130 for SIGINT, 143 for SIGTERM."""
        return 0 if self.received is None else 128 + self.received

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
