"""Text + model -> surprisal: the bits of every character, and of the words, lines and files they make up."""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.model.numpy_model import NumpyModel
from charlstm.text.vocabulary import Ids, Vocabulary, widths

PIECES = {
    "char": re.compile(r"(?s:.)"),
    "word": re.compile(r"\S+\s*|\s+"),
    "line": re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+"),
    "file": re.compile(r"(?s:.+)"),
}
"""What a row can be. Each pattern leaves no character out: a word has the blanks after it, a line its end."""

BLOCK = 1 << 16  # characters at a time
NATS_PER_BIT = math.log(2)


@dataclass(frozen=True, slots=True)
class Row:
    """A piece of a text and what it cost."""

    file: str  # the name of the text
    line: int  # where the piece begins, counted from 1
    position: int  # characters of the text before it
    text: str  # the piece itself
    bits: tuple[float, ...]  # one number for each checkpoint

    @property
    def bits_per_char(self) -> tuple[float, ...]:
        return tuple(bits / len(self.text) for bits in self.bits)

    @property
    def bits_per_byte(self) -> tuple[float, ...]:
        size = len(self.text.encode("utf-8", "surrogateescape"))
        return tuple(bits / size for bits in self.bits)


@dataclass(frozen=True)
class Total:
    """What all texts together cost one checkpoint; bytes are those of UTF-8."""

    checkpoint: str
    characters: int
    bytes: int
    bits: float

    @property
    def bits_per_char(self) -> float:
        return self.bits / self.characters

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.bytes


def surprisal(scores: NDArray[np.floating[Any]], ids: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """-log2 softmax(scores)[id], `(T,)`: what each of `ids (T,)` costs under `scores (T, V)`."""
    relative = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)  # at most 0: no overflow
    chosen = np.take_along_axis(relative, ids[:, None].astype(np.intp), axis=1)[:, 0]
    return np.asarray((np.log(np.exp(relative).sum(axis=1)) - chosen) / NATS_PER_BIT)


def bits(
    model: NumpyModel,
    vocabulary: Vocabulary,
    ids: Ids,
    chunk: int = 256,
    advance: Callable[[int], object] = lambda _: None,
) -> NDArray[np.float64]:
    """The bits of each character given all before it, `(T,)`, from the start token and a zero state, over all
    V ids, as training does. Raises FloatingPointError if a state or a score is not finite. `ids (T,)` are
    without tokens. A `chunk` of steps at a time costs memory, `chunk * V` numbers, and changes no bit of the
    result; `advance` is told how many characters each had, for a progress bar."""
    read = np.concatenate([np.array([vocabulary.start], vocabulary.dtype), ids[:-1]])
    result = np.empty(len(ids))
    state = None
    for begin in range(0, len(ids), chunk):
        here = slice(begin, begin + chunk)
        with np.errstate(all="ignore"):  # the outcome counts
            # A batch of one: the head then makes a product of the same shape at every step. One product for
            # all steps of a chunk is rounded otherwise for another length.
            scores, state = model(read[here, None], state)
            result[here] = surprisal(scores[:, 0], ids[here])
        if not np.isfinite(result[here]).all():
            raise FloatingPointError("the scores are not finite: look for huge numbers in the weights")
        advance(len(result[here]))
    return result


def of_records(
    model: NumpyModel,
    vocabulary: Vocabulary,
    records: Sequence[Ids],
    advance: Callable[[int], object] = lambda _: None,
) -> list[NDArray[np.float64]]:
    """The bits of each character of each record, `(T,)`, given all before it. Between two records, ids `(T,)`
    without tokens, stand the end and the start token, and the state goes on, as in the training."""
    between = np.array([vocabulary.end, vocabulary.start], vocabulary.dtype)
    read = np.concatenate([ids for record in records for ids in (between, record)])[len(between) :]
    found = bits(model, vocabulary, read, advance=advance)
    begins = np.cumsum([0, *(len(record) + len(between) for record in records[:-1])]).tolist()
    return [found[begin : begin + len(record)] for begin, record in zip(begins, records, strict=True)]


def of_characters(bits_of_bytes: NDArray[np.float64], text: str) -> NDArray[np.float64]:
    """The bits of each character of a text, `(T,)`: the sum over its UTF-8 bytes, or where there was a byte
    that is no UTF-8, a lone surrogate in the text, those of that byte."""
    sums, read = np.empty(len(text)), 0
    for begin in range(0, len(text), BLOCK):
        sizes = widths(text[begin : begin + BLOCK])
        ends = read + np.cumsum(sizes)
        sums[begin : begin + BLOCK] = np.add.reduceat(bits_of_bytes[: ends[-1]], ends - sizes)
        read = int(ends[-1])
    return sums


def rows(
    files: Mapping[str, str], scored: Sequence[Mapping[str, NDArray[np.float64]]], per: str
) -> Iterator[Row]:
    """The pieces of every text, one of `PIECES`, in their order. `scored` has for each checkpoint the bits
    `(T,)` of the characters of each text; NaN of what separates records, which is left out."""
    for name, text in files.items():
        lines = [line.start() for line in PIECES["line"].finditer(text)]
        columns = [of_files[name] for of_files in scored]
        is_whole = not np.isnan(columns[0]).any()
        for piece in PIECES[per].finditer(text):
            first, kept = piece.start(), piece[0]
            if not is_whole:
                has_bits = ~np.isnan(columns[0][slice(*piece.span())])
                first, kept = first + int(has_bits.argmax()), "".join(compress(kept, has_bits))
            if kept:
                costs = tuple(_sum(column[slice(*piece.span())]) for column in columns)
                yield Row(name, bisect_right(lines, first), first, kept, costs)


def total(checkpoint: str, files: Mapping[str, str], of_files: Mapping[str, NDArray[np.float64]]) -> Total:
    """The bits of all texts together, without rounding on the way; arguments as for `rows`."""
    characters = size = 0
    for name, bits in of_files.items():
        for k in range(0, len(bits), BLOCK):
            is_one = ~np.isnan(bits[k : k + BLOCK])
            characters += int(is_one.sum())
            size += int(widths(files[name][k : k + BLOCK])[is_one].sum())
    return Total(checkpoint, characters, size, _sum(*of_files.values()))


def _sum(*columns: NDArray[np.float64]) -> float:
    """The sum of bits, but for NaN, without rounding on the way, a block at a time for the memory."""
    blocks = (column[k : k + BLOCK] for column in columns for k in range(0, len(column), BLOCK))
    return math.fsum(bit for block in blocks for bit in block.tolist() if bit == bit)
