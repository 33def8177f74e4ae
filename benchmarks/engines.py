"""`python -m benchmarks.engines [seeds=6]`: how closely `model.engine=plain` follows the fused kernel.

50 epochs of the published experiment; each figure is the largest relative difference of the loss of any
epoch. The last column is the yardstick: the fused engine against itself, started from weights that are
changed by at most half a unit in the last place. Where that grows above 1e-4, no two float32 engines that
add in another order can agree better.
"""

import numpy as np
import torch

from benchmarks.machine import count, describe
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.model.torch_model import Model
from charlstm.tasks import table
from charlstm.text.corpus import framed
from charlstm.training import loop, machine


def losses(seed: int, engine: str, dtype: torch.dtype, jitter: bool = False) -> np.ndarray:
    """The loss of every epoch."""
    overrides = ["experiment=notebook", "train.epochs=50", f"model.engine={engine}", f"seed={seed}"]
    settings = command_line.compose("train", TrainSettings, overrides)
    corpus = table.prepare(settings)
    machine.prepare(seed, threads=1)
    model = Model(settings.model, len(corpus.vocabulary)).to(dtype)
    if jitter:
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 + torch.finfo(dtype).eps * (torch.rand_like(weight) - 0.5))
    return np.array([p.loss for p in loop.of_text(model, framed(corpus), settings.train).each()])


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest relative difference."""
    return float((np.abs(a - b) / b).max())


def main(seeds: int) -> None:
    """Print a row for each seed."""
    print(describe())
    print(f"{'seed':>4} {'plain/fused, float64':>22} {'plain/fused, float32':>22} {'fused, one ulp off':>20}")
    for seed in range(seeds):
        double = difference(losses(seed, "plain", torch.float64), losses(seed, "fused", torch.float64))
        fused = losses(seed, "fused", torch.float32)
        single = difference(losses(seed, "plain", torch.float32), fused)
        chaos = difference(losses(seed, "fused", torch.float32, jitter=True), fused)
        print(f"{seed:4} {double:22.1e} {single:22.1e} {chaos:20.1e}", flush=True)


if __name__ == "__main__":
    main(count("seeds", 6))
