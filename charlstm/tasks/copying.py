"""`task=copy`: read random symbols, then write them back. The plan, the sequences, and the examination.

A sequence of length L is `<start> s_1 ... s_L > s_1 ... s_L <end>`, with symbols a, b, c, ... that are drawn
anew each time, so that nothing but the state can carry them: what is measured is the memory of the state, not
of the weights (Hochreiter & Schmidhuber 1997, "Long short-term memory"; Graves et al. 2014, "Neural Turing
machines"; Arjovsky et al. 2016, "Unitary evolution recurrent neural networks"). Needs no torch.
"""

import math
import string
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from charlstm.config.settings import TrainSettings
from charlstm.config.values import refuse
from charlstm.model.numpy_model import NumpyModel
from charlstm.model.stepper import Stepper
from charlstm.runs.plan import Plan
from charlstm.runs.resume import Saved, resumed
from charlstm.sampling.writer import mask
from charlstm.text.corpus import Fingerprint
from charlstm.text.vocabulary import Ids, Vocabulary
from charlstm.training import recipe
from charlstm.training.windows import Window

SEPARATOR = ">"

# Share of the symbols that a proof wants right, and how many sequences it has.
PASSED, PROVEN_ON = 0.99, 10_000

# The same of an examination. It wants a little more: of many attempts the one that passes was lucky, too.
EXAMINED, SEQUENCES = 0.992, 1000

# What sequences are drawn for, beside the seed: what one is examined on was not trained on because of it.
TRAINING, EXAMINATION, PROOF = 1, 2, 3


def plan(settings: TrainSettings, saved: Saved | None) -> "CopyPlan":
    """What it takes to learn to copy. Raises ValueError if what is asked for has no meaning there."""
    usual = {"text": None, "path": None, "unit": "char", "alphabet": None, "min_count": 1, "records": "none"}
    refuse("data", settings.data, usual, "task=copy draws symbols of its own")
    refuse("train", settings.train, {"layout": "auto"}, "task=copy trains sequences side by side")
    recipe.refuse_undecided(settings.train, "copy")
    if settings.init is not None:
        raise ValueError(f"init = {settings.init}: works with task=memorize or lm; leave it out")
    known = vocabulary(settings.copy.symbols)
    settings.model.fit_vocabulary(len(known))
    return CopyPlan(
        settings=settings,
        config=settings.train,
        vocabulary=known,
        data=Fingerprint.of_text(known.characters),
        text_length=0,
        window=steps(1),
        resumed=resumed(settings, saved, known, None),
    )


class CopyPlan(Plan):
    def describe_task(self) -> Iterator[str]:
        symbols, config = self.settings.copy.symbols, self.config
        yield f"sequences of {symbols} random symbols, to be written back"
        most = f"at most {config.epochs:,} batches of {config.batch:,} sequences"
        yield f"{self.model}; {self.machine}; {most}"


def vocabulary(symbols: int) -> Vocabulary:
    """The first so many letters, at most 26, which have the ids from 0 on, and the separator."""
    return Vocabulary(string.ascii_lowercase[:symbols] + SEPARATOR)


def sequences(vocabulary: Vocabulary, length: int, count: int, seeds: tuple[int, ...]) -> Ids:
    """`count` random sequences side by side, `(2 * length + 3, count)`; `seeds` alone decide the symbols."""
    symbols = np.random.default_rng(seeds).integers(vocabulary.start - 1, size=(length, count))
    row, start = partial(np.full, (1, count)), vocabulary.start
    parts = [row(start), symbols, row(start - 1), symbols, row(vocabulary.end)]
    return np.concatenate(parts).astype(vocabulary.dtype)


def window(vocabulary: Vocabulary, length: int, batch: int, seeds: tuple[int, ...]) -> Window:
    """Sequences to train on: inputs `(T, batch)`; targets `(length + 1, batch)` for the last
    steps alone, those from the separator on, for there is no telling what is read before it."""
    ids = sequences(vocabulary, length, batch, seeds)
    return Window(ids[:-1], ids[length + 2 :])


def steps(length: int) -> int:
    """T of such a window."""
    return 2 * length + 2


def right(model: NumpyModel, vocabulary: Vocabulary, ids: Ids) -> float:
    """The share of symbols that a model writes back right, each in its place, reading nothing but its own
    output after the separator, the likeliest each time. FloatingPointError if a state is not finite."""
    length, count = len(ids) // 2 - 1, ids.shape[1]
    stepper, never = Stepper(model, count), mask(vocabulary)
    for read in ids[: length + 2]:
        scores = stepper(read)
    found = 0.0
    for wanted in ids[length + 2 : -1]:
        written = (scores + never).argmax(axis=1)
        found += float((written == wanted).mean())
        scores = stepper(written)
    return found / length


def climb(
    model: NumpyModel, vocabulary: Vocabulary, length: int, seeds: tuple[int, ...]
) -> Iterator[tuple[int, float]]:
    """Examine a model on sequences of `length`, and on ever longer ones as long as it passes, twice each:
    yields each length and the share of symbols right; the last is the first that is below `EXAMINED`."""
    share = 1.0
    while share >= EXAMINED:
        for part in (1, 2):  # of many attempts one may pass by luck, but hardly twice in a row
            ids = sequences(vocabulary, length, SEQUENCES, (*seeds, length, part))
            share = right(model, vocabulary, ids)
            if share < EXAMINED:
                break
        yield length, share
        length += max(1, length // 20)


def prove(model: Callable[[int], NumpyModel], known: Vocabulary, most: int, seed: int) -> tuple[int, float]:
    """The greatest length up to `most`, at least 1, at which the `model` for it passes on `PROVEN_ON` new
    sequences, and the share of symbols right; 0 if there is none, and the share of single symbols."""
    for tried in range(most, 0, -1):
        ids = sequences(known, tried, PROVEN_ON, (seed, PROOF, tried))
        share = right(model(tried), known, ids)
        if share >= PASSED:
            return tried, share
    return 0, share


def bits(length: int, symbols: int, share: float) -> float:
    """What a state holds at least that gives back L symbols out of V, this share of them right:
    L (log2 V - H(e) - e log2(V - 1)), e the share of wrong ones and H the entropy of a coin that falls so, by
    Fano's inequality (Cover & Thomas 2006, "Elements of information theory", 2.10)."""
    error = 1 - share
    entropy = -sum(p * math.log2(p) for p in (error, share) if p > 0)
    return length * (math.log2(symbols) - entropy - error * math.log2(symbols - 1))
