"""How long a step takes on this machine, and what makes it shortest."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from charlstm.config.settings import Kernel, TrainConfig
from charlstm.model.torch_model import Model
from charlstm.text.vocabulary import Ids
from charlstm.training import machine
from charlstm.training.graph import EAGER
from charlstm.training.loop import Training, of_corpus
from charlstm.training.optimizer import Average
from charlstm.training.processes import shares

PROBE_SECONDS = 1.5
GPU_SECONDS = 5.0  # the same on a GPU, whose libraries take some of it to start

# Parts of a window that are measured, and how often. Where whole ones would take too long, these have to do.
PROBES = ((16, 3), (4, 3), (1, 20))
GPU_PROBES = ((1, 3 + EAGER),)  # nothing is known from steps that are short, or not recorded yet

WORTH = 0.9  # of the seconds of what is simpler: for less, neither rounding nor another core is worth it


class Choice(NamedTuple):
    """What a step is computed in, and on how many threads."""

    precision: Kernel
    threads: int


def fastest(
    model: Model, ids: Ids, start: int | None, config: TrainConfig, choices: Sequence[Choice], end: float
) -> tuple[Choice, float]:
    """The choice that makes a step shortest, and its seconds. torch's generators stay as they are, but the
    model's weights are used up, and its threads changed.

    They take turns. Of two on as many threads that with the shorter shortest step is faster. More threads are
    if their median step is shorter, too: what else the machine does is in the median, and more of it where
    threads wait for each other.

    The simplest of the choices comes first, and is preferred to one that is hardly faster, the likeliest
    last; it is measured in any case, the others until `end`, by `time.perf_counter`."""
    # a learning rate that would diverge is for the training itself to report
    config = replace(config, lr=1e-9)
    device = next(model.parameters()).device
    average = Average(model.parameters(), 1) if config.averaging else None
    seconds: dict[Choice, tuple[float, float]] = {}  # of the shortest and the median whole step
    fixed: dict[Choice, list[float]] = {choice: [] for choice in choices}  # of its part without a window
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for part, rounds in GPU_PROBES if device.type == "cuda" else PROBES:
            window = max(config.window // part, 1)
            training = of_corpus(
                model, ids, start, replace(config, window=window), steps=10**9, every=1, average=average
            )
            whole, times = config.window / window, dict[Choice, list[float]]()
            for choice in [*reversed(choices)] * rounds:
                is_due = choice == choices[-1] and choice not in seconds and choice not in times
                is_late = time.perf_counter() + seconds.get(choice, (0, 0))[0] / whole > end
                if choice not in choices or (is_late and not is_due):
                    continue
                if (taken := _step(training, choice, whole, fixed[choice])) is None:
                    choices = [other for other in choices if other.precision != choice.precision]
                else:
                    times.setdefault(choice, []).append(taken)
            seconds |= {choice: (min(t), statistics.median(t)) for choice, t in times.items()}
    best, *others = (choice for choice in choices if choice in seconds)
    for choice in others:
        shortest, median = (a < WORTH * b for a, b in zip(seconds[choice], seconds[best], strict=True))
        if shortest and (median or choice.threads == best.threads):
            best = choice
    return best, seconds[best][1]


def _step(training: Training, choice: Choice, whole: float, fixed: list[float]) -> float | None:
    """The seconds of a step with a window `whole` times as long as those of this training; None where there
    is no kernel for it. `fixed` has those of the optimizer, which takes as long whatever the window, so that
    it is measured by itself, twice."""
    torch.set_num_threads(choice.threads)
    training.autocast, training.state = machine.autocast(choice.precision), None
    is_first = not fixed
    for _ in range(2 if is_first else 1):  # a process' first step of each kind takes several times as long
        begin = time.perf_counter()
        try:
            if whole > 1:
                _find_gradients(training)
            else:
                training.run()
        except RuntimeError as error:
            if choice.precision == "float32" or machine.is_out_of_memory(error):
                raise
            return None
        taken, begin = time.perf_counter() - begin, time.perf_counter()
        if whole > 1 and is_first:
            loss = torch.stack([parameter.sum() for parameter in training.optimizer.parameters]).sum()
            training.optimizer.step(loss, 0.0).norm.item()
            fixed.append(time.perf_counter() - begin)
    return whole * taken + min(fixed) if whole > 1 else taken


def _find_gradients(training: Training) -> None:
    """As a step does, before the optimizer; waits for the device."""
    window = training.windows(0)[0]
    training.model.train()
    for streams in shares(window.targets.shape[1], training.config.accumulate):
        loss, told, _ = training.forward(training.on_device(window.of(streams)), None)
        training.optimizer.added([], loss, *told)[-1].item()
