"""How many bits a weight needs: those of a model that knows a text are rounded, and it is proven anew."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.checkpoint import Checkpoint
from charlstm.sampling import writer
from charlstm.text.vocabulary import Ids

BITS = (16, 12, 10, 9, 8, 7, 6, 5, 4, 3)
FILE = "rounded.safetensors"


def rounded(weights: Mapping[str, NDArray[np.floating[Any]]], bits: int) -> dict[str, NDArray[np.float32]]:
    """Weights that could be stored in so many bits each, the sign included, and a float for each row of a
    matrix and each vector: whole multiples of that, the largest of them 2^(bits - 1) - 1 times as large."""
    found = {}
    for name, weight in weights.items():
        scale = np.abs(weight).max(axis=-1, keepdims=True) / (2 ** (bits - 1) - 1)
        found[name] = np.rint(weight / np.where(scale, scale, 1)) * scale
    return {name: weight.astype(np.float32) for name, weight in found.items()}


def rounded_most(model: Checkpoint, ids: Ids) -> tuple[int | None, Checkpoint]:
    """The fewest of `BITS` to which the weights of a model can be rounded so that it still writes a text, ids
    `(N,)` without start and end token, by heart; and the model then. None and the model itself if the most
    are too few."""
    fewest, best, framed = None, model, model.vocabulary.framed(ids)
    for bits in BITS:
        tried = replace(model, weights=rounded(model.weights, bits), training=None, arrays={})
        if writer.recall(tried.model(), tried.vocabulary, framed) < len(framed) - 1:
            break
        fewest, best = bits, tried
    return fewest, best
