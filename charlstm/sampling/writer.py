"""A model that writes, fed its own output: streams side by side, each to its own end. NumPy only."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from charlstm.model.numpy_model import NumpyModel
from charlstm.model.stepper import Stepper
from charlstm.sampling.strategy import Floats, Integers, Strategy
from charlstm.scoring.surprisal import surprisal
from charlstm.text.vocabulary import Ids, Vocabulary


def mask(vocabulary: Vocabulary, ban: str = "", *, ends: bool = True) -> NDArray[np.float64]:
    """A strategy's mask `(V,)`: the start token, which is never a target of training, nor is the end token
    where no text `ends`; the unknown token; the characters of `ban`. ValueError if nothing is left."""
    tokens = [vocabulary.start, vocabulary.unknown, None if ends else vocabulary.end]
    banned = map(vocabulary.characters.find, vocabulary.units(ban))  # -1 where the vocabulary has it not
    mask = np.zeros(len(vocabulary))
    mask[[id_ for id_ in (*tokens, *banned) if id_ is not None and id_ >= 0]] = -np.inf
    if not np.isfinite(mask[: vocabulary.start]).any():
        raise ValueError(f"ban: bans all {vocabulary.start} characters of this checkpoint; leave some")
    return mask


class Writer:
    """B streams that a model writes side by side: what is chosen for each is fed back to it. Here and
    when it reads or writes it raises FloatingPointError if a state or a score is not finite.

    After the start token prompts are read, ids `(T,)`: the same by all streams, or by each its own. To
    measure is to compute `bits (B,)`: -log2 of the model's own probabilities of what was written last."""

    def __init__(
        self,
        model: NumpyModel,
        vocabulary: Vocabulary,
        strategy: Strategy,  # how the next character is chosen; may be changed at any time
        seeds: Sequence[int] = (0,),  # one for each stream, which alone decides its random numbers
        prompts: Sequence[Iterable[int]] = ((),),
        *,
        measure: bool = False,
    ) -> None:
        self.strategy = strategy
        self.bits: Floats = np.zeros(len(seeds))
        self._measure = measure
        self.seed(seeds)
        # one stream reads all prompts, one after the other
        self._stepper = Stepper(model)
        self._scores: Floats = np.empty(0)
        self._rows = np.arange(1)
        read = []
        for prompt in prompts:
            for part in self._stepper.state:
                part[...] = 0
            self._step = 0
            self._last_seen = np.full((1, len(vocabulary)), -(2**62))  # the step of each id
            for id_ in itertools.chain([vocabulary.start], prompt):
                self._read(np.array([id_]))
            state = np.stack([part[:, 0] for part in self._stepper.state])
            read.append((state, self._scores[0].copy(), self._last_seen[0] - self._step))
        states, scores, seen = (part * (len(seeds) // len(read)) for part in zip(*read, strict=True))
        self._step = 0
        self._scores, self._last_seen = np.stack(scores), np.stack(seen)
        if len(seeds) > 1:
            self._stepper = Stepper(model, len(seeds), after=list(np.stack(states, axis=2)))
            self._rows = np.arange(len(seeds))

    def seed(self, seeds: Sequence[int]) -> None:
        """Begin the random numbers of each stream anew, with these seeds."""
        self._random = [np.random.default_rng(seed) for seed in seeds]

    def read(self, ids: Iterable[int]) -> None:
        """Let all streams read ids that they have not written."""
        for id_ in ids:
            self._read(np.full(len(self._random), id_))

    def write(self) -> Integers:
        """The next id of each stream, `(B,)`, chosen and fed back, the end token like any other."""
        uniform = np.array([random.random() for random in self._random])
        repeated = None
        if self.strategy.repetition_penalty != 1:
            repeated = self._last_seen >= self._step - self.strategy.repetition_window
        chosen = self.strategy.choose(self._scores, uniform, repeated)
        if self._measure:
            self.bits = surprisal(self._scores, chosen)
        self._read(chosen)
        return chosen

    def _read(self, ids: Integers) -> None:
        self._last_seen[self._rows, ids] = self._step
        self._step += 1
        self._scores = self._stepper(ids)
        if not np.isfinite(self._scores).all():  # of a finite state the head may yet make more than a float
            raise FloatingPointError("the scores are not finite: look for huge numbers in the weights")


class Passage:
    """Where a text that comes character by character ends: after `length` of them, or before one of `stops`,
    of several that end at the same character the longest. It keeps none of it but what may be cut off.
    `ending` says why it ended: `end` (the end token), `stop` or `length`; None while it goes on."""

    def __init__(self, length: int, stops: Sequence[str] = ()) -> None:
        self.ending: str | None = None if length else "length"
        self._held = ""  # what may turn out to be the beginning of a stop
        self._left = length
        self._stops = sorted(stops, key=len, reverse=True)

    def add(self, character: str | None) -> str:
        """Take the next character, None for the end token; returns what is certain to stay since the last."""
        if character is None:
            return self.finish("end")
        self._held += character
        self._left -= 1
        for stop in self._stops:
            if self._held.endswith(stop):
                self._held = self._held.removesuffix(stop)
                return self.finish("stop")
        if not self._left:
            return self.finish("length")
        rest = self._held
        while rest and not any(stop.startswith(rest) for stop in self._stops):
            rest = rest[1:]
        return self._release(len(self._held) - len(rest))

    def finish(self, ending: str) -> str:
        """End it; returns what was held back."""
        self.ending = ending
        return self._release(len(self._held))

    def _release(self, characters: int) -> str:
        piece, self._held = self._held[:characters], self._held[characters:]
        return piece


def stream(writer: Writer, vocabulary: Vocabulary, passage: Passage) -> Iterator[str]:
    """What a writer of one stream writes, piece by piece, until the passage has ended; bytes one by one,
    those above 127 as the lone surrogate that `surrogateescape` writes as that byte."""
    while passage.ending is None:
        (chosen,) = writer.write().tolist()
        piece = passage.add(None if chosen == vocabulary.end else vocabulary.characters[chosen])
        yield "".join(map(vocabulary.text, piece))


def likeliest(model: NumpyModel, vocabulary: Vocabulary, length: int) -> str:
    """What the model writes from the start token when it always takes the likeliest character."""
    writer = Writer(model, vocabulary, Strategy(mask=mask(vocabulary)))
    return vocabulary.text(vocabulary.units("".join(stream(writer, vocabulary, Passage(length)))))


def recall(model: NumpyModel, vocabulary: Vocabulary, text: Ids) -> int:
    """How many symbols of a text, ids `(N,)` between the start and the end token, come out right before the
    first error in a free run, in which the model reads nothing but its own output: N - 1 if all do."""
    writer = Writer(model, vocabulary, Strategy(mask=mask(vocabulary)))
    for right, wanted in enumerate(text[1:].tolist()):
        if writer.write() != wanted:
            return right
    return len(text) - 1
