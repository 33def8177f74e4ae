"""What a held-out part costs without a network: the bits per character that a model has to beat.

NumPy and the standard library only.
"""

import bz2
import lzma
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from charlstm.text.vocabulary import Ids

ORDER = 5
TRAIN = 4_000_000  # symbols, the last ones of the training part
HELD_OUT = 1_000_000  # symbols, the first ones

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"bz2": bz2.compress, "xz": lzma.compress}


def table(
    train: Ids, held_out: Ids, alphabet: int, as_bytes: Callable[[Ids], bytes], start: int | None = None
) -> dict[str, float]:
    """Bits per character of every baseline, by name.

    So that the time is bounded whatever the corpus, at most the last 4,000,000 symbols of the training part
    and the first 1,000,000 of the held-out part are used; on smaller parts the result is exact.

    Args:
        train: ids `(M,)`.
        held_out: ids `(N,)`, at least one.
        alphabet: how many symbols there can be; all ids are below it.
        as_bytes: ids -> the text that they stand for, for the compressors.
        start: an id that is not scored, as in `held_out.py`.

    Raises:
        ValueError: there is nothing to score.
    """
    train, held_out = np.asarray(train[-TRAIN:]), np.asarray(held_out[:HELD_OUT])
    scored = int((held_out != start).sum()) if start is not None else len(held_out)
    if scored == 0:
        raise ValueError("the held-out part has no symbol to score; give it a larger share of the text")
    text, continued = as_bytes(train), as_bytes(held_out)
    return {
        "uniform": math.log2(alphabet),
        "unigram": ngram(train, held_out, alphabet, 1, start),
        f"{ORDER}-gram": ngram(train, held_out, alphabet, ORDER, start),
        **{name: compressed(name, text, continued, scored) for name in COMPRESSORS},
    }


def compressed(name: str, train: bytes, held_out: bytes, characters: int) -> float:
    """Bits per character that the held-out part, of so many characters, adds to the compressed training."""
    compress = COMPRESSORS[name]
    return (len(compress(train + held_out)) - len(compress(train))) * 8 / characters


def ngram(train: Ids, held_out: Ids, alphabet: int, order: int = ORDER, start: int | None = None) -> float:
    """Bits per symbol under interpolated n-grams of `train`, of `order` symbols, the predicted one included;
    arguments otherwise as for `table`."""
    probability = probabilities(train, held_out, alphabet, order)
    if start is not None:
        probability = probability[held_out != start]
    return float(-np.log2(probability).mean())


def probabilities(train: Ids, held_out: Ids, alphabet: int, order: int = ORDER) -> NDArray[np.float64]:
    """The probability `(N,)` of each held-out symbol given those before it in `held_out`, by Witten-Bell.

        P_k(s | h) = (count(h s) + kinds(h) P_k-1(s | h')) / (count(h) + kinds(h)),   P_0 = 1 / alphabet

    (Witten and Bell 1991, as interpolated by Chen and Goodman 1998). h is the k - 1 symbols before s and h'
    the same without the first; count(h) is how often h was followed by something in `train`, and kinds(h)
    by how many different symbols. P_k = P_k-1 where h was never seen, so that nothing has probability 0.
    """
    probability = np.full(len(held_out), 1 / alphabet)
    # The context before each symbol as a number: the place of its n-gram among the known ones, so that a
    # longer n-gram is a small integer too, however many symbols there are. -1: not in `train`.
    contexts, size = np.zeros(len(train), np.int64), 1
    seen = np.zeros(len(held_out), np.int64)
    for k in range(1, order + 1):
        grams = contexts * alphabet + train[k - 1 :]
        known, numbers, counts = np.unique(grams, return_inverse=True, return_counts=True)
        if not len(known):
            break
        followed = np.bincount(known // alphabet, counts, minlength=size)
        kinds = np.bincount(known // alphabet, minlength=size)

        wanted = np.where(seen >= 0, seen * alphabet + held_out[k - 1 :], -1)
        found = known.searchsorted(wanted).clip(max=len(known) - 1)
        hit = known[found] == wanted
        total, new = np.where(seen >= 0, followed[seen], 0), np.where(seen >= 0, kinds[seen], 0)
        shorter = probability[k - 1 :]
        longer = (counts[found] * hit + new * shorter) / np.maximum(total + new, 1)
        probability[k - 1 :] = np.where(total > 0, longer, shorter)

        contexts, size = numbers[:-1], len(known)
        seen = np.where(hit, found, -1)[:-1]
    return probability
