"""What a held-out part costs without a network: the bits that a model has to beat."""

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
LEAST = 1_000  # bytes of which the size of a compressed file says something; xz's is a multiple of 4 bytes

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"bz2": bz2.compress, "xz": lzma.compress}


def ngrams(train: Ids, held_out: Ids, alphabet: int, start: int) -> dict[str, float]:
    """Bits per symbol of n-grams and of a uniform guess, by name. Raises ValueError if there is nothing to
    score. Of larger parts, ids `(M,)` and `(N,)`, the last `TRAIN` and the first `HELD_OUT` symbols are used.

    `alphabet` says how many symbols can follow, at any place; predicting the token `start` is not scored."""
    train, held_out = np.asarray(train[-TRAIN:]), np.asarray(held_out[:HELD_OUT])
    scored = held_out != start
    if not scored.any():
        raise ValueError("the held-out part has no symbol to score; give it a larger share of the text")
    bits = {"uniform": math.log2(alphabet)}
    for name, order in {"unigram": 1, f"{ORDER}-gram": ORDER}.items():
        probability = probabilities(train, held_out, alphabet, order)
        bits[name] = float(-np.log2(probability[scored]).mean())
    return bits


def compressed(train: bytes, held_out: bytes) -> dict[str, int]:
    """The bits that the held-out part adds to the compressed training part, by the compressor's name; of a
    part below 1,000 bytes nothing, for it would say more about the format than about the text.

    xz finds again what it saw in the last 8 MiB. bz2 compresses blocks of 900 kB each on its own: of a longer
    training part it knows only what shares a block with the held-out one."""
    if len(held_out) < LEAST:
        return {}
    whole = train + held_out
    return {name: 8 * (len(pack(whole)) - len(pack(train))) for name, pack in COMPRESSORS.items()}


def probabilities(train: Ids, held_out: Ids, alphabet: int, order: int = ORDER) -> NDArray[np.float64]:
    """The probability `(N,)` of each held-out symbol given those before it in `held_out`, by Witten-Bell.

        P_k(s | h) = (count(h s) + kinds(h) P_k-1(s | h')) / (count(h) + kinds(h)),   P_0 = 1 / alphabet

    (Witten and Bell 1991, as interpolated by Chen and Goodman 1998). h is the k - 1 symbols before s and h'
    the same without the first; count(h) is how often h was followed by something in `train`, and kinds(h)
    by how many different symbols. P_k = P_k-1 where h was never seen, so that nothing has probability 0."""
    base = 1 + max(int(ids.max(initial=0)) for ids in (train, held_out))
    probability = np.full(len(held_out), 1 / alphabet)
    # The context before each symbol as a number: the place of its n-gram among the known ones, so that a
    # longer n-gram is a small integer too, however many symbols there are. -1: not in `train`.
    contexts, size = np.zeros(len(train), np.int64), 1
    seen = np.zeros(len(held_out), np.int64)
    for k in range(1, order + 1):
        grams = contexts * base + train[k - 1 :]
        known, numbers, counts = np.unique(grams, return_inverse=True, return_counts=True)
        if not len(known):
            break
        followed = np.bincount(known // base, counts, minlength=size)
        kinds = np.bincount(known // base, minlength=size)

        wanted = np.where(seen >= 0, seen * base + held_out[k - 1 :], -1)
        found = known.searchsorted(wanted).clip(max=len(known) - 1)
        hit = known[found] == wanted
        total, new = np.where(seen >= 0, followed[seen], 0), np.where(seen >= 0, kinds[seen], 0)
        shorter = probability[k - 1 :]
        longer = (counts[found] * hit + new * shorter) / np.maximum(total + new, 1)
        probability[k - 1 :] = np.where(total > 0, longer, shorter)

        contexts, size = numbers[:-1], len(known)
        seen = np.where(hit, found, -1)[:-1]
    return probability
