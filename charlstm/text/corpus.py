"""A request for text -> its vocabulary and its ids on disk, in three parts."""

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from charlstm.config.settings import DataConfig
from charlstm.text import source
from charlstm.text.cache import Facts, encoded
from charlstm.text.vocabulary import Ids, Vocabulary

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Dataset:
    """An encoded corpus.

    Attributes:
        vocabulary: its characters.
        train, valid, test: ids `(N,)` each, read-only, memory-mapped views of one file; those that
            `data.split` gives nothing are empty.
        facts: for reports.
    """

    vocabulary: Vocabulary
    train: Ids
    valid: Ids
    test: Ids
    facts: Facts

    def fingerprint(self) -> dict[str, Any]:
        """Size in bytes and SHA-256 of the text."""
        return {"size": self.facts.bytes, "sha256": self.facts.sha256}


def build(config: DataConfig) -> Dataset:
    """The corpus that `data` asks for, from the cache if it was encoded before.

    Raises:
        ValueError: there is no text, it cannot be read, it does not fit `data.alphabet`, or a part that
            `data.split` asks for has nothing to predict.
    """
    if config.alphabet is not None and config.min_count > 1:
        raise ValueError(
            f"data.min_count = {config.min_count}: data.alphabet says already which characters are known; "
            "leave one of them out"
        )
    if config.text is not None:
        config = replace(config, encoding="utf-8")  # which it was, before it was decoded
    ids, vocabulary, facts = encoded(source.find(config), config)
    cuts = _cuts(ids, config, vocabulary.start)
    parts = {part: ids[a:b] for part, (a, b) in zip(PARTS, pairwise(cuts), strict=True)}
    for (part, here), share in zip(parts.items(), config.split, strict=True):
        if share and len(here) < 2:
            raise ValueError(
                f"data.split = {list(config.split)}: of {len(ids)} symbols, {facts.records} records, "
                f"{part} gets {len(here)}, which leaves nothing to predict; give it more, or 0, or more text"
            )
    train, valid, test = parts.values()
    name = "data.text" if config.text is not None else str(config.path)
    facts = replace(facts, source=name, train=len(train), valid=len(valid), test=len(test))
    return Dataset(vocabulary, train, valid, test, facts)


def _cuts(ids: Ids, config: DataConfig, start: int) -> list[int]:
    """Where the parts begin, and the end; with records, each at the nearest record's beginning."""
    *sums, whole = accumulate(config.split)
    cuts = [round(len(ids) * (part / whole)) for part in sums]
    if config.records != "none":
        cuts = [_nearest_record(ids, cut, start) for cut in cuts]
    return [0, *cuts, len(ids)]


def _nearest_record(ids: Ids, wanted: int, start: int) -> int:
    step = source.BLOCK
    after, before = len(ids), 0
    for begin in range(wanted, len(ids), step):
        if (starts := np.flatnonzero(ids[begin : begin + step] == start)).size:
            after = begin + int(starts[0])
            break
    for end in range(wanted, 0, -step):
        begin = max(0, end - step)
        if (starts := np.flatnonzero(ids[begin:end] == start)).size:
            before = begin + int(starts[-1])
            break
    # the first record always belongs to the training part
    return after if after - wanted <= wanted - before or before == 0 else before
