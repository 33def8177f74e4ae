"""How well a model predicts a held-out part: with the state carried, or from empty contexts. Nothing here
changes the model's weights, its mode or a random generator, or depends on how the model was trained."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from charlstm.model.torch_model import Model, State
from charlstm.text.vocabulary import Ids

STRETCH = 1000  # symbols whose mean is looked at beside that of the whole part
STREAM = 2000  # symbols that a stream scores at least, so that its run-in costs a quarter at most
MOST_STREAMS = 64  # more would make the matrix products no faster
RUN_IN = 500  # unscored symbols that bring a zero state close to the one that is carried
COMPARED = 100  # the last of them, where two streams are compared
AGREEMENT = 1e-3  # nats per symbol by which they may differ there in the mean
REHEARSED = 400  # steps that tell how long all will take, whatever else the machine does in between
WINDOW = 100  # steps between two visits to Python
MOST_SCORES = 2**22  # numbers in a window's (T, B, V): 16 MiB, whatever the alphabet


class Score(NamedTuple):
    """What a held-out part costs."""

    nats: float  # per scored symbol; not finite where the model's scores are not
    symbols: int  # how many were scored
    worst: float = math.nan  # nats per symbol of the worst stretch of 1,000, or of all if they are fewer
    place: int = 0  # where that stretch begins
    read: int = 0  # how many ids of the part were read, with start tokens


def carried(
    model: Model, ids: Ids, start: int, is_late: Callable[[], bool] = lambda: False, once: bool = False
) -> Score:
    """The whole part from the start token and a zero state, which is carried from its begin to its end.
    Raises ValueError if there is nothing to score.

    Every symbol is scored exactly once, but for the token `start`, which `ids (N,)` have after the end token
    between records. For speed a long part is read as parallel streams, whose number depends on its length
    alone; each but the first begins 500 symbols before the first one that it scores. Where the last 100 of
    these do not cost it what they cost the stream before it, to 1e-3 nats in the mean, it is read again from
    that one's last state, till it goes on as before, until all are one: at the worst one after the other.

    If it `is_late`, which is asked before anything is read again, the score ends before the first such
    stream. With `once` streams are not compared: it is soon there, and too high where some are lost."""
    whole_part = len(ids)
    first, ids = _beginning(ids, start)
    left_out = whole_part - len(ids)
    if not len(ids):
        return _score(0.0, ids, start)
    hop = _hop(len(ids))
    with _evaluating(model):
        sums = _one_stream(model, ids, start, first, hop, is_late, once)
    ids = ids[: len(sums) * STRETCH]
    scored = np.add.reduceat(ids != start, np.arange(0, len(ids), STRETCH), dtype=np.int64)
    whole = max(len(ids) // STRETCH, 1)  # what is left over is no stretch, unless it is all there is
    means = sums[:whole] / scored[:whole]
    worst = int(means.argmax())
    score, read = _score(float(sums.sum()), ids, start), left_out + len(ids)
    return score._replace(worst=float(means[worst]), place=worst * STRETCH, read=read)


def _hop(symbols: int) -> int:
    """How many symbols of a part each of its streams scores; no stretch is cut."""
    streams = min(max(symbols // STREAM, 1), MOST_STREAMS)
    return -(-symbols // (streams * STRETCH)) * STRETCH


def rehearsed(model: Model, ids: Ids, start: int, now: Callable[[], float], read: int = REHEARSED) -> float:
    """The seconds that `carried` will take about, by so many of its steps; `now` is the clock's."""
    if not len(ids):
        return 0.0
    hop = _hop(len(ids))
    begins, begin = np.arange(0, len(ids), hop), now()
    with _evaluating(model):
        _read(model, ids, start, begins, read, None)[0].sum().item()
    steps = hop + RUN_IN if len(begins) > 1 else hop
    return (now() - begin) * steps / read


def _one_stream(
    model: Model, ids: Ids, start: int, first: int | None, hop: int, is_late: Callable[[], bool], once: bool
) -> NDArray[np.float64]:
    """The nats of each stretch of ids, read as streams of `hop` symbols each of which continues the last."""
    begins = np.arange(0, len(ids), hop)
    sums = np.empty((len(begins), hop // STRETCH))
    # the nats at the end of each stretch, and of what is read before the first one
    ends = torch.zeros(hop // STRETCH, COMPARED, len(begins), device=next(model.parameters()).device)
    before, state, last = ends[0].clone(), None, None
    if len(begins) > 1:
        nats, state = _read(model, ids, start, begins - RUN_IN, RUN_IN, None, first)
        before = nats[-COMPARED:]
        for part in state:
            part[:, 0] = 0
    again = np.arange(len(begins))
    while len(again):
        left, is_first = again, last is None
        here = None if state is None else tuple(part[:, left] for part in state)
        for k in range(hop // STRETCH):
            nats, here = _read(model, ids, start, begins[left] + k * STRETCH, STRETCH, here)
            sums[left, k] = nats.double().sum(0).cpu()
            changed = is_first | (_differences(nats[-COMPARED:], ends[k][:, left]) > AGREEMENT)
            ends[k][:, left] = nats[-COMPARED:]
            # what follows was read already, where it comes out the same
            left, here = left[changed], tuple(part[:, changed] for part in here)
            if not len(left):
                break
        assert here is not None
        last = last or tuple(map(torch.clone, here))
        for part, new in zip(last, here, strict=True):
            part[:, left] = new
        again = 1 + np.flatnonzero(_differences(before[:, 1:], ends[-1][:, :-1]) > AGREEMENT)
        if once:
            break
        if len(again) and is_late():
            return sums[: again[0]].ravel()
        before[:, again] = ends[-1][:, again - 1]
        for part, end in zip(state or (), last, strict=False):
            part[:, again] = end[:, again - 1]
    return sums.ravel()


def _differences(one: Tensor, other: Tensor) -> NDArray[np.float64]:
    """Of the nats `(T, B)` of streams in the mean, `(B,)`."""
    return np.asarray((one - other).abs().double().mean(0).cpu().numpy())


def fresh_windows(model: Model, ids: Ids, start: int, window: int = 256) -> Score:
    """nanoGPT's protocol: consecutive windows, each from an empty context, averaged over all positions but
    the first. Raises ValueError if there is nothing to score. `ids` and `start` are as for `carried`.

    In a text without records the start token, which tells nothing, is read before each window, as in
    training. nanoGPT itself (`estimate_loss` in its train.py) averages windows drawn at random, of which this
    is the expectation but for the ends."""
    begins = np.arange(1, len(ids), window)
    batch = min(max(MOST_SCORES // (window * model.vocabulary_size), 1), MOST_STREAMS)
    total, (first, _) = 0.0, _beginning(ids, start)
    with _evaluating(model):
        for k in range(0, len(begins), batch):
            here, state = begins[k : k + batch], None
            if first is not None:
                _, state = _read(model, ids, start, here - 1, 1, None, first)
            nats, _ = _read(model, ids, start, here, window, state)
            total += nats.double().sum().item()
    return _score(total, ids[1:], start)


def _read(
    model: Model,
    ids: Ids,
    start: int,
    begins: NDArray[np.int64],
    steps: int,
    state: State | None,
    first: int | None = None,
) -> tuple[Tensor, State]:
    """Predict the symbols at `begins[b] ... begins[b] + steps - 1` by parallel streams, each from the one
    before, after `state`: nats `(steps, B)`, 0 where nothing is scored, which is start tokens and what lies
    outside; and the state. `first` is read first, in place of the symbol before."""
    device, last, pieces = next(model.parameters()).device, len(ids) - 1, []
    width = max(min(MOST_SCORES // (len(begins) * model.vocabulary_size), WINDOW), 1)
    for t in range(0, steps, width):
        at = begins + np.arange(t, min(t + width, steps))[:, None]  # (T, B)
        inputs = np.where(at == 0, start, ids[(at - 1).clip(0, last)].astype(np.int64))
        if first is not None and t == 0:
            inputs[0] = first
        targets = ids[at.clip(0, last)].astype(np.int64)
        scored = (at >= 0) & (at <= last) & (targets != start)
        scores, state = model(torch.from_numpy(inputs).to(device), state)
        nats = functional.cross_entropy(
            scores.flatten(0, 1).float(), torch.from_numpy(targets).to(device).flatten(), reduction="none"
        )
        pieces.append(nats.where(torch.from_numpy(scored).to(device).flatten(), 0.0).view(at.shape))
    assert state is not None
    return torch.cat(pieces), state


def _beginning(ids: Ids, start: int) -> tuple[int | None, Ids]:
    """What a reading from a zero state begins with, and the ids after it: the start token and all of them, or
    None and those after the first record's own start token, as in training."""
    return (None, ids[1:]) if len(ids) and ids[0] == start else (start, ids)


def _score(nats: float, ids: Ids, start: int) -> Score:
    symbols = int(np.count_nonzero(ids != start))
    if symbols == 0:
        raise ValueError("the held-out part has no symbol to score; give it a larger share of the text")
    return Score(nats / symbols, symbols)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients, dropout and its like are off; afterwards every module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
