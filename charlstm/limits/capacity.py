"""How much a model can know by heart: random texts, the search for the longest one, and the measures.

A text of N characters, each drawn uniformly from V symbols, cannot be said in fewer than N log2 V bits: there
is nothing in it to understand. What a model with P trainable parameters holds of it is measured twice.

- Exact recall counts what is proven: N log2 V / P for a text that the model wrote back, character for
  character, reading only its own output, and 0 for any other.
- The soft capacity (Morris et al.: How much do language models memorize?, arXiv 2505.24832, 2025) counts
  what the weights save: (N log2 V - the bits that the text still costs given the weights) / P, at least 0.
  It has a value for texts that are too long to be recalled, too; the most over all lengths is the model's.
"""

import math
import string
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
K = TypeVar("K")

# Letters up to the end of the Armenian alphabet: all of one code point, and written from left to right.
CHARACTERS = (  # of random texts: one of V symbols has the first V
    string.ascii_lowercase
    + string.digits
    + string.ascii_uppercase
    + string.punctuation
    + "".join(filter(str.isalpha, map(chr, range(0xC0, 0x590))))
)


def random_text(length: int, symbols: int, seed: int) -> str:
    """A text of characters that are equally probable, each one of `symbols`; texts of a seed begin alike."""
    # one double a character: integers(...) would not promise the same beginning
    drawn = (np.random.default_rng(seed).random(length) * symbols).astype(np.uint16)
    return np.frombuffer(CHARACTERS.encode("utf-32-le"), "<u4")[drawn].tobytes().decode("utf-32-le")


@dataclass(frozen=True, order=True)
class Shape:
    """A model of which the limit is searched for."""

    cell: str
    layers: int
    hidden: int

    def __str__(self) -> str:
        return f"{self.cell}_{self.layers}x{self.hidden}"


@dataclass(frozen=True)
class Trial:
    """What came of a model and a random text: `recalled` says whether it wrote the text back, and its end,
    from the start token alone, `needed_bits` what the text costs the trained model, its state carried."""

    shape: Shape
    length: int  # characters of the text, N
    symbols: int  # of its alphabet, V
    seed: int  # of the text and of the first weights
    parameters: int  # trainable ones, P
    needed_bits: float
    exposures: int  # how often each character was seen: epochs
    seconds: float  # of training
    recalled: bool
    directory: str  # of the run
    weight_bits: int | None = None  # the fewest with which it still recalls; None: none, or those of a float

    @property
    def bits(self) -> float:
        return self.length * math.log2(self.symbols) if self.recalled else 0.0

    @property
    def bits_per_parameter(self) -> float:
        return self.bits / self.parameters

    @property
    def soft_bits_per_parameter(self) -> float:
        """Soft capacity: the bits of the text that the weights save, over the parameters; at least 0."""
        return max(self.length * math.log2(self.symbols) - self.needed_bits, 0.0) / self.parameters

    def figures(self) -> dict[str, Any]:
        values = asdict(self)
        shape, bits, soft = values.pop("shape"), self.bits_per_parameter, self.soft_bits_per_parameter
        return {**shape, **values, "bits_per_parameter": bits, "soft_bits_per_parameter": soft}


@dataclass(frozen=True)
class Limit:
    """The trials of one model, by length. A length is recalled if any seed recalls it, else it failed."""

    trials: tuple[Trial, ...]

    @property
    def longest(self) -> Trial | None:
        return next((t for t in reversed(self.trials) if t.recalled), None)

    @property
    def failures(self) -> list[Trial]:
        """A trial for each length that failed, the shortest first."""
        seeds = len(self.by_seed)
        tried = grouped(self.trials, lambda t: t.length).values()
        return [t[0] for t in tried if len(t) == seeds and not any(one.recalled for one in t)]

    @property
    def shortest_failure(self) -> Trial | None:
        """The shortest length above the longest success that failed."""
        length = self.longest.length if self.longest else 0
        return next((t for t in self.failures if t.length > length), None)

    @property
    def by_seed(self) -> dict[int, int]:
        """The longest text that each seed was seen to recall; 0 for none."""
        recalled = {trial.seed: 0 for trial in self.trials}
        return recalled | {t.seed: t.length for t in self.trials if t.recalled}

    @property
    def is_monotone(self) -> bool:
        """Whether no length failed that is shorter than one that was recalled."""
        return not self.failures or self.failures[0] == self.shortest_failure

    @property
    def shown(self) -> Trial:
        """What stands for the model in a table: the longest success, or else the shortest failure."""
        return self.longest or self.trials[0]

    @property
    def soft_bits_per_parameter(self) -> float:
        return max(trial.soft_bits_per_parameter for trial in self.trials)

    def figures(self) -> dict[str, Any]:
        """For a table and for programs; `exposures` to `directory` are those of the trial that is shown."""
        failure = self.shortest_failure
        return self.shown.figures() | {
            "soft_bits_per_parameter": self.soft_bits_per_parameter,
            "shortest_failure": failure.length if failure else None,
            "by_seed": self.by_seed,
            "monotone": self.is_monotone,
        }


def limits(trials: Iterable[Trial]) -> list[Limit]:
    """The trials by model, models in the order in which they first come."""
    by_shape = grouped(trials, lambda trial: trial.shape)
    return [Limit(tuple(sorted(found, key=lambda t: (t.length, t.seed)))) for found in by_shape.values()]


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by their keys, both in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def lengths(precision: float) -> Sequence[int]:
    """Those that searches try: each at most `precision` times as long as the one before, or one longer."""
    longest = 10**9  # no search gets there
    if precision < 1.0001:
        return range(1, longest)  # needs no memory
    found = [1]
    while found[-1] < longest:
        found.append(max(found[-1] + 1, int(found[-1] * precision)))
    return found


def search(start: int, precision: float, recalls: Callable[[int], bool]) -> int:
    """The longest of `lengths` that `recalls` was seen to be true of; 0 if there is none.

    From `start` on, at least 1, lengths are doubled up to the first failure, or halved down to the first
    success; then the space between is bisected. One failure may be bad luck: two in a row end the search."""
    grid, recalls = lengths(precision), cache(recalls)
    k = bisect_right(grid, start) - 1
    longest, failure = -1, len(grid)
    while failure == len(grid) or (longest < 0 and failure > 0):
        if recalls(grid[k]):
            longest, k = k, bisect_right(grid, 2 * grid[k]) - 1
        else:
            failure, k = k, bisect_right(grid, max(grid[k] // 2, 1)) - 1
    while 0 <= longest < failure - 1:
        k = (longest + failure) // 2
        longest, failure = (k, failure) if recalls(grid[k]) else (longest, k)
    while longest >= 0 and (above := [k for k in (longest + 1, longest + 2) if recalls(grid[k])]):
        longest = above[-1]
    return grid[longest] if longest >= 0 else 0


@dataclass(frozen=True)
class Growth:
    """How the bits that models of one cell recall grow with their parameters, in bits per parameter."""

    models: int
    free: float  # slope of the line that fits them best, by least squares
    through_origin: float  # of the line through the origin that does


def growth(found: Sequence[Limit]) -> dict[str, Growth]:
    """For each cell; without those whose models are all of one size."""
    result = {}
    for cell, group in grouped(found, lambda limit: limit.shown.shape.cell).items():
        parameters = np.array([limit.shown.parameters for limit in group], float)
        bits = np.array([limit.shown.bits for limit in group])
        if len(set(parameters)) > 1:
            through_origin = parameters @ bits / (parameters @ parameters)
            free = np.polyfit(parameters, bits, 1)[0]
            result[cell] = Growth(len(group), float(free), float(through_origin))
    return result
