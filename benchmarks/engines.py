"""`python -m benchmarks.engines [seeds=6] [epochs=50]`: how closely the plain engine follows the fused one.

The first epochs of the published experiment; each figure is the largest relative difference of the loss of
any epoch. The last column is the yardstick: the fused engine against itself, started from weights that are
changed by at most half a unit in the last place. Where that grows above 1e-4, no two float32 engines that
add in another order can agree better.
"""

from functools import partial

import numpy as np
import torch

from benchmarks.machine import arguments, describe
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.model.torch_model import Model
from charlstm.tasks import memorize
from charlstm.training import loop, machine


def losses(epochs: int, seed: int, engine: str, dtype: torch.dtype, jitter: bool = False) -> np.ndarray:
    """The loss of every epoch."""
    overrides = ["experiment=notebook", f"train.epochs={epochs}", f"model.engine={engine}", f"seed={seed}"]
    settings = command_line.compose("train", TrainSettings, overrides)
    plan = memorize.plan(settings, None)
    machine.prepare(seed, threads=1)
    model = Model(settings.model, len(plan.vocabulary)).to(dtype)
    if jitter:
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 + torch.finfo(dtype).eps * (torch.rand_like(weight) - 0.5))
    return np.array([p.loss for p in loop.of_text(model, plan.ids, plan.config).figures()])


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest relative difference."""
    return float((np.abs(a - b) / b).max())


def main(seeds: int, epochs: int) -> None:
    """Print a row for each seed."""
    print(describe())
    print(f"{'seed':>4} {'plain/fused, float64':>22} {'plain/fused, float32':>22} {'fused, one ulp off':>20}")
    for seed in range(seeds):
        of_seed = partial(losses, epochs, seed)
        double = difference(of_seed("plain", torch.float64), of_seed("fused", torch.float64))
        fused = of_seed("fused", torch.float32)
        single = difference(of_seed("plain", torch.float32), fused)
        chaos = difference(of_seed("fused", torch.float32, jitter=True), fused)
        print(f"{seed:4} {double:22.1e} {single:22.1e} {chaos:20.1e}", flush=True)


if __name__ == "__main__":
    main(*arguments(seeds=6, epochs=50))
