"""`python -m benchmarks.sampling [rounds=7] [size=1x128]`: characters a second on one thread and on all.

Three take turns in each round: nn.LSTM and its head in torch, called with a one-hot character at a time;
`charlstm.stepper`; and the limit, the bare NumPy products of a step with matrices of the same sizes. To
write a character of one stream, every weight is read once: there the limit is memory bandwidth. With 64
streams it is arithmetic, and the limit is the speed of a product of two square matrices.

The figures of all threads need a machine without other work: each product waits for its last thread, and
a core that is shared makes both libraries up to a hundred times slower.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import arguments, describe
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.model.stepper import Stepper
from charlstm.model.torch_model import Model
from charlstm.training import machine

SIZES = [(1, 128), (2, 128), (1, 256), (1, 512), (2, 512), (3, 1024)]  # layers x hidden
V = 65
MANY = 64
SQUARE = 2048  # a product of this size is no longer slowed by reading its matrices
SECONDS = 0.03  # that a contestant runs in a round, at least one step
PAUSE = 0.12  # seconds until OpenBLAS's idle threads sleep; till then they keep a core from torch's


def in_torch(model: Model, streams: int) -> Callable[[], object]:
    """A step of the same weights by torch, which keeps its state."""
    identity, ids = torch.eye(V), torch.arange(streams) % V
    state = None

    def step() -> None:
        nonlocal state
        output, state = model.rnn(identity[ids][None], state)
        model.head(output[0])

    return step


def in_numpy(model: Model, streams: int) -> Callable[[], object]:
    """A step of ours."""
    step, ids = Stepper(model.in_numpy(), streams), np.arange(streams) % V
    return lambda: step(ids)


def products(shapes: list[tuple[int, int]], streams: int) -> Callable[[], object]:
    """The products alone, of matrices `(rows, K)` with `(K, B)`."""
    random = np.random.default_rng(0)
    operands = [
        (
            random.standard_normal((rows, columns), np.float32),
            random.standard_normal((columns, streams), np.float32),
            np.empty((rows, streams), np.float32),
        )
        for rows, columns in shapes
    ]

    def multiply() -> None:
        for a, b, out in operands:
            np.dot(a, b, out=out)

    return multiply


def seconds_of(step: Callable[[], object]) -> float:
    """Mean seconds of a step."""
    step()
    steps, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < SECONDS or not steps:
        step()
        steps += 1
    return passed / steps


def take_turns(steps: Sequence[Callable[[], object]], rounds: int) -> NDArray[np.float64]:
    """Seconds of a step `(rounds, contestants)`, torch's first; a round before them warms up."""
    times = []
    for _ in range(rounds + 1):
        time.sleep(PAUSE if torch.get_num_threads() > 1 else 0)
        times.append([seconds_of(step) for step in steps])
    return np.array(times[1:])


@torch.inference_mode()
def measure(rounds: int, size: str, threads: int) -> None:
    """Print a row for each size, or for this one alone, on the threads that the environment gave NumPy."""
    torch.set_num_threads(threads)
    square = products([(SQUARE, SQUARE)], SQUARE)
    said = "1 thread" if threads == 1 else f"{threads} threads"
    print(f"\n{said}; characters a second")
    print(
        f"{'LSTM':6} | {'1 stream':>10}{'nn.LSTM':>9}{'ratio':>8}{'limit':>10}{'share':>6}{'GB/s':>6}"
        f" | {'64 streams':>10}{'nn.LSTM':>9}{'ratio':>8}{'limit':>10}{'share':>6}{'GF/s':>6} | 64 over 1"
    )
    for layers, hidden in SIZES:
        if size not in ("", f"{layers}x{hidden}"):
            continue
        overrides = [f"model.layers={layers}", f"model.hidden={hidden}"]
        model = Model(command_line.compose("train", TrainSettings, overrides).model, V)
        shapes = [(4 * hidden, hidden * (2 if l else 1)) for l in range(layers)] + [(V, hidden)]
        weights = sum(rows * columns for rows, columns in shapes)
        row, ours = f"{layers}x{hidden:<4}", []
        for streams in (1, MANY):
            limit = products(shapes, 1) if streams == 1 else square
            times = take_turns([in_torch(model, streams), in_numpy(model, streams), limit], rounds)
            if streams > 1:  # the products of a step, at the speed of the large one
                times[:, 2] *= weights * streams / SQUARE**3
            ratio, _, share = np.median(times / times[:, [1]], axis=0)
            torchs, own, least = np.median(times, axis=0)
            rate = weights * (4 if streams == 1 else 2 * streams) / least / 1e9
            row += f" | {streams / own:10,.0f}{streams / torchs:9,.0f}{ratio:7.1f}x"
            row += f"{streams / least:10,.0f}{share:6.0%}{rate:6.0f}"
            ours.append(own / streams)
        print(f"{row} | {ours[0] / ours[1]:8.1f}x", flush=True)


def main(rounds: int, size: str) -> None:
    """One thread, then all, each in a process of its own: NumPy's BLAS reads the number when it starts."""
    print(describe(), flush=True)
    for threads in sorted({1, machine.available_cores()}):
        variables = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
        )
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"from benchmarks import sampling; sampling.measure({rounds}, {size!r}, {threads})",
            ],
            env=os.environ | variables,
            check=True,
        )


if __name__ == "__main__":
    main(*arguments(rounds=7, size=""))
