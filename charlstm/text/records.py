"""Bytes -> text -> symbols, in blocks: a corpus of any size in the memory of a few of them.

Symbols are the characters of the text, and a mark at the beginning and at the end of each record. The marks
are lone surrogates, code points that no text in any encoding has.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from charlstm.config.settings import DataConfig, Records
from charlstm.text.decoding import CONTROLS, answered_decoding, has_byte_order_mark
from charlstm.text.vocabulary import Ids, Vocabulary, as_code_points

START, END = "\ud800", "\ud801"
CODE_POINTS = 0x110000

# as indices of a table of all code points
CONTROL_POINTS = list(map(ord, CONTROLS))

LINE_END = r"(?>\r\n|\r|\n)"  # atomic: \r\n is never taken for two
SEPARATORS = {
    "line": re.compile(rf"{LINE_END}+"),
    "blank": re.compile(rf"{LINE_END}(?>[ \t]*{LINE_END})+"),
}
BEFORE = {"line": re.compile(r"[\r\n]*"), "blank": re.compile(r"(?>[ \t]*[\r\n])*")}
"""What separates, and what is left out before a record's first character."""
HELD = {"line": "\r\n", "blank": "\r\n \t"}
"""Characters whose meaning shows only with what comes after them."""


@dataclass
class Survey:
    """What a corpus consists of.

    Attributes:
        counts: how often each code point occurs among the symbols, marks included.
        size, characters: bytes and characters in all, separators of records included, byte order marks not.
        lf, cr, crlf: line ends of each kind.
        bom: whether a source begins with a byte order mark.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CODE_POINTS, np.int64))
    size: int = 0
    characters: int = 0
    lf: int = 0
    cr: int = 0
    crlf: int = 0
    bom: bool = False

    def watch_bytes(self, blocks: Iterable[bytes], config: DataConfig) -> Iterator[bytes]:
        """The same blocks, which are looked at on their way."""
        for n, block in enumerate(blocks):
            self.size += len(block)
            if n == 0 and config.unit == "char":
                self.bom |= has_byte_order_mark(block, config.encoding)
            yield block

    def watch_text(self, texts: Iterable[str]) -> Iterator[str]:
        """The same texts, which are looked at on their way."""
        last = ""
        for text in texts:
            returns = text.count("\r")
            pairs = (text.count("\r\n") if returns else 0) + (last == "\r" and text[0] == "\n")
            self.characters += len(text)
            self.crlf += pairs
            self.lf += text.count("\n") - pairs
            self.cr += returns - pairs  # of a pair between two pieces, its \r came before
            last = text[-1]
            yield text

    def add(self, symbols: str) -> None:
        """Count symbols."""
        found = np.bincount(as_code_points(symbols))
        self.counts[: len(found)] += found

    def controls(self) -> int:
        """How many control characters there are that no text needs."""
        return int(self.counts[CONTROL_POINTS].sum())


def texts(blocks: Iterable[bytes], name: str, config: DataConfig) -> Iterator[str]:
    """The text of a source in pieces, none of them empty, without a byte order mark.

    Raises:
        ValueError: the bytes are not text in `data.encoding`.
    """
    offset, is_first = 0, config.unit == "char"
    with answered_decoding(name, config.encoding, "data."):
        "a".encode(config.encoding)  # which, unlike a decoder, must exist and be one of texts
        encoding = "latin-1" if config.unit == "byte" else config.encoding
        errors = "replace" if config.errors == "replace" else "strict"
        decoder = codecs.getincrementaldecoder(encoding)(errors)
    for block in _ended(blocks):
        kept = len(decoder.getstate()[0])
        with answered_decoding(name, config.encoding, "data.", offset - kept):
            text = decoder.decode(block, final=not block)
        offset += len(block)
        if text and is_first:
            text, is_first = text.removeprefix("\ufeff"), False
        if text:
            yield text


def marked(texts: Iterable[str], records: Records) -> Iterator[str]:
    """The text of a source with a mark at both ends of each record, without what separates them."""
    if records == "none":
        yield from texts
    elif records == "file":
        mark = START
        for text in texts:
            yield mark + text
            mark = ""
        yield END if not mark else ""
    else:
        yield from _separated(texts, records)


def _separated(texts: Iterable[str], records: Records) -> Iterator[str]:
    separator, before, held_back = SEPARATORS[records], BEFORE[records], HELD[records]
    held, between = "", True
    for text in texts:
        text = held + text
        if between:
            text = text[_end(before, text) :]
        body = text.rstrip(held_back)
        held = text[len(body) :]
        if body:
            yield (START if between else "") + separator.sub(END + START, body)
            between = False
        if not between and (gap := separator.search(held)):
            yield held[: gap.start()] + END
            held, between = held[gap.start() :], True
            held = held[_end(before, held) :]
    if not between:
        yield re.split("[\r\n]", held, maxsplit=1)[0] + END


def _end(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    assert found is not None
    return found.end()


def _ended(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield from blocks
    yield b""


class Encoder:
    """Symbols -> ids, by a table of all code points.

    A symbol that the vocabulary has not becomes its unknown token.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        unknown = 0 if vocabulary.unknown is None else vocabulary.unknown
        self._table = np.full(CODE_POINTS, unknown, vocabulary.dtype)
        self._table[as_code_points(vocabulary.characters)] = np.arange(vocabulary.start)
        self._table[[ord(START), ord(END)]] = vocabulary.start, vocabulary.end
        self._of_bytes = self._table[:256].tobytes() if vocabulary.dtype == np.uint8 else None

    def __call__(self, symbols: str) -> bytes | memoryview:
        """The ids of symbols, as they are stored."""
        if self._of_bytes is not None:
            try:
                return symbols.encode("latin-1").translate(self._of_bytes)
            except UnicodeEncodeError:
                pass
        ids: Ids = self._table[as_code_points(symbols)]
        return ids.data
