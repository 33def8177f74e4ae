"""Large corpora as files of ids in the cache, encoded once.

A file has the ids, then what is known of them as JSON, then the length of that JSON in 8 bytes, then a
SHA-256 of its own name and of all that stands before. Its name is made of every byte of the sources and of
every setting that matters, so it is never stale; it appears whole and at once, and processes need no lock.

A file is believed only if its digest is right and nobody else can have written it; otherwise the sources are
encoded anew. The digest is the one that sources are known by: it is strong, and an id takes about as many
bytes as its character, so it costs about as much as that of the sources, which is computed anyway: a seventh
of encoding them.
"""

import atexit
import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from charlstm import files
from charlstm.config.convert import convert
from charlstm.config.settings import DataConfig, Unit
from charlstm.text.survey import Facts
from charlstm.text.vocabulary import Ids, Vocabulary

log = logging.getLogger("charlstm")

FORMAT = 3
DIGEST = 32  # bytes of a SHA-256

Stored = tuple[Ids, Vocabulary, Facts]
"""Ids `(N,)`, read-only, their vocabulary, and the facts."""


def folder() -> Path:
    """Where the files are."""
    return files.cache() / "corpora"


def has_one_like(sizes: Sequence[int], config: DataConfig) -> bool:
    """Whether there may be a file of sources of these sizes, so that their digests are worth having first."""
    return any(folder().glob(f"{_likeness(sizes, config)}-*"))


def name(sizes: Sequence[int], digests: Sequence[str], config: DataConfig) -> str:
    """The name of the file of sources of these sizes with these digests."""
    return f"{_likeness(sizes, config)}-{hashlib.sha256(''.join(digests).encode()).hexdigest()}.ids"


def _likeness(sizes: Sequence[int], config: DataConfig) -> str:
    keys = ("encoding", "errors", "force", "unit", "alphabet", "min_count", "records")
    # a text that is given may be what no file may: it is taken as it is
    what = [FORMAT, list(sizes), config.text is None, {key: getattr(config, key) for key in keys}]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def make(folder: Path) -> None:
    """Make a folder for corpora, if it is not there; OSError if it cannot be, or others can write there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_mine(folder.stat()):
        raise PermissionError(errno.EPERM, "it belongs to another user, or others can write there")


def load(path: Path) -> Stored | None:
    """What a file of the cache holds; None if there is none, or none to believe."""
    try:
        with path.open("rb") as file:
            if not (_is_mine(path.parent.stat()) and _is_mine(os.fstat(file.fileno()))):
                return None
            blob = np.memmap(file, np.uint8, "r")
        content, digest = blob[:-DIGEST], hashlib.sha256(path.name.encode())
        digest.update(content.data)
        if digest.digest() != bytes(blob[-DIGEST:]):
            return None
        begin = len(content) - 8 - int.from_bytes(content[-8:].tobytes(), "little")
        known = convert(_Known, json.loads(content[begin:-8].tobytes()))
        vocabulary = Vocabulary(known.characters, unknown=known.unknown, unit=known.unit)
        ids = content[:begin].view(vocabulary.dtype)
        is_fit = 0 < len(ids) == known.facts.symbols and ids.max() < len(vocabulary)
        return (ids, vocabulary, known.facts) if is_fit else None
    except (OSError, ValueError, RecursionError):
        return None


def save(path: Path, pieces: Iterable[Ids], vocabulary: Vocabulary, facts: Facts) -> Stored:
    """Write a file of ids in pieces, all of which are as many as the facts say, and load it; OSError if that
    cannot be done."""
    known = _Known(vocabulary.characters, vocabulary.unknown is not None, vocabulary.unit, facts)
    trailer = json.dumps(asdict(known)).encode()
    digest = hashlib.sha256(path.name.encode())
    with files.whole(path, lambda fresh: fresh.chmod(0o600)) as file:
        end = np.frombuffer(trailer + len(trailer).to_bytes(8, "little"), np.uint8)
        for piece in chain(pieces, [end]):
            digest.update(piece.data)
            file.write(piece.data)
        file.write(digest.digest())
    stored = load(path)
    if stored is None:
        raise OSError(errno.EIO, "what was written is not what is read")
    return stored


@functools.cache
def substitute(reason: str) -> Path:
    """A folder for what the cache cannot take, as long as this process lives."""
    log.warning(f"{reason}; the corpus is encoded anew each time (CHARLSTM_CACHE names another folder)")
    folder = Path(tempfile.mkdtemp(prefix="charlstm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class _Known:
    """What a file says of its ids: what makes their vocabulary, and the facts."""

    characters: str
    unknown: bool
    unit: Unit
    facts: Facts


def _is_mine(status: os.stat_result) -> bool:
    """Whether nobody else, but for the machine's master, can have written a file or in a folder."""
    if not hasattr(os, "geteuid"):  # Windows keeps a user's folders to himself
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
