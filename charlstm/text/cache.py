"""Sources -> one file of ids in the cache, encoded once.

The file has the ids, then what is known of them as JSON, then the length of that JSON in 8 bytes. Its name is
the fingerprint of every byte of the sources and of every setting that matters, so it is never stale; it
appears whole and at once, so that processes need no lock.
"""

import atexit
import functools
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from charlstm import files
from charlstm.config.settings import DataConfig
from charlstm.progress_bar import progress_bar
from charlstm.text.decoding import UndecodableError, refuse_binary
from charlstm.text.records import END, START, Encoder, Survey, marked, texts
from charlstm.text.source import Source
from charlstm.text.vocabulary import Ids, Vocabulary

log = logging.getLogger("charlstm")

FORMAT = 1


@dataclass(frozen=True)
class Facts:
    """What a corpus is, for reports; all numbers are counts.

    Attributes:
        source: what messages call it.
        files, left_out: that were read; that were not, for they are not text in `data.encoding`.
        bytes, characters: in all, what separates records included, byte order marks not among the characters.
        distinct: characters that occur in the symbols.
        rare_distinct, rare: of these, those that became the unknown token; how often they occur.
        lf, cr, crlf: line ends of each kind.
        bom: whether a source began with a byte order mark, which was dropped.
        records: records.
        symbols: ids: the characters without what separates records, and two tokens for each record.
        train, valid, test: ids of each part.
        sha256: of its bytes; of several files, of their digests in their order.
    """

    source: str
    files: int
    left_out: int
    bytes: int
    characters: int
    distinct: int
    rare_distinct: int
    rare: int
    lf: int
    cr: int
    crlf: int
    bom: bool
    records: int
    symbols: int
    train: int = 0
    valid: int = 0
    test: int = 0
    sha256: str = ""


Stored = tuple[Ids, Vocabulary, Facts]
"""Ids `(N,)`, read-only and memory-mapped, their vocabulary, and the facts but for the sizes of the parts."""


def encoded(found: list[Source], config: DataConfig) -> Stored:
    """The sources as ids, from the cache if they were encoded before.

    Raises:
        ValueError: they cannot be read, have no text, or do not fit `data.alphabet`.
    """
    digests = [_digest(source) for source in found]
    name = f"{_fingerprint(digests, config)}.ids"
    ids, vocabulary, facts = _open(files.cache() / "corpora" / name) or _encode(name, found, digests, config)
    several = hashlib.sha256("".join(digests).encode()).hexdigest()
    return ids, vocabulary, replace(facts, sha256=digests[0] if len(digests) == 1 else several)


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    for block in source.blocks():
        digest.update(block)
    return digest.hexdigest()


def _fingerprint(digests: Sequence[str], config: DataConfig) -> str:
    keys = ("encoding", "errors", "force", "unit", "alphabet", "min_count", "records")
    what = [FORMAT, digests, {key: getattr(config, key) for key in keys}]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _open(path: Path) -> Stored | None:
    """What a file of the cache holds; None if there is none, or it is cut off."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(size - 8)
            length = int.from_bytes(file.read(8), "little")
            file.seek(size - 8 - length)
            known = json.loads(file.read(length))
        vocabulary = Vocabulary(**known["vocabulary"])
        facts = Facts(**known["facts"])
        if size != facts.symbols * vocabulary.dtype.itemsize + length + 8:
            return None
        return np.memmap(path, vocabulary.dtype, "r", shape=(facts.symbols,)), vocabulary, facts
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _encode(name: str, found: list[Source], digests: list[str], config: DataConfig) -> Stored:
    """Write the file of a corpus, to the cache or, if that is not possible, to a temporary folder."""
    kept = [(s, d) for s, d in zip(found, digests, strict=True) if _is_kept(s, config)]
    if not kept:
        raise ValueError(
            f"data.path = {config.path}: none of its {len(found)} files is text in data.encoding = "
            f"{config.encoding}; name another"
        )
    survey = _survey([source for source, _ in kept], config)
    vocabulary, facts = _describe(survey, [source for source, _ in kept], len(found), config)
    folder = files.cache() / "corpora"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / name, kept, vocabulary, facts, config)
    except OSError as error:
        folder = _temporary(f"{folder}: cannot be written: {error.strerror}")
        try:
            _write(folder / name, kept, vocabulary, facts, config)
        except OSError as other:
            raise ValueError(
                f"{folder}: cannot be written: {other.strerror}; set CHARLSTM_CACHE to a folder with "
                f"{facts.symbols * vocabulary.dtype.itemsize:,} bytes of room"
            ) from None
    stored = _open(folder / name)
    assert stored is not None
    return stored


@functools.cache
def _temporary(reason: str) -> Path:
    """A folder for what the cache cannot take, as long as this process lives."""
    log.warning(f"{reason}; the corpus is encoded anew each time (CHARLSTM_CACHE names another folder)")
    folder = Path(tempfile.mkdtemp(prefix="charlstm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_kept(source: Source, config: DataConfig) -> bool:
    if config.errors == "skip":
        try:
            _survey([source], config)
        except UndecodableError:
            return False
    return True


def _survey(kept: list[Source], config: DataConfig) -> Survey:
    survey = Survey()
    may_be_anything = config.unit == "byte" or config.force or config.text is not None
    for source in kept:
        characters, controls = survey.characters, survey.controls()
        blocks = survey.watch_bytes(source.blocks(), config)
        text = survey.watch_text(texts(blocks, source.name, config))
        for symbols in marked(text, config.records):
            survey.add(symbols)
        characters, controls = survey.characters - characters, survey.controls() - controls
        if not may_be_anything:
            refuse_binary(controls, characters, source.name, source.blocks())
    return survey


def _describe(survey: Survey, kept: list[Source], found: int, config: DataConfig) -> tuple[Vocabulary, Facts]:
    """The vocabulary and the facts of a corpus; ValueError if it has no characters, or wrong ones."""
    source = f"data.path = {config.path}" if config.text is None else "data.text"
    records = int(survey.counts[ord(START)]) if config.records != "none" else 0
    if survey.counts[0xD800:0xE000].sum() != 2 * records:
        raise ValueError(f"{source}: has lone surrogates in data.encoding = {config.encoding}; convert it")
    counts = survey.counts.copy()
    counts[[ord(START), ord(END)]] = 0
    occur = np.flatnonzero(counts)
    if not occur.size:
        empty = "the text is empty" if not survey.characters else "there are only empty records"
        raise ValueError(f"{source}: {empty}; it needs at least one character")
    often = occur[counts[occur] >= config.min_count]
    if config.alphabet is not None:
        vocabulary = Vocabulary(config.alphabet, unit=config.unit)
        if missing := set(map(chr, occur)) - set(config.alphabet):
            raise _first_unknown(missing, vocabulary, kept, config)
    elif often.size:
        unknown = len(often) < len(occur)
        vocabulary = Vocabulary("".join(map(chr, often)), unknown=unknown, unit=config.unit)
    else:
        raise ValueError(
            f"data.min_count = {config.min_count}: no character occurs that often; the most frequent one "
            f"occurs {counts.max()} times"
        )
    return vocabulary, Facts(
        source=source,
        files=len(kept),
        left_out=found - len(kept),
        bytes=survey.size,
        characters=survey.characters,
        distinct=len(occur),
        rare_distinct=len(occur) - len(often),
        rare=int(counts.sum() - counts[often].sum()),
        lf=survey.lf,
        cr=survey.cr,
        crlf=survey.crlf,
        bom=survey.bom,
        records=records,
        symbols=int(survey.counts.sum()),
    )


def _first_unknown(
    missing: set[str], vocabulary: Vocabulary, kept: list[Source], config: DataConfig
) -> ValueError:
    for source in kept:
        position = 0
        for text in texts(source.blocks(), source.name, config):
            for n, character in enumerate(text):
                if character in missing:
                    return vocabulary.unknown_character(character, position + n, source.name)
            position += len(text)
    raise AssertionError("a character was counted that is not there")


def _write(
    path: Path, kept: list[tuple[Source, str]], vocabulary: Vocabulary, facts: Facts, config: DataConfig
) -> None:
    encode = Encoder(vocabulary)
    with files.whole(path) as file, progress_bar(facts.bytes, "encoding") as bar:
        for source, expected in kept:
            digest = hashlib.sha256()
            blocks = _watched(source.blocks(), digest, bar)
            for symbols in marked(texts(blocks, source.name, config), config.records):
                file.write(encode(symbols))
            if digest.hexdigest() != expected:
                raise ValueError(f"{source.name}: was changed while it was read; try again")
        _write_trailer(file, vocabulary, facts)


def _watched(blocks: Iterable[bytes], digest: Any, bar: Any) -> Iterator[bytes]:
    for block in blocks:
        digest.update(block)
        bar.update(len(block))
        yield block


def _write_trailer(file: BinaryIO, vocabulary: Vocabulary, facts: Facts) -> None:
    of_vocabulary = {
        "characters": vocabulary.characters,
        "unknown": vocabulary.unknown is not None,
        "unit": vocabulary.unit,
    }
    trailer = json.dumps({"vocabulary": of_vocabulary, "facts": asdict(facts)}).encode()
    file.write(trailer + len(trailer).to_bytes(8, "little"))
