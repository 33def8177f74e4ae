"""Ids -> the windows that one epoch trains on. One pass over the windows is an epoch; the recurrent state is
zero before the first and carried from each to the next."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from charlstm.settings import TrainConfig
from charlstm.vocabulary import Ids


class Window(NamedTuple):
    """T steps of B parallel streams: `inputs (T, B)` and, one symbol later, `targets (T, B)`."""

    inputs: Ids
    targets: Ids


def windows(ids: Ids, config: TrainConfig) -> list[Window]:
    """The windows of one epoch over `ids (N,)`, cut as `train.layout` says.

    They are views of `ids` or small arrays of ids; one-hot vectors are made by the model.
    """
    return LAYOUTS[config.layout](ids, config.batch, config.window)


def sequence(ids: Ids, batch: int, window: int) -> list[Window]:
    """The whole text as one sequence in one window: T = N - 1, B = 1."""
    del batch, window
    return [Window(ids[:-1, None], ids[1:, None])]


def staggered(ids: Ids, batch: int, window: int) -> list[Window]:
    """B copies of the text, each starting one symbol later than the one before, in one window.

    At step j the batch reads the symbols j ... j + B - 1 and predicts j + 1 ... j + B; T = N - B.
    """
    del window
    steps = np.lib.stride_tricks.sliding_window_view(ids, batch)  # (N - B + 1, B)
    return [Window(steps[:-1], steps[1:])]


def streams(ids: Ids, batch: int, window: int) -> list[Window]:
    """B contiguous stretches of the text side by side, cut into windows of at most `window` steps.

    Together they predict every symbol but the first. Where N - 1 is no multiple of B, neighbours overlap
    by a symbol rather than leave one out.
    """
    length = -(-(len(ids) - 1) // batch)
    starts = np.arange(batch) * (len(ids) - 1 - length) // max(batch - 1, 1)
    text = ids[starts + np.arange(length + 1)[:, None]]  # (length + 1, B)
    ends = [(t, min(t + window, length)) for t in range(0, length, window)]
    return [Window(text[a:b], text[a + 1 : b + 1]) for a, b in ends]


LAYOUTS: dict[str, Callable[[Ids, int, int], list[Window]]] = {
    "sequence": sequence,
    "staggered": staggered,
    "streams": streams,
}


def shifted_streams(ids: Ids, batch: int, window: int, random: np.random.Generator) -> Iterator[Window]:
    """As `streams`, read from `ids` (which may lie on disk) window by window, from a random place on.

    Every epoch another `0 ... window - 1` ids are left out at the beginning, so that the borders of the
    windows, where gradients stop, move. Every window has `window` steps; the few ids at the end of a stream
    that fill none are left out.

    Args:
        ids: `(N,)`, N above (batch + 1) * window.
    """
    shift = int(random.integers(window))
    length = (len(ids) - 1 - shift) // batch
    starts = [shift + b * length for b in range(batch)]
    for t in range(0, length - window + 1, window):
        text = np.stack([ids[start + t : start + t + window + 1] for start in starts], axis=1)
        yield Window(text[:-1], text[1:])
