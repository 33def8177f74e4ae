"""Ids -> the windows that each epoch trains on."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from charlstm.config.settings import TrainConfig
from charlstm.text.vocabulary import Ids

ANEW = 0.01
"""The probability with which a stream of a corpus begins a window anew, with a zero state (Melis et al. 2018,
"On the state of the art of evaluation in neural language models"). A model that hardly ever met the beginning
of a text may stay lost after it, for as long as the text goes on."""


class Window(NamedTuple):
    """T steps of B parallel streams: `inputs (T, B)` and, one symbol later, `targets (T, B)`, or those of
    the last steps alone. After `handover` steps, `1 ... T`, each stream takes over the state of the one
    before it, and the first begins anew; None: nowhere. `anew (B,)` says which streams begin this window with
    a zero state; None: those that have none yet. The last `beside` streams are of another text: they are no
    part of the handover, nor of the figures."""

    inputs: Any  # ids or, on the device, tensors
    targets: Any
    handover: int | None = None
    anew: NDArray[np.bool_] | None = None
    beside: int = 0

    def of(self, streams: slice) -> "Window":
        """The same of some of the streams; only without a handover and without others beside them."""
        assert self.handover is None
        assert not self.beside
        anew = None if self.anew is None else self.anew[streams]
        return Window(self.inputs[:, streams], self.targets[:, streams], anew=anew)


def windows_of(ids: Ids, config: TrainConfig) -> Callable[[int], list[Window]]:
    """The windows of an epoch over `ids (N,)`, by its number, cut as `train.layout` says."""
    if config.layout == "segments":
        return Segments(ids, config.batch, config.window)
    if config.layout == "staggered":
        cut = staggered(ids, config.batch)
    else:  # sequence: one stream in one window
        cut = streams(ids, config.batch, config.window if config.layout == "streams" else len(ids))
    return lambda _: cut


def staggered(ids: Ids, batch: int) -> list[Window]:
    """B copies of the text, each starting one symbol later than the one before, in one window: at step j the
    batch reads the symbols j ... j + B - 1 and predicts j + 1 ... j + B; T = N - B."""
    steps = sliding_window_view(ids, batch)  # (N - B + 1, B)
    return [Window(steps[:-1], steps[1:])]


def streams(ids: Ids, batch: int, window: int) -> list[Window]:
    """B contiguous stretches of the text side by side, cut into windows of at most `window` steps. Together
    they predict every symbol but the first; neighbours may overlap by a symbol."""
    length = -(-(len(ids) - 1) // batch)
    starts = np.arange(batch) * (len(ids) - 1 - length) // max(batch - 1, 1)
    text = ids[starts + np.arange(length + 1)[:, None]]  # (length + 1, B)
    ends = [(t, min(t + window, length)) for t in range(0, length, window)]
    return [Window(text[a:b], text[a + 1 : b + 1]) for a, b in ends]


class Segments:
    """B contiguous stretches of the text side by side, read round and round: at the end of its own, each
    stream goes on in the next one's, and the first begins anew. The last stretch is filled up with the last
    of `ids (N,)`, the end token, after which nothing else ever comes.

    An epoch begins another part of a window later than the pass over the text does, and is that much longer
    or shorter than the pass, so that no place is always at the border of a window, where gradients stop: what
    comes first after a border that never moves cannot teach the steps before it what to keep for it, and is
    learnt last. It has as many windows as a pass needs if each has at most `window` steps."""

    GOLDEN_RATIO = (math.sqrt(5) - 1) / 2

    def __init__(self, ids: Ids, batch: int, window: int) -> None:
        self._length = -(-(len(ids) - 1) // batch)
        self._windows = -(-self._length // window)
        ids = np.pad(ids, (0, batch * self._length + 1 - len(ids)), mode="edge")
        self._text = sliding_window_view(ids, self._length + 1)[:: self._length].T  # (length + 1, B)

    def __call__(self, epoch: int) -> list[Window]:
        # steps later than a pass, less than a window: the multiples of the golden ratio, without their whole
        # parts, fill the room between 0 and 1 evenly
        window = self._length / self._windows
        begin, next_begin = (int(n * self.GOLDEN_RATIO % 1 * window) for n in (epoch, epoch + 1))
        end, cut = self._length + next_begin, []
        borders = [begin + (end - begin) * k // self._windows for k in range(self._windows + 1)]
        for here, there in pairwise(borders):
            steps, left = np.arange(here, there) % self._length, self._length - here % self._length
            handover = left if left <= len(steps) else None
            cut.append(Window(self._text[steps], self._text[steps + 1], handover))
        return cut


class ShiftedStreams(Sequence[Window]):
    """As `streams`, cut window by window as it is needed. Every epoch another `0 ... window - 1` ids are left
    out at the beginning, so that the borders of the windows, where gradients stop, move; and those at the end
    of a stream that fill no window. `seed` and `epoch` say where the text is cut, so that any window of any
    epoch can be had without those before it. There are more than (batch + 1) * window `ids (N,)`.

    Every stream begins with the token `start`; None: the text has start tokens of its own, and to read them
    in the middle of a record would teach that records begin there."""

    def __init__(self, ids: Ids, batch: int, window: int, start: int | None, seed: int, epoch: int) -> None:
        shift = int(np.random.default_rng(seed).integers(window, size=epoch + 1)[-1])
        length = (len(ids) - 1 - shift) // batch
        self._ids, self._window, self._start = ids, window, start
        self._seed, self._epoch = seed, epoch
        self._begins = [shift + b * length for b in range(batch)]
        self._windows = length // window

    def __len__(self) -> int:
        return self._windows

    def __getitem__(self, n: Any) -> Any:
        if not 0 <= n < self._windows:
            raise IndexError(n)
        here, there = n * self._window, (n + 1) * self._window + 1
        text = np.stack([self._ids[begin + here : begin + there] for begin in self._begins], axis=1)
        inputs, targets = text[:-1].copy(), text[1:]
        random = np.random.default_rng((self._seed, self._epoch, n))
        anew = random.random(len(self._begins)) < (ANEW if n else 1)
        if self._start is not None:
            inputs[0, anew] = self._start
        return Window(inputs, targets, anew=anew)


class Beside(Sequence[Window]):
    """The windows of an epoch, all as long as the first or a list, with so many streams beside them of
    another text, `ids (N,)`. In each epoch every one of these begins at another place, with a zero state, and
    reads on from there, round and round; `start`, `seed` and `epoch` are as for `ShiftedStreams`."""

    def __init__(
        self, windows: Sequence[Window], ids: Ids, streams: int, start: int | None, seed: int, epoch: int
    ) -> None:
        self._windows, self._ids, self._start = windows, ids, start
        self._begins = np.random.default_rng((seed, epoch, 1)).integers(len(ids), size=streams)
        several = windows if isinstance(windows, list) else []
        self._places = [0, *accumulate(len(window.targets) for window in several)]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, n: Any) -> Any:
        window = self._windows[n]
        T, anew = len(window.targets), window.anew
        place = self._places[n] if len(self._places) > 1 else n * T
        at = self._begins + np.arange(place, place + T + 1)[:, None]
        text = self._ids[at % len(self._ids)]
        inputs = text[:-1].copy()
        if self._start is not None and not n:
            inputs[0] = self._start
        anew = np.zeros(window.targets.shape[1], bool) if anew is None else anew
        return window._replace(
            inputs=np.hstack([window.inputs, inputs]),
            targets=np.hstack([window.targets, text[1:]]),
            anew=np.concatenate([anew, np.full(len(self._begins), not n)]),
            beside=len(self._begins),
        )
