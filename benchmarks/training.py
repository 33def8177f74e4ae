"""`python -m benchmarks.training [rounds=5] [size=1x128]`: whole training steps, beside the peak.

A step of a language model is all of it: the window out of the corpus, forward, loss, backward, clipping,
AdamW. Its arithmetic is counted as the matrix products alone, 2 operations for each weight and character
forward and 4 backward; the peak is that of a large square product of the same precision, measured in turns
with the steps.
"""

import statistics
import time

import numpy as np
import torch

from benchmarks.machine import arguments, describe
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.model.torch_model import Model
from charlstm.training import loop, machine

V = 65
SIZES = [  # layers, hidden, batch, window
    *((1, 128, 32, 64), (2, 128, 32, 64), (1, 256, 32, 64), (2, 256, 32, 64)),
    *((1, 512, 64, 128), (2, 512, 64, 128), (3, 512, 64, 128)),
]
SQUARE = 2048


def peak(dtype: torch.dtype) -> float:
    """Operations a second of a square matrix product."""
    a = torch.ones(SQUARE, SQUARE, dtype=dtype)
    begin = time.perf_counter()
    a @ a
    return 2 * SQUARE**3 / (time.perf_counter() - begin)


def main(rounds: int, size: str) -> None:
    """Print a row for each size and precision; `size`: for this one alone."""
    machine.prepare(seed=0, threads=machine.available_cores())
    print(f"{describe()}, {machine.available_cores()} threads")
    print(f"{'LSTM':6} {'batch x window':>14} {'precision':>9} {'chars/s':>10} {'GFLOP/s':>8} {'share':>6}")
    ids = np.random.default_rng(0).integers(0, V, 3_000_000).astype(np.uint8)
    precisions: dict[str, torch.dtype | None] = {"float32": None}
    if "bfloat16" in machine.kernels(machine.capabilities(torch.device("cpu"))):
        precisions["bfloat16"] = torch.bfloat16
    for layers, hidden, batch, window in SIZES:
        if size not in ("", f"{layers}x{hidden}"):
            continue
        overrides = [f"model.layers={layers}", f"model.hidden={hidden}"]
        overrides += [f"train.batch={batch}", f"train.window={window}"]
        overrides += ["task=lm", "train.optimizer=adamw", "train.lr=0.01", "train.weight_decay=0"]
        settings = command_line.compose("train", TrainSettings, overrides)
        model = Model(settings.model, V + 2)
        products = sum(w.numel() for name, w in model.named_parameters() if w.dim() > 1 and "emb" not in name)
        for name, dtype in precisions.items():
            training = loop.of_corpus(model, ids, V, settings.train, steps=10**9, every=1, autocast=dtype)
            shares, speeds = [], []
            for _ in range(rounds + 1):
                peak(dtype or torch.float32)
                best = peak(dtype or torch.float32)
                begin, count = time.perf_counter(), 0
                while time.perf_counter() - begin < 0.3 or count < 2:
                    training.run()
                    count += 1
                speeds.append(batch * window * count / (time.perf_counter() - begin))
                shares.append(6 * products * speeds[-1] / best)
            speed, share = statistics.median(speeds[1:]), statistics.median(shares[1:])
            print(
                f"{layers}x{hidden:<4} {batch:6} x {window:<5} {name:>9} {speed:10,.0f} "
                f"{6 * products * speed / 1e9:8.0f} {share:6.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main(*arguments(rounds=5, size=""))
