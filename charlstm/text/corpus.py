"""A request for text -> its vocabulary and its ids: the one way, whatever the task."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from charlstm.config.settings import DataConfig, Records
from charlstm.config.values import Range
from charlstm.text import source
from charlstm.text.decoding import check_unicode
from charlstm.text.draft import CodePoints, Draft, Facts
from charlstm.text.records import END, START
from charlstm.text.vocabulary import Extent, Ids, Vocabulary, as_code_points

PARTS = ("train", "valid", "test")
BEGINNING = 500_000  # symbols that are looked at to say what may be wrong


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """By which a text is known again: bytes and SHA-256, of several files that of their digests in order."""

    size: Annotated[int, Range(0, 10**15)]
    sha256: str

    @classmethod
    def of_text(cls, text: str) -> "Fingerprint":
        blob = text.encode("utf-8", "surrogatepass")
        return cls(size=len(blob), sha256=hashlib.sha256(blob).hexdigest())


@dataclass(frozen=True)
class Corpus:
    vocabulary: Vocabulary
    ids: Ids  # of all of it, `(N,)`, read-only
    train: Ids  # this and the next two: views of them, as `data.split` says; some may be empty
    valid: Ids
    test: Ids
    facts: Facts
    data: Fingerprint
    records: Records  # what stands between a start and an end token
    unknown: tuple[CodePoints, NDArray[np.intp]]  # what became that token, `(K,)`, and where among the ids

    def matches(self, before: Fingerprint) -> bool:
        """Whether this is the text that an earlier run was trained on: the same bytes, or, as the first runs
        of task=memorize had it, the same characters in UTF-8."""
        if before == self.data:
            return True
        if self.facts.records or self.facts.rare:  # there is more to it than its characters
            return False
        return before == Fingerprint.of_text(self.vocabulary.decode(self.ids))

    def fit_split(self, split: Sequence[float]) -> None:
        """Raises ValueError if a part that `data.split` asks for has nothing to predict."""
        for part, share in zip(PARTS, split, strict=True):
            size = len(getattr(self, part))
            if share and size < 2:
                raise ValueError(
                    f"data.split = {list(split)}: of {len(self.ids)} symbols, {self.facts.records} records, "
                    f"{part} gets {size}, which leaves nothing to predict; give it more, or 0, or more text"
                )

    @property
    def alphabet(self) -> int:
        """How many ids can follow: all, or without records all but those of the start and the end token."""
        return len(self.vocabulary) - (0 if self.facts.records else 2)

    def original(self, begin: int, end: int) -> bytes:
        """The text of `ids[begin:end]` in UTF-8, or its bytes: unknown characters as they were, and after
        each record a line end, or two where blank lines separate them."""
        known, (unknown, places) = self.vocabulary, self.unknown
        symbols = as_code_points(known.characters + START + END + "\ufffd").astype("<u4")
        points = symbols[self.ids[begin:end]]
        first, last = np.searchsorted(places, [begin, end])
        points[places[first:last] - begin] = unknown[first:last]
        text = points.tobytes().decode("utf-32-le", "surrogatepass").replace(START, "")
        text = text.replace(END, "\n\n" if self.records == "blank" else "\n")
        return text.encode("utf-8" if known.unit == "char" else "latin-1")

    def extent(self, begin: int, end: int) -> Extent:
        """What `ids[begin:end]` stand for, by their `original`; a byte that is no UTF-8 is a character."""
        symbols = int((self.ids[begin:end] != self.vocabulary.start).sum())
        blob = self.original(begin, end)
        return Extent(symbols, len(blob.decode("utf-8", "surrogateescape")), len(blob))

    def describe(self) -> Iterator[str]:
        """What it is and how it is cut, a line each."""
        yield f"{self.facts.source}: {self.facts.bytes:,} bytes, {self.characters()}"
        yield "parts: " + ", ".join(f"{part} {len(getattr(self, part)):,}" for part in PARTS)

    def advice(self) -> Iterator[str]:
        """What may be wrong with its lines for a language model, by its beginning, a line each."""
        facts, ids = self.facts, self.ids[:BEGINNING]
        end, back = (ids == self.vocabulary.characters.find(c) for c in "\n\r")
        if (facts.crlf or facts.cr) and (end[1:] & ~back[:-1]).any():
            yield "Its line ends are mixed, and the model learns that, too; make them all of one kind first."
        lines = int(end.sum())
        if not facts.records and lines >= 20 and len(ids) < 30 * lines and not (end[1:] & end[:-1]).any():
            yield f"{lines:,} short lines, none empty: if it is a list, data.records=line learns each as one."

    def characters(self) -> str:
        """What it is as one text, in a few words."""
        facts = self.facts
        counted = {
            "files": facts.files if facts.files > 1 else 0,
            "files left out, being no text": facts.left_out,
            "records": facts.records,
            "CRLF line ends": facts.crlf,
            "CR line ends": facts.cr,
            "rare characters made unknown": facts.rare,
        }
        extras = "".join(f", {count:,} {name}" for name, count in counted.items() if count)
        bom = ", a byte order mark left out" if facts.bom else ""
        return f"{facts.characters:,} characters, {facts.distinct:,} distinct{extras}{bom}"


def read(config: DataConfig, known: Vocabulary | None = None) -> Corpus:
    """The corpus that `data` asks for; `known` is the vocabulary that it shall have, unless it is of another
    unit or `data.alphabet` says otherwise. Raises ValueError if there is no text, it cannot be read, or it
    does not fit `data.alphabet`; UnknownCharacterError if `known` lacks characters and a token for them."""
    if config.alphabet is not None and config.min_count > 1:
        raise ValueError(
            f"data.min_count = {config.min_count}: data.alphabet says already which characters are known; "
            "leave one of them out"
        )
    check_unicode(config.alphabet or "", "data.alphabet")
    draft = Draft(source.find(config), config)
    vocabulary = draft.vocabulary()
    if known is not None and config.alphabet is None and known.unit == config.unit:
        vocabulary = known
    facts = replace(draft.facts, rare=draft.rare(vocabulary))
    ids = vocabulary.ids_of(draft.points)
    ids.flags.writeable = False
    is_unknown = np.zeros(0, bool) if vocabulary.unknown is None else ids == vocabulary.unknown
    places = np.flatnonzero(is_unknown)
    *sums, whole = accumulate(config.split)
    cuts = [round(len(ids) * (part / whole)) for part in sums]
    if config.records != "none":
        # where the record begins that begins nearest; the first one always belongs to the training part
        begins = np.append(np.flatnonzero(ids == vocabulary.start)[1:], len(ids))[::-1]
        cuts = [int(begins[np.abs(begins - cut).argmin()]) for cut in cuts]
    cuts = [0, *cuts, len(ids)]
    train, valid, test = (ids[a:b] for a, b in pairwise(cuts))
    data = Fingerprint(size=facts.bytes, sha256=_joint(draft.digests))
    unknown = draft.points[places], places
    return Corpus(vocabulary, ids, train, valid, test, facts, data, config.records, unknown)


def digest(config: DataConfig) -> str | None:
    """The SHA-256 of the fingerprint of what `data` asks for, undecoded; None of a pipe. Raises as `read`."""
    sources = source.find(config)
    return None if any(one.is_pipe for one in sources) else _joint([one.read()[1] for one in sources])


def _joint(digests: list[str]) -> str:
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
