"""A request for text -> its vocabulary and its ids: the one way, whatever the task."""

import codecs
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated

import numpy as np

from charlstm.config.settings import DataConfig
from charlstm.config.values import Range, refuse
from charlstm.progress_bar import progress_bar
from charlstm.text import cache, source
from charlstm.text.cache import Stored
from charlstm.text.decoding import check_unicode
from charlstm.text.draft import Draft
from charlstm.text.records import END, START
from charlstm.text.source import Source
from charlstm.text.survey import Facts
from charlstm.text.vocabulary import Extent, Ids, Vocabulary, as_code_points

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """By which a text is known again: its size in bytes and its SHA-256; of several files, all bytes and the
    SHA-256 of their digests in their order."""

    size: Annotated[int, Range(0, 10**15)]
    sha256: str

    @classmethod
    def of_text(cls, pieces: Iterable[str]) -> "Fingerprint":
        """That of a text in UTF-8, which comes in pieces."""
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            blob = piece.encode("utf-8", "surrogatepass")
            digest.update(blob)
            size += len(blob)
        return cls(size=size, sha256=digest.hexdigest())


@dataclass(frozen=True)
class Corpus:
    """A text as ids.

    Attributes:
        vocabulary: its characters.
        ids: of all of it, `(N,)`, read-only: in memory, or of a large one mapped from a file.
        train, valid, test: views of them, the parts that `data.split` gives; some may be empty.
        facts: for reports.
        data: by which its bytes are known again.
        sources, config: by which they are read again.
    """

    vocabulary: Vocabulary
    ids: Ids
    train: Ids
    valid: Ids
    test: Ids
    facts: Facts
    data: Fingerprint
    sources: list[Source]
    config: DataConfig

    def matches(self, before: Fingerprint) -> bool:
        """Whether this is the text that an earlier run was trained on: the same bytes, or, as the first runs
        of task=memorize had it, the same characters in UTF-8."""
        if before == self.data:
            return True
        if self.facts.records or self.facts.rare:  # there is more to it than its characters
            return False
        blocks = (self.ids[k : k + source.BLOCK] for k in range(0, len(self.ids), source.BLOCK))
        return before == Fingerprint.of_text(map(self.vocabulary.decode, blocks))

    def fit_split(self, split: Sequence[float]) -> None:
        """Check for a training on the parts. Raises ValueError if one that `data.split` asks for has nothing
        to predict."""
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
        each record a line end, or two where blank lines separate them. For unknown characters the text is
        read again: raises ValueError if it is not there, or another, and OSError if there is no room for it.
        """
        known = self.vocabulary
        if known.unknown is None:
            points = as_code_points(known.characters + START + END).astype("<u4")[self.ids[begin:end]]
        else:
            with closing(Draft(self.sources, self.config, cache.folder())) as draft:
                if _joint(draft.digests) != self.data.sha256:
                    raise ValueError(f"{self.facts.source}: another text than it was")
                pieces, position = [np.zeros(0, "<u4")], 0
                for piece in draft.symbols():
                    here = slice(max(begin - position, 0), max(end - position, 0))
                    pieces.append(piece[here].astype("<u4"))
                    position += len(piece)
            points = np.concatenate(pieces)
        text = points.tobytes().decode("utf-32-le", "surrogatepass").replace(START, "")
        text = text.replace(END, "\n\n" if self.config.records == "blank" else "\n")
        return text.encode("utf-8" if known.unit == "char" else "latin-1")

    def extent(self, begin: int, end: int) -> Extent:
        """What `ids[begin:end]` stand for, by their `original`: bytes that are no UTF-8 as a character each.
        Where that cannot be had each symbol is a character, and bytes are not known."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        symbols = int((self.ids[begin:end] != self.vocabulary.start).sum())
        step = source.BLOCK if self.vocabulary.unknown is None else max(end - begin, 1)
        characters = size = 0
        try:
            for k in range(begin, end, step):
                blob = self.original(k, min(k + step, end))
                characters, size = characters + len(decoder.decode(blob, k + step >= end)), size + len(blob)
        except (ValueError, OSError):
            return Extent(symbols, symbols, None)
        return Extent(symbols, characters, size)

    def describe(self) -> Iterator[str]:
        """What it is and how it is cut, a line each."""
        yield f"{self.facts.source}: {self.facts.bytes:,} bytes, {self._characters()}"
        yield "parts: " + ", ".join(f"{part} {len(getattr(self, part)):,}" for part in PARTS)

    def advice(self) -> Iterator[str]:
        """What may be wrong with its lines for a language model, by its beginning, a line each."""
        facts, ids = self.facts, self.ids[: source.BLOCK]
        end, back = (ids == self.vocabulary.characters.find(c) for c in "\n\r")
        if (facts.crlf or facts.cr) and (end[1:] & ~back[:-1]).any():
            yield "Its line ends are mixed, and the model learns that, too; make them all of one kind first."
        lines = int(end.sum())
        if not facts.records and lines >= 20 and len(ids) < 30 * lines and not (end[1:] & end[:-1]).any():
            yield f"{lines:,} short lines, none empty: if it is a list, data.records=line learns each as one."

    def describe_text(self) -> str:
        """What it is as one text, in a line."""
        return f"{self.facts.source}: {self._characters()}"

    def _characters(self) -> str:
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
    """The corpus that `data` asks for. Its sources are read once; from the cache, only to be digested. Raises
    ValueError if there is no text, it cannot be read, or it does not fit `data.alphabet`.

    `known` is the vocabulary that it shall have, unless it is of another unit or `data.alphabet` says
    otherwise; UnknownCharacterError if that lacks characters and has no token for them. For it, a text with
    another one is read once more.
    """
    if config.alphabet is not None and config.min_count > 1:
        raise ValueError(
            f"data.min_count = {config.min_count}: data.alphabet says already which characters are known; "
            "leave one of them out"
        )
    check_unicode(config.alphabet or "", "data.alphabet")
    if config.text is not None:
        config = replace(config, encoding="utf-8")  # which it was, before it was decoded
    corpus = _read(config)
    if known in (None, corpus.vocabulary) or config.alphabet is not None or known.unit != config.unit:
        return corpus
    return _read(replace(config, alphabet=known.characters, min_count=1 if known.unknown is None else 2))


def _read(config: DataConfig) -> Corpus:
    """The same; with an alphabet, a `min_count` above 1 says that there is an unknown token."""
    found = source.find(config)
    (ids, vocabulary, facts), digests = _cached(found, config) or _encoded(found, config)
    *sums, whole = accumulate(config.split)
    cuts = [round(len(ids) * (part / whole)) for part in sums]
    if config.records != "none":
        cuts = [_nearest_record(ids, cut, vocabulary.start) for cut in cuts]
    cuts = [0, *cuts, len(ids)]
    train, valid, test = (ids[a:b] for a, b in pairwise(cuts))
    name = "data.text" if config.text is not None else str(config.path)
    data = Fingerprint(size=facts.bytes, sha256=_joint(digests))
    return Corpus(vocabulary, ids, train, valid, test, replace(facts, source=name), data, found, config)


def digest(config: DataConfig) -> str:
    """The SHA-256 of the fingerprint of what `data` asks for; nothing of it is decoded. Raises as `read`."""
    return _joint([one.digest() for one in source.find(config)])


def refuse_for_memorize(config: DataConfig) -> None:
    """Check for `task=memorize`. Raises ValueError if it asks for more than one text of characters."""
    refuse("data", config, {"unit": "char", "min_count": 1, "records": "none"}, "is for task=lm")
    if config.errors == "skip":
        raise ValueError("data.errors = skip: leaves out files of a folder, with task=lm; use replace")
    if source.is_folder(config):
        raise ValueError(f"data.path = {config.path}: a folder; name a file in it")


def _joint(digests: list[str]) -> str:
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _cached(found: list[Source], config: DataConfig) -> tuple[Stored, list[str]] | None:
    """What the cache has of large sources."""
    sizes = [one.size for one in found]
    # digests cost a tenth of encoding; of other bytes of the same sizes they cost it for nothing
    if sum(sizes) <= source.SMALL or not cache.has_one_like(sizes, config):
        return None
    with progress_bar(None, "reading the text"):
        digests = [one.digest() for one in found]
    stored = cache.load(cache.folder() / cache.name(sizes, digests, config))
    return None if stored is None else (stored, digests)


def _encoded(found: list[Source], config: DataConfig) -> tuple[Stored, list[str]]:
    """The sources as ids, in memory, or of large ones in the cache or, where that is not possible, in a
    temporary folder."""
    folder = cache.folder()
    try:
        return _encoded_in(folder, found, config)
    except OSError as error:
        folder = cache.substitute(f"{folder}: cannot be written: {error.strerror}")
    try:
        return _encoded_in(folder, found, config)
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be written: {error.strerror}; set CHARLSTM_CACHE to a folder with room for "
            f"several times the {sum(one.size for one in found):,} bytes of the text"
        ) from None


def _encoded_in(folder: Path, found: list[Source], config: DataConfig) -> tuple[Stored, list[str]]:
    with closing(Draft(found, config, folder)) as draft:
        vocabulary, facts = draft.described()
        pieces = map(vocabulary.ids_of, draft.symbols())
        if sum(draft.sizes) <= source.SMALL:
            ids = np.concatenate(list(pieces))
            ids.flags.writeable = False
            return (ids, vocabulary, facts), draft.digests
        path = folder / cache.name(draft.sizes, draft.digests, config)
        # it may be there, if it came out of a pipe, or by another name
        with progress_bar(None, "encoding the text"):
            return cache.load(path) or cache.save(path, pieces, vocabulary, facts), draft.digests


def _nearest_record(ids: Ids, wanted: int, start: int) -> int:
    """Where the record begins that begins nearest to an index, or the end."""
    after = _distance(ids[wanted:], start)
    back = 1 + _distance(ids[:wanted][::-1], start)
    # the first record always belongs to the training part
    return wanted + after if after <= back or back >= wanted else wanted - back


def _distance(ids: Ids, start: int) -> int:
    """How many ids come before the first start token, or all of them."""
    for begin in range(0, len(ids), source.BLOCK):
        found = np.flatnonzero(ids[begin : begin + source.BLOCK] == start)
        if found.size:
            return begin + int(found[0])
    return len(ids)
