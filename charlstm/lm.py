"""Train a language model: streams of a corpus side by side, their state carried from window to window.

Like `trainer.py` it knows no Hydra, no file format and no TensorBoard: it yields figures, and whoever drives
it decides what becomes of them and when to stop.
"""

import copy
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from charlstm import batches, objective
from charlstm.model import Model, State, detach
from charlstm.optimizer import AdamW, Average, learning_rate
from charlstm.settings import TrainConfig
from charlstm.trainer import DivergedError, Progress
from charlstm.vocabulary import Ids

PROBE_STEPS, PROBE_SECONDS = 3, 1.0


def fit(
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
) -> Iterator[Progress]:
    """Train for `steps` steps.

    In each epoch every stream begins with a zero state, and the text is cut at other places than in the one
    before. Windows of a text on disk are read as they are needed.

    Args:
        model: trained in place.
        ids: the corpus, `(N,)`, in memory or memory-mapped; long enough for `fit_corpus` to leave `config`
            as it is.
        start: what every stream reads first, the start token; None for a text that has start tokens of its
            own: reading them in the middle of a record would teach that records begin there.
        every: steps between two yields.
        average: told of every step.
        autocast: dtype of the matrix products; None: that of the weights.
        seed: of the places where the text is cut.

    Yields:
        Figures of the steps since the last; until the next are asked for, the model is as it was left.

    Raises:
        DivergedError: the loss is not finite.
    """
    device = next(model.parameters()).device
    optimizer = AdamW(model.parameters(), config)
    random = np.random.default_rng(seed)
    chars = config.batch * config.window
    sums = torch.zeros(3, device=device)
    spent, done = 0.0, 0
    begin = time.perf_counter()
    model.train()
    for epoch in itertools.count():
        state: State | None = None
        for window in batches.shifted_streams(ids, config.batch, config.window, random):
            inputs, targets = (torch.from_numpy(part.astype("int64")).to(device) for part in window)
            if state is None and start is not None:
                inputs[0] = start
            lr = learning_rate(done, steps, config)
            figures, state = _step(model, inputs, targets, state, optimizer, lr, autocast)
            if average is not None:
                average.update()
            sums += figures
            done += 1
            if done % every == 0 or done == steps:
                count = (done - 1) % every + 1
                loss, correct, norm = (sums / count).tolist()  # the one place where the device is waited for
                took = time.perf_counter() - begin
                spent += took
                if not math.isfinite(loss):
                    raise DivergedError(f"the loss is {loss} at step {done}; try a smaller train.lr")
                yield Progress(
                    epoch=epoch,
                    step=done,
                    chars_seen=done * chars,
                    seconds=spent,
                    loss=loss,
                    bits_per_char=loss / objective.NATS_PER_BIT,
                    accuracy=correct / chars,
                    chars_per_second=count * chars / took,
                    learning_rate=lr,
                    gradient_norm=norm,
                )
                if done == steps:
                    return
                sums.zero_()
                model.train()
                begin = time.perf_counter()


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
        return max(int(config.budget_seconds() / seconds_per_step), 1)
    return config.epochs * max((symbols - 1) // (config.batch * config.window), 1)


def seconds_per_step(
    model: Model, ids: Ids, start: int | None, config: TrainConfig, autocast: torch.dtype | None = None
) -> float:
    """What a step takes, from a few on a copy of the model; torch's generators stay as they are."""
    # a learning rate that would diverge is for the training itself to report
    config = replace(config, lr=1e-9)
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        average = Average(model.parameters(), 1) if config.averaging else None
        steps = fit(
            copy.deepcopy(model),
            ids,
            start,
            config,
            steps=10**9,
            every=PROBE_STEPS,
            average=average,
            autocast=autocast,
        )
        next(steps)  # warms up
        times: list[float] = []
        while sum(times) < PROBE_SECONDS or len(times) < 3:
            begin = time.perf_counter()
            next(steps)
            times.append(time.perf_counter() - begin)
    return sum(times) / len(times) / PROBE_STEPS


def _step(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    state: State | None,
    optimizer: AdamW,
    lr: float,
    autocast: torch.dtype | None,
) -> tuple[Tensor, State]:
    """One window; returns its loss, characters right and gradient norm, on the device, and the state."""
    with torch.autocast(inputs.device.type, autocast, enabled=autocast is not None):
        scores, state = model(inputs, state)
    loss = objective.cross_entropy(scores.float(), targets)
    norm = optimizer.step(loss, lr)
    with torch.no_grad():
        return torch.stack([loss, objective.correct(scores, targets), norm]), detach(state)
