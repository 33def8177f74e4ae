"""The machine that a run uses: device, precision, threads, seeds, versions."""

import functools
import os
import platform
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from charlstm import __version__
from charlstm.config.settings import Device, Kernel, Precision
from charlstm.training import processes

if TYPE_CHECKING:
    import torch

# Up to this many hidden units x streams one thread is faster than several: the recurrence is a chain of T
# small matrix products, and waking a thread costs more than its share of one (`benchmarks.threads`).
ONE_THREAD_WORK = 1000

# Capabilities of which each brings a precision in hardware.
HARDWARE: dict[Kernel, set[str]] = {
    "bfloat16": {"amx_bf16", "avx512_bf16", "bf16", "sve_bf16", "svebf16", "cuda 8"},
    "float16": {"amx_fp16", "avx512_fp16", "fp16_arith", "asimdhp", "cuda 7"},
}


def choose_device(name: Device) -> "torch.device":
    """The torch device of a `device` setting: auto is CUDA if there is one. Raises ValueError for cuda
    without, and where processes that train together have not a GPU each."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = cuda: this machine or this torch has no CUDA device; use device=cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if processes.size() > 1 and not processes.have_gpus():
        raise ValueError(
            f"device = {name}: {processes.on_this_machine()} processes and {torch.cuda.device_count()} GPUs; "
            "start one process for each GPU, or use device=cpu"
        )
    return torch.device("cuda")


def capabilities(device: "torch.device") -> Collection[str]:
    """What the device computes with, by torch's or Linux's names; of CUDA its compute capabilities."""
    import torch

    if device.type == "cuda":
        return {f"cuda {n}" for n in range(1 + torch.cuda.get_device_capability(device)[0])}
    if hasattr(torch.cpu, "get_capabilities"):  # not in the oldest torch
        return {name for name, is_there in torch.cpu.get_capabilities().items() if is_there}
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text().split() if cpuinfo.exists() else ()


def kernels(capabilities: Collection[str]) -> tuple[Kernel, ...]:
    """What a processor with these capabilities computes in itself; another precision it would emulate."""
    return ("float32", *(name for name, one_of in HARDWARE.items() if one_of & set(capabilities)))


def check_kernel(precision: Precision, device: "torch.device") -> None:
    """Raise ValueError if torch can compute no LSTM in this precision there, not even by emulating it."""
    import torch

    lstm = torch.nn.LSTM(8, 8, device=device)
    try:
        with torch.autocast(device.type, autocast(precision), enabled=precision != "float32"):
            output, _ = lstm(torch.zeros(2, 2, 8, device=device))
        output.float().sum().backward()
    except RuntimeError:
        raise ValueError(
            f"precision = {precision}: this machine has no LSTM kernel for it; use float32"
        ) from None


def autocast(precision: str) -> "torch.dtype | None":
    """The dtype of matrix products that are not computed in that of the weights."""
    import torch

    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


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
    """The cores that this process may use: containers, `taskset` and processes that train together share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // processes.on_this_machine(), 1)


def prepare(seed: int, threads: int) -> None:
    """Seed torch and set it up for this process."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # saturated gates make denormals, which slow the kernels 20 times
    torch.backends.cudnn.allow_tf32 = False  # float32 is what was asked for
    # of weights that dropout makes anew for every step
    warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")


@functools.cache  # packages are asked in their files, which takes as long as a small checkpoint's save
def versions() -> Mapping[str, Any]:
    """Of what the figures depend on; imports nothing."""
    python = platform.python_version()
    return {"charlstm": __version__, "python": python, "torch": version("torch"), "numpy": version("numpy")}


@contextmanager
def left_as_found() -> Iterator[None]:
    """Within this context torch may be seeded and set up; afterwards it is as it was before."""
    import torch

    threads = torch.get_num_threads()
    flushes = sys.float_info.min / 2 == 0  # torch cannot be asked
    rounds = torch.backends.cudnn.allow_tf32
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if is_used else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
        torch.backends.cudnn.allow_tf32 = rounds
