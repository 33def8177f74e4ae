"""Ids -> the windows that one epoch trains on. One pass over the windows is an epoch; the recurrent state is
zero before the first and carried from each to the next."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from charlstm.settings import TrainConfig
from charlstm.vocabulary import Ids


class Window(NamedTuple):
    """T steps of B parallel streams: `inputs (T, B)` and, one symbol later, `targets (T, B)`, or those of
    the last steps alone."""

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


def segments(ids: Ids, batch: int, window: int) -> list[Window]:
    """As `streams`, but without overlap, so that each begins where the one before it ends: the last is filled
    up with the end token, after which nothing else ever comes."""
    length = -(-(len(ids) - 1) // batch)
    ids = np.pad(ids, (0, batch * length + 1 - len(ids)), mode="edge")
    return streams(ids, batch, window)


LAYOUTS: dict[str, Callable[[Ids, int, int], list[Window]]] = {
    "sequence": sequence,
    "staggered": staggered,
    "streams": streams,
    "segments": segments,
}


class ShiftedStreams(Sequence[Window]):
    """As `streams`, read from `ids` (which may lie on disk) window by window, from a place on that is another
    in every epoch.

    Every epoch another `0 ... window - 1` ids are left out at the beginning, so that the borders of the
    windows, where gradients stop, move. Every window has `window` steps; the few ids at the end of a stream
    that fill none are left out.

    Args:
        ids: `(N,)`, N above (batch + 1) * window.
        start: what every stream reads first, the start token; None for a text that has start tokens of its
            own: reading them in the middle of a record would teach that records begin there.
        seed, epoch: together they say where the text is cut, so that any window of any epoch can be had
            without those before it.
    """

    def __init__(
        self, ids: Ids, batch: int, window: int, *, start: int | None, seed: int, epoch: int
    ) -> None:
        shift = int(np.random.default_rng(seed).integers(window, size=epoch + 1)[-1])
        length = (len(ids) - 1 - shift) // batch
        self._ids, self._window, self._start = ids, window, start
        self._begins = [shift + b * length for b in range(batch)]
        self._windows = length // window

    def __len__(self) -> int:
        return self._windows

    def __getitem__(self, n: Any) -> Any:
        if not 0 <= n < self._windows:
            raise IndexError(n)
        here, there = n * self._window, (n + 1) * self._window + 1
        text = np.stack([self._ids[begin + here : begin + there] for begin in self._begins], axis=1)
        inputs, targets = text[:-1], text[1:]
        if n == 0 and self._start is not None:
            inputs = inputs.copy()
            inputs[0] = self._start
        return Window(inputs, targets)
