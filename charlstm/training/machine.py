"""The machine that a run uses: device, precision, threads, seeds, versions."""

import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from charlstm import __version__
from charlstm.config.settings import Device, Kernel, Precision

if TYPE_CHECKING:
    import torch

# Up to this many hidden units x streams one thread is faster than several: the recurrence is a chain of T
# small matrix products, and waking a thread costs more than its share of one (`benchmarks.threads`).
ONE_THREAD_WORK = 1000


def choose_device(name: Device) -> "torch.device":
    """The torch device of a `device` setting: auto is CUDA if there is one; ValueError for cuda without."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = cuda: this machine or this torch has no CUDA device; use device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(wanted: Precision, device: "torch.device") -> Kernel:
    """What matrix products are computed in while training, by its name in torch: as asked, or what a short
    probe finds faster than float32 by a tenth or more; ValueError if there is no kernel for what is asked."""
    if wanted == "auto":
        candidates: tuple[Kernel, ...] = ("float32", "bfloat16", "float16")
        seconds = {name: _probe_lstm(device, name) or math.inf for name in candidates}
        fastest = min(candidates, key=lambda name: seconds[name])
        return fastest if seconds[fastest] < 0.9 * seconds["float32"] else "float32"
    if wanted != "float32" and _probe_lstm(device, wanted) is None:
        raise ValueError(f"precision = {wanted}: this machine has no LSTM kernel for it; use float32")
    return wanted


def autocast(precision: str) -> "torch.dtype | None":
    """The dtype of matrix products that are not computed in that of the weights."""
    import torch

    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def _probe_lstm(device: "torch.device", precision: str) -> float | None:
    """Seconds of a small LSTM's forward and backward pass; None where there is no kernel."""
    import torch

    seconds = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        lstm = torch.nn.LSTM(128, 256, device=device)
        x = torch.zeros(32, 32, 128, device=device)
        try:
            for _ in range(5):
                begin = time.perf_counter()
                with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
                    output, _ = lstm(x)
                # reading a number waits for the device
                torch.autograd.grad(output.float().sum(), list(lstm.parameters()))[0].sum().item()
                seconds.append(time.perf_counter() - begin)
        except RuntimeError:
            return None
    return min(seconds)


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was no memory left, as NumPy, torch on a CPU and torch on CUDA say it."""
    signs = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)


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


def versions() -> dict[str, Any]:
    """Of what the figures depend on; imports nothing."""
    python = platform.python_version()
    return {"charlstm": __version__, "python": python, "torch": version("torch"), "numpy": version("numpy")}


@contextmanager
def left_as_found() -> Iterator[None]:
    """Within this context torch may be seeded and set up; afterwards it is as it was before."""
    import torch

    threads = torch.get_num_threads()
    flushes = sys.float_info.min / 2 == 0  # torch cannot be asked
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if is_used else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
