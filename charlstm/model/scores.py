"""What scores are worth: nats and bits. Needs no torch."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

NATS_PER_BIT = math.log(2)


def surprisal(scores: NDArray[np.floating[Any]], ids: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """-log2 softmax(scores)[id], `(T,)`: what each of `ids (T,)` costs under `scores (T, V)`."""
    relative = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)  # at most 0: no overflow
    chosen = np.take_along_axis(relative, ids[:, None].astype(np.intp), axis=1)[:, 0]
    bits: NDArray[np.float64] = (np.log(np.exp(relative).sum(axis=1)) - chosen) / math.log(2)
    return bits
