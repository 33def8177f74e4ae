"""How well a model predicts a held-out part: with the state carried, from empty contexts, or while it learns.

Every function returns a `Score` and leaves the model's weights, its train and eval modes and all random
generators as they were. None depends on how the model was trained: not on batch, window or interval.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from charlstm.model.scores import NATS_PER_BIT
from charlstm.model.torch_model import Model, State, detach
from charlstm.text.vocabulary import Ids

Positions = NDArray[np.int64]

STREAM = 2048  # characters that a stream scores at least, so that its run-in costs a quarter at most
MOST_STREAMS = 64  # more would make the matrix products no faster
RUN_IN = 512  # unscored characters that bring a zero state close to the one that was carried
WINDOW = 64  # steps between two visits to Python
MOST_SCORES = 2**22  # numbers in a window's (T, B, V): 16 MiB, whatever the alphabet

STATISTICS_STREAMS = 32  # side by side, so that the whole training part can be sampled in seconds
STATISTICS_STEPS = 200
EPSILON = 0.1  # of the mean root mean square: holds back weights that the training part seldom moved


class Score(NamedTuple):
    """What a held-out part costs.

    Attributes:
        nats: per scored symbol; not finite where the model's scores are not.
        symbols: how many were scored.
    """

    nats: float
    symbols: int

    @property
    def bits(self) -> float:
        """Per scored symbol; where no end tokens are scored, bits per character."""
        return self.nats / NATS_PER_BIT


def carried(model: Model, ids: Ids, start: int) -> Score:
    """The whole part from the start token and a zero state, which is carried from its begin to its end.

    Every symbol is scored exactly once. For speed a long part is read as parallel streams, whose number
    depends on its length alone; each but the first begins 512 characters before the first one that it
    scores, which keeps the result within 1e-3 nats of one unbroken stream's.

    Args:
        ids: `(N,)`, of any unsigned width, in memory or memory-mapped; between records they have the end
            and the start token.
        start: the start token's id. It always follows the end token, so predicting it is not scored.

    Raises:
        ValueError: there is nothing to score.
    """
    ids = _without_leading(start, ids)
    streams = min(max((len(ids) - RUN_IN) // STREAM, 1), MOST_STREAMS)
    hop = -(-(len(ids) - RUN_IN) // streams)
    begins = np.arange(streams) * hop
    firsts = np.where(begins == 0, 0, begins + RUN_IN)
    with _evaluating(model):
        nats, symbols = _read(model, ids, start, begins, firsts, hop + RUN_IN)
    return _score(nats, symbols)


def fresh_windows(model: Model, ids: Ids, start: int, window: int = 256) -> Score:
    """nanoGPT's protocol: consecutive windows, each from an empty context, averaged over all positions.

    A window reads `window` symbols from a zero state, without a start token, and predicts the symbol after
    each; the next one begins where it ended. Every symbol but the first is scored, most of them with less
    context than `carried` gives them. nanoGPT itself (`estimate_loss` in its train.py) averages windows
    drawn at random, of which this is the expectation but for the ends.

    Args:
        ids, start: as for `carried`.

    Raises:
        ValueError: there is nothing to score.
    """
    begins = np.arange(1, len(ids), window)
    batch = min(max(MOST_SCORES // (window * model.vocabulary_size), 1), MOST_STREAMS)
    total, symbols = _nothing(model), 0
    with _evaluating(model):
        for first in range(0, len(begins), batch):
            here = begins[first : first + batch]
            nats, scored = _read(model, ids, start, here, here, window)
            total, symbols = total + nats, symbols + scored
    return _score(total, symbols)


def dynamic(
    model: Model,
    train_ids: Ids,
    ids: Ids,
    start: int,
    *,
    lr: float = 0.0005,
    decay: float = 0.001,
    segment: int = 64,
    advance: Callable[[int], object] | None = None,
) -> Score:
    """Dynamic evaluation: a copy of the model reads the part once and learns from what it has scored.

    Krause, Kahembwe, Murray and Renals 2018, "Dynamic evaluation of neural sequence models", their rule with
    global statistics and a decay that is stronger for weights with large gradients:

        w <- w - lr g / (RMS + epsilon) + decay RMS / mean(RMS) (w_trained - w)

    after each segment, where g is the gradient of the segment's mean nats and RMS the root mean square of
    such gradients over the training part. The segment is scored before, in one stream from the start
    token, so that each symbol's score depends on those before it alone.

    Args:
        train_ids: `(M,)`, what the model was trained on; read for the RMS only.
        ids, start: as for `carried`.
        lr: how far a weight moves in a step, for a gradient of its usual size.
        decay: how much of the way back to its trained value, for a weight with the mean RMS.
        segment: symbols between two steps; gradients flow back through one segment.
        advance: told how many symbols each segment had, for a progress bar.

    Raises:
        ValueError: there is nothing to score, or `train_ids` has fewer than two symbols.
    """
    if len(train_ids) < 2:
        raise ValueError(f"the training part has {len(train_ids)} symbols; it needs at least 2")
    ids = _without_leading(start, ids)
    learner = copy.deepcopy(model).eval().requires_grad_()
    for module in learner.modules():
        if isinstance(module, nn.RNNBase) and module.dropout == 0:
            module.training = True  # which then changes nothing, but cuDNN has no gradients without it
    weights = list(learner.parameters())
    with torch.enable_grad():
        size = _gradient_size(learner, weights, train_ids, start, segment)
        mean = torch.cat([s.flatten() for s in size]).mean().clamp(min=1e-12)  # never 0 / 0
        steps = [lr / (s + EPSILON * mean) for s in size]
        backs = [(decay * s / mean).clamp(max=1) for s in size]  # beyond 1 it would overshoot
        trained = [w.detach().clone() for w in weights]
        total, symbols, state = _nothing(model), 0, None
        for begin in range(0, len(ids), segment):
            at = np.arange(begin, min(begin + segment, len(ids)))[:, None]
            nats, scored, state = _window(learner, ids, start, at, 0, state)
            total, symbols, state = total + nats.detach().double().sum(), symbols + scored, detach(state)
            gradients = torch.autograd.grad(nats.sum() / len(at), weights)
            with torch.no_grad():
                for w, g, step, back, origin in zip(weights, gradients, steps, backs, trained, strict=True):
                    w.sub_(step * g + back * (w - origin))
            if advance is not None:
                advance(len(at))
    return _score(total, symbols)


def _gradient_size(
    model: Model, weights: Sequence[Tensor], ids: Ids, start: int, segment: int
) -> list[Tensor]:
    """For each weight the root mean square of its gradient of the mean nats of one segment of `ids`.

    Segments are sampled from streams spread evenly over the part. The gradient of S of them together is
    S times smaller than their sum, so their mean has a root mean square smaller by the square root of S.
    """
    streams = min(max(len(ids) // segment, 1), STATISTICS_STREAMS)
    hop = len(ids) // streams
    begins = 1 + np.arange(streams) * hop
    squares, state, steps = [torch.zeros_like(w) for w in weights], None, 0
    for begin in range(0, min(hop, STATISTICS_STEPS * segment), segment):
        at = begins + np.arange(begin, begin + segment)[:, None]
        nats, _, state = _window(model, ids, start, at, 0, state)
        state, steps = detach(state), steps + 1
        gradients = torch.autograd.grad(nats.sum() / (segment * math.sqrt(streams)), weights)
        for square, gradient in zip(squares, gradients, strict=True):
            square.addcmul_(gradient, gradient)
    return [(square / steps).sqrt() for square in squares]


def _read(
    model: Model, ids: Ids, start: int, begins: Positions, firsts: Positions, steps: int
) -> tuple[Tensor, int]:
    """The nats of all symbols together, and their number, that parallel streams score from a zero state.

    Stream b predicts the symbols at `begins[b] ... begins[b] + steps - 1` and scores them from `firsts[b]`.
    """
    width = max(min(MOST_SCORES // (len(begins) * model.vocabulary_size), WINDOW), 1)
    total, symbols, state = _nothing(model), 0, None
    for t in range(0, steps, width):
        at = begins + np.arange(t, min(t + width, steps))[:, None]
        nats, scored, state = _window(model, ids, start, at, firsts, state)
        total, symbols = total + nats.double().sum(), symbols + scored
    return total, symbols


def _window(
    model: Model, ids: Ids, start: int, at: Positions, firsts: Positions | int, state: State | None
) -> tuple[Tensor, int, State]:
    """Predict the symbols at the positions `at (T, B)` of the part, each from the one before it.

    Returns:
        Nats `(T, B)`, 0 where nothing is scored: before `firsts (B,)`, past the end, and start tokens; the
        number of symbols scored; the state.
    """
    device = next(model.parameters()).device
    last = len(ids) - 1
    inputs = np.where(at == 0, start, ids[(at - 1).clip(0, last)].astype(np.int64))
    targets = ids[at.clip(max=last)].astype(np.int64)
    scored = (at >= firsts) & (at <= last) & (targets != start)
    scores, state = model(torch.from_numpy(inputs).to(device), state)
    nats = functional.cross_entropy(
        scores.flatten(0, 1).float(), torch.from_numpy(targets).to(device).flatten(), reduction="none"
    )
    nats = nats.where(torch.from_numpy(scored).to(device).flatten(), 0.0).view(at.shape)
    return nats, int(scored.sum()), state


def _without_leading(start: int, ids: Ids) -> Ids:
    # the start token that every reading begins with is the first record's own
    return ids[1:] if len(ids) and ids[0] == start else ids


def _nothing(model: nn.Module) -> Tensor:
    """A sum of nats to begin with: in float64 on the model's device, so that no window waits for it."""
    return torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)


def _score(nats: Tensor, symbols: int) -> Score:
    if symbols == 0:
        raise ValueError("the held-out part has no symbol to score; give it a larger share of the text")
    return Score(nats.item() / symbols, symbols)


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
