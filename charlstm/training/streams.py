"""Language models: streams of a corpus side by side, as many and for as many steps as are right for it."""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from charlstm.config.settings import TrainConfig
from charlstm.config.values import Duration
from charlstm.model.torch_model import Model
from charlstm.text.vocabulary import Ids
from charlstm.training.loop import Training
from charlstm.training.optimizer import Average
from charlstm.training.windows import ShiftedStreams, Window

PROBE_STEPS, PROBE_SECONDS = 3, 1.0


def of_corpus(
    model: Model,
    ids: Ids,
    start: int | None,
    config: TrainConfig,
    *,
    steps: int,
    every: int,
    average: Average | None = None,
    autocast: torch.dtype | None = None,
    seed: int = 0,
) -> Training:
    """`steps` steps on the streams of a corpus, which is cut at other places in each epoch.

    Args:
        ids: `(N,)`, in memory or memory-mapped and then read as it is needed; long enough for `fit_corpus`
            to leave `config` as it is.
        start, seed: as for `ShiftedStreams`.
        every, average, autocast: as for `Training`.
    """

    def windows(epoch: int) -> Sequence[Window]:
        return ShiftedStreams(ids, config.batch, config.window, start=start, seed=seed, epoch=epoch)

    return Training(model, windows, config, steps=steps, every=every, average=average, autocast=autocast)


def fit_corpus(config: TrainConfig, symbols: int) -> TrainConfig:
    """The same configuration for a text of `symbols` ids: with fewer streams or shorter windows if need be.

    Raises:
        ValueError: fewer than two symbols.
    """
    if symbols < 2:
        raise ValueError(f"the training part has {symbols} symbols; it needs at least 2")
    # the cut may leave out up to a window of ids
    if config.batch * config.window + config.window >= symbols:
        batch = max((symbols - 1) // config.window - 1, 1)
        config = replace(config, batch=min(config.batch, batch))
    if config.batch * config.window + config.window >= symbols:
        config = replace(config, window=max((symbols - 1) // 2, 1))
    return config


def steps_of(config: TrainConfig, symbols: int, seconds_per_step: float) -> int:
    """The steps of a training: `train.steps`, or what `train.budget` holds, or `train.epochs` passes."""
    if config.steps is not None:
        return config.steps
    if config.budget is not None:
        return max(int(Duration.seconds(config.budget) / seconds_per_step), 1)
    return config.epochs * max((symbols - 1) // (config.batch * config.window), 1)


def seconds_per_step(
    model: Model, ids: Ids, start: int | None, config: TrainConfig, autocast: torch.dtype | None = None
) -> float:
    """What a step takes, from a few on a copy of the model; torch's generators stay as they are."""
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
