"""Sources -> the draft of a corpus: the code points of its symbols, and all that is known of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.config.settings import DataConfig
from charlstm.progress_bar import progress_bar
from charlstm.text import decoding, vocabulary
from charlstm.text.decoding import BinaryError, UndecodableError
from charlstm.text.records import END, START, marked
from charlstm.text.source import Source
from charlstm.text.vocabulary import CODE_POINTS, UnknownCharacterError, Vocabulary, as_code_points, describe

CodePoints = NDArray[np.unsignedinteger[Any]]

# as indices of a table of all code points
CONTROL_POINTS = np.array([ord(control) for control in decoding.CONTROLS])
SURROGATES = slice(0xD800, 0xE000)


@dataclass
class Facts:
    """What a corpus is, for reports; all numbers are counts."""

    source: str  # what messages call it
    files: int = 0
    left_out: int = 0  # files that are not text in `data.encoding`
    bytes: int = 0
    characters: int = 0  # separators of records included, byte order marks not
    distinct: int = 0  # among the symbols
    rare: int = 0  # symbols that become the unknown token
    cr: int = 0  # line ends
    crlf: int = 0
    bom: bool = False  # whether a source began with a byte order mark
    records: int = 0


class Draft:
    """The symbols of sources, `points (N,)`, and how often each code point occurs among them, marks included;
    what is known of them, but for what is rare; `kept` are the sources that are text. Raises ValueError if a
    source cannot be read, or is wrong."""

    def __init__(self, sources: list[Source], config: DataConfig) -> None:
        self.config, self.kept, self.digests = config, list[Source](), list[str]()  # SHA-256
        self.name = f"data.path = {config.path}" if config.text is None else "data.text"
        self.facts = facts = Facts(self.name.removeprefix("data.path = "))
        self.counts = np.zeros(CODE_POINTS, np.int64)
        pieces = list[CodePoints]()
        with progress_bar(len(sources), "reading the text") as bar:
            for one in sources:
                blob, digest = one.read()
                self.digests.append(digest)
                try:
                    pieces.append(self._symbols(one, blob))
                except UndecodableError as error:
                    is_stray = len(sources) > 1 and not config.force and isinstance(error, BinaryError)
                    if not is_stray and config.errors != "skip":
                        raise
                bar.update()
        self.points = pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.uint8), *pieces])
        self._occur = np.setdiff1d(np.flatnonzero(self.counts), [ord(START), ord(END)])
        facts.files, facts.left_out = len(self.kept), len(sources) - len(self.kept)
        facts.distinct = len(self._occur)
        facts.records = int(self.counts[ord(START)]) if config.records != "none" else 0

    def vocabulary(self) -> Vocabulary:
        """That of `data.alphabet`, or that `data.min_count` makes; ValueError if there is no text for it."""
        config, occur, name = self.config, self._occur, self.name
        if not self.kept:
            raise ValueError(
                f"{name}: none of its {len(self.digests)} files is text in data.encoding = "
                f"{config.encoding}; name another"
            )
        if self.counts[SURROGATES].sum() != 2 * self.facts.records:
            raise ValueError(f"{name}: has lone surrogates in data.encoding = {config.encoding}; convert it")
        if not occur.size:
            empty = "there are only empty records" if self.facts.characters else "the text is empty"
            raise ValueError(f"{name}: {empty}; it needs at least one character")
        if config.alphabet is not None:
            return Vocabulary(config.alphabet, unit=config.unit)
        counts = self.counts[occur]
        often = occur[counts >= config.min_count]
        if not often.size:
            raise ValueError(
                f"data.min_count = {config.min_count}: no character occurs that often; the most frequent one "
                f"occurs {counts.max()} times"
            )
        return Vocabulary("".join(map(chr, often)), unknown=len(often) < len(occur), unit=config.unit)

    def rare(self, known: Vocabulary) -> int:
        """How many symbols this vocabulary has not; UnknownCharacterError if it has no token for them."""
        missing = np.setdiff1d(self._occur, as_code_points(known.characters))
        if missing.size and known.unknown is None:
            raise self._first_unknown(set(map(chr, missing)), known)
        return int(self.counts[missing].sum())

    def _symbols(self, one: Source, blob: bytes) -> CodePoints:
        """The code points of a source's symbols; UndecodableError if it is no text."""
        config, facts, text = self.config, self.facts, self._text(one, blob)
        is_file = config.unit == "char" and config.text is None
        points = as_code_points(marked(text, config.records))
        counts = counted(points)
        if is_file and not config.force:
            controls = counts[CONTROL_POINTS[len(counts) > CONTROL_POINTS]].sum()
            decoding.refuse_binary(int(controls), len(text), one.name, blob)
        self.kept.append(one)
        self.counts[: len(counts)] += counts
        facts.bytes += len(blob)
        facts.characters += len(text)
        facts.crlf += (pairs := text.count("\r\n"))
        facts.cr += text.count("\r") - pairs
        facts.bom |= is_file and decoding.has_byte_order_mark(blob, config.encoding)
        return points.astype(np.uint16) if points.itemsize > 2 and len(counts) <= 1 << 16 else points

    def _text(self, one: Source, blob: bytes) -> str:
        """The text of a source: its bytes as Latin-1 characters, or without a byte order mark."""
        config = self.config
        if config.unit == "byte" or config.text is not None:
            return blob.decode("latin-1" if config.unit == "byte" else "utf-8")
        errors = "replace" if config.errors == "replace" else "strict"
        return decoding.decoded(blob, one.name, config.encoding, "data.encoding", errors)

    def _first_unknown(self, missing: set[str], known: Vocabulary) -> ValueError:
        # the one place where sources are read again: to say where it is, and to end there
        for one in self.kept:
            for position, character in enumerate(self._text(one, one.read()[0])):
                if character in missing:
                    others = sorted(missing - {character})[:10]
                    more = f", nor {'is' if len(others) == 1 else 'are'} {', '.join(map(describe, others))}"
                    first = known.unknown_character(character, position, one.name)
                    return UnknownCharacterError(f"{first}{more if others else ''}")
        raise AssertionError("a character was counted that is not there")


def counted(points: CodePoints) -> NDArray[np.int64]:
    """How often each code point occurs among these, up to the greatest of them."""
    counts = np.zeros(int(points.max(initial=0)) + 1, np.int64)
    for begin in range(0, len(points), vocabulary.BLOCK):  # which take 8 bytes each
        counts += np.bincount(points[begin : begin + vocabulary.BLOCK], minlength=len(counts))
    return counts
