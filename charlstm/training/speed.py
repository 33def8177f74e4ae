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
from charlstm.training.loop import Training, of_corpus
from charlstm.training.optimizer import Average

PROBE_SECONDS = 1.2

# Parts of a window that are measured, and how often; where whole ones would take too long, these have to do.
PROBES = ((16, 2), (4, 1), (1, 20))

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
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for part, rounds in PROBES:
            window = max(config.window // part, 1)
            training = of_corpus(
                model, ids, start, replace(config, window=window), steps=10**9, every=1, average=average
            )
            whole, times = config.window / window, dict[Choice, list[float]]()
            for choice in [*reversed(choices)] * rounds:
                is_due = not seconds and choice == choices[-1]
                is_late = time.perf_counter() + seconds.get(choice, (0, 0))[0] / whole > end
                if choice not in choices or (is_late and not is_due):
                    continue
                if (taken := _step(training, choice, whole)) is None:
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


def _step(training: Training, choice: Choice, whole: float) -> float | None:
    """The seconds of a step with a window `whole` times as long as those of this training, by one of its own;
    None where there is no kernel for it."""
    torch.set_num_threads(choice.threads)
    training.autocast, training.state = machine.autocast(choice.precision), None
    times = [time.perf_counter()]
    try:
        training.run()
        times.append(time.perf_counter())
        if whole > 1:  # the optimizer's share, which takes as long whatever the window, is measured by itself
            loss = torch.stack([parameter.sum() for parameter in training.optimizer.parameters]).sum()
            training.optimizer.step(loss, 0.0).norm.item()
    except RuntimeError as error:
        if choice.precision == "float32" or machine.is_out_of_memory(error):
            raise
        return None
    taken, fixed = times[1] - times[0], time.perf_counter() - times[1]
    return fixed + whole * (taken - fixed) if whole > 1 and fixed < taken else taken * whole
