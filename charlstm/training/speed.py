"""How long a step takes on this machine."""

import copy
import time
from dataclasses import replace

import torch

from charlstm.config.settings import TrainConfig
from charlstm.model.torch_model import Model
from charlstm.text.vocabulary import Ids
from charlstm.training.loop import of_corpus
from charlstm.training.optimizer import Average

PROBE_STEPS, PROBE_SECONDS = 3, 1.0


def seconds_per_step(
    model: Model,
    ids: Ids,
    start: int | None,
    config: TrainConfig,
    autocast: torch.dtype | None = None,
    threads: int | None = None,
) -> float:
    """What a step takes, from a few on a copy of the model; torch's generators stay as they are, but it is
    left with these threads, if any are given."""
    if threads is not None:
        torch.set_num_threads(threads)
    # a learning rate that would diverge is for the training itself to report
    config = replace(config, lr=1e-9)
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model = copy.deepcopy(model)
        average = Average(model.parameters(), 1) if config.averaging else None
        training = of_corpus(
            model, ids, start, config, steps=10**9, every=PROBE_STEPS, average=average, autocast=autocast
        )
        training.run()  # warms up
        times: list[float] = []
        while sum(times) < PROBE_SECONDS or len(times) < 3:
            begin = time.perf_counter()
            training.run()
            times.append(time.perf_counter() - begin)
    return sum(times) / len(times) / PROBE_STEPS
