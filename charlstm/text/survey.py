"""What a corpus consists of: counted while its sources go by, and then told as facts."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.config.settings import DataConfig
from charlstm.text.decoding import CONTROLS, has_byte_order_mark, may_have_mark
from charlstm.text.vocabulary import as_code_points

CodePoints = NDArray[np.unsignedinteger[Any]]

# as indices of a table of all code points
CONTROL_POINTS = np.array([ord(control) for control in CONTROLS])
SURROGATES = slice(0xD800, 0xE000)


class Survey:
    """What one source, or several, consists of.

    Attributes:
        counts: how often each code point occurs among the symbols, marks included; as long as it need be.
        sha256: the digest of its bytes, so far.
        size, characters: bytes and characters in all, separators of records included, byte order marks not.
        cr, crlf: line ends of each kind, but for the usual one.
        bom: whether it began with a byte order mark.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)
        self.sha256 = hashlib.sha256()
        self.size = self.characters = self.cr = self.crlf = 0
        self.bom = False

    def watch_bytes(self, blocks: Iterable[bytes], config: DataConfig) -> Iterator[bytes]:
        """The same blocks, which are looked at on their way."""
        for block in blocks:
            if not self.size and may_have_mark(config):
                self.bom = has_byte_order_mark(block, config.encoding)
            self.size += len(block)
            self.sha256.update(block)
            yield block

    def watch_text(self, texts: Iterable[str]) -> Iterator[str]:
        """The same texts, which are looked at on their way."""
        last = ""
        for text in texts:
            returns = text.count("\r")
            pairs = (text.count("\r\n") if returns else 0) + (last == "\r" and text[0] == "\n")
            self.characters += len(text)
            self.crlf += pairs
            self.cr += returns - pairs  # of a pair between two pieces, its \r came before
            last = text[-1]
            yield text

    def add(self, symbols: str) -> CodePoints:
        """Count symbols; returns their code points `(T,)` in a type that holds the largest of them."""
        points = as_code_points(symbols)
        counts = np.bincount(points)
        self._count(counts)
        return points.astype(np.uint16) if points.itemsize > 2 and len(counts) <= 1 << 16 else points

    def merge(self, other: "Survey") -> None:
        """Count all that another one, which is no longer needed, has counted."""
        self._count(other.counts)
        for name in ("size", "characters", "cr", "crlf"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.bom |= other.bom

    def _count(self, counts: NDArray[np.int64]) -> None:
        if len(counts) > len(self.counts):
            self.counts, counts = counts, self.counts
        self.counts[: len(counts)] += counts

    def controls(self) -> int:
        """How many control characters there are that no text needs."""
        return int(self.counts[CONTROL_POINTS[len(self.counts) > CONTROL_POINTS]].sum())


@dataclass(frozen=True)
class Facts:
    """What a corpus is, for reports; all numbers are counts, and what `Survey` has is as it has it.

    Attributes:
        source: what messages call it.
        files, left_out: that were read; that were not, for they are not text in `data.encoding`.
        distinct: different characters among the symbols.
        rare: symbols that became the unknown token.
        symbols: ids: the characters without what separates records, and two tokens for each record.
    """

    source: str
    files: int
    left_out: int
    bytes: int
    characters: int
    distinct: int
    rare: int
    cr: int
    crlf: int
    bom: bool
    records: int
    symbols: int
