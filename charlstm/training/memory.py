"""How much memory a training takes, before it takes it."""

import functools
import os
import sys
from contextlib import suppress
from pathlib import Path, PurePath

from charlstm.config.settings import ModelConfig, TrainConfig
from charlstm.model.numpy_model import parameter_count
from charlstm.training import recipe

FLOAT = 4  # bytes of a float32
MEND = "try a smaller train.batch, train.window or model.hidden, or a shorter text"


def training_bytes(model: ModelConfig, config: TrainConfig, vocabulary_size: int, window: int) -> int:
    """About how many bytes a training takes besides PyTorch itself.

    Each weight is there some 13 times while a state is saved, with averages 21 times, as was measured:
    itself, its gradient, two moments, and these again in the good state to go back to, in the new one and in
    the file. For each step and stream the kernels keep some 14 numbers for each hidden unit for the way back,
    and there are the scores three times. `window` is T, the steps that gradients flow back through."""
    weights = parameter_count(model, vocabulary_size) * (21 if config.averaging else 13)
    kept = 14 * model.layers * model.width + 3 * vocabulary_size + 2 * (model.embedding or vocabulary_size)
    streams = config.batch // config.accumulate + recipe.old_streams(config)
    return FLOAT * (weights + streams * window * kept)


def check(model: ModelConfig, config: TrainConfig, vocabulary_size: int, window: int, of_memory: int) -> None:
    """Check that a training can fit a memory of so many bytes. Raises ValueError if it cannot."""
    needed = training_bytes(model, config, vocabulary_size, window)
    if needed > of_memory:
        raise ValueError(
            f"model.hidden = {model.hidden}, model.layers = {model.layers}, train.batch = {config.batch}, "
            f"{window:,} time steps: training takes about {needed / 2**30:,.2f} GiB of memory, and here are "
            f"{of_memory / 2**30:,.2f}; {MEND}"
        )


@functools.cache  # as long as this process lives
def physical(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may take: those of the machine, or fewer in a container, as its
    control group and those above it limit them, in version 1 or 2; `root` has `proc` and `sys`."""
    limits = [2**62]  # where nobody says it
    with suppress(AttributeError, ValueError, OSError):  # Windows
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError):  # no Linux
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            folder = root / "sys/fs/cgroup" / ("memory" if controllers else "")
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            inner = PurePath(group.lstrip("/"))
            # seen from within a container, its own group may be the root
            for place in (inner, *inner.parents):
                with suppress(OSError, ValueError):  # there is none, or it is "max"
                    limits.append(int((folder / place / name).read_text()))
    return min(limits)


def peak() -> int:
    """The most bytes of memory that this process has taken so far; 0 on Windows, which has another way."""
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
