"""Which units of a network follow what a reader follows, such as the position in a line. NumPy only."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.cells.gates import STATE
from charlstm.cells.numpy_cells import Array, Terms
from charlstm.text.vocabulary import widths

FEATURES = ("line position", "indentation", "inside quotes", "inside brackets", "capital", "word end")


class Telling(NamedTuple):
    """A unit, counted from 0 as its layer is, whose state, h or c, goes with a feature of the text."""

    feature: str
    layer: int
    unit: int
    state: str
    correlation: float


def features(text: str) -> NDArray[np.float64]:
    """What a reader knows after each character, `(T, F)` in the order of `FEATURES`: columns since the line
    began, blanks that it began with, and 1 or 0 for the others."""
    rows: list[tuple[float, ...]] = []
    position = indentation = depth = quoted = 0
    for here, following in zip(text, f"{text[1:]} ", strict=False):
        at_end = here in "\r\n"
        position, indentation = (0, 0) if at_end else (position + 1, indentation)
        indentation += here in " \t" and indentation == position - 1
        quoted = int(here == "“") if here in "“”" else quoted ^ (here == '"')
        depth = max(0, depth + (here in "([{") - (here in ")]}"))
        ends = here.isalnum() and not following.isalnum()
        rows.append((position, indentation, quoted, depth > 0, here.isupper(), ends))
    return np.array(rows)


def by_character(terms: Terms, text: str) -> Terms:
    """What `Model.trace` has of a text, `(T, L, H)` for its characters: of one's bytes the last counts."""
    last = np.cumsum(widths(text)) - 1
    return terms if len(terms["h"]) == len(text) else {name: term[last] for name, term in terms.items()}


def telling(cell: str, terms: Terms, text: str) -> list[Telling]:
    """For each feature that varies in a text `(T,)` the three states, h or c `(T, L, H)`, that have the
    largest correlation with it (Pearson's), positive or negative; the most telling first."""
    if not text:
        return []
    found = []
    for feature, of_units in zip(FEATURES, correlations(cell, terms, text), strict=True):
        for best in np.argsort(-np.abs(of_units), axis=None, kind="stable")[:3]:
            k, layer, unit = map(int, np.unravel_index(best, of_units.shape))
            found.append(Telling(feature, layer, unit, STATE[cell][k], float(of_units[k, layer, unit])))
    return sorted((one for one in found if one.correlation), key=lambda one: -abs(one.correlation))


def correlations(cell: str, terms: Terms, text: str) -> Array:
    """Pearson's correlation of each of `FEATURES` with each state, `(F, S, L, H)`: of h or of h and c."""
    states = np.stack([terms[name] for name in STATE[cell]], axis=1)  # (T, S, L, H)
    columns = _standardised(states.reshape(len(text), -1))
    return (_standardised(features(text)).T @ columns / len(text)).reshape(-1, *states.shape[1:])


def _standardised(columns: Array) -> Array:
    """Each column with mean 0 and variance 1, or all zeros where it does not vary."""
    centred = columns - columns.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    return np.asarray(centred / np.where(deviation > 1e-9, deviation, np.inf))
