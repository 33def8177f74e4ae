"""Large corpora as files of ids in the cache, encoded once.

A file has the ids, then what is known of them as JSON, then the length of that JSON in 8 bytes. Its name is
made of every byte of the sources and of every setting that matters, so it is never stale; it appears whole
and at once, so that processes need no lock.
"""

import atexit
import functools
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from charlstm import files
from charlstm.config.settings import DataConfig
from charlstm.text.survey import Facts
from charlstm.text.vocabulary import Ids, Vocabulary

log = logging.getLogger("charlstm")

FORMAT = 2

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


def load(path: Path) -> Stored | None:
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


def save(path: Path, pieces: Iterable[Ids], vocabulary: Vocabulary, facts: Facts) -> Stored:
    """Write a file of ids in pieces, all of which are as many as the facts say, and load it."""
    known = {
        "vocabulary": {
            "characters": vocabulary.characters,
            "unknown": vocabulary.unknown is not None,
            "unit": vocabulary.unit,
        },
        "facts": asdict(facts),
    }
    trailer = json.dumps(known).encode()
    with files.whole(path) as file:
        for piece in pieces:
            file.write(piece.data)
        file.write(trailer + len(trailer).to_bytes(8, "little"))
    stored = load(path)
    assert stored is not None
    return stored


@functools.cache
def substitute(reason: str) -> Path:
    """A folder for what the cache cannot take, as long as this process lives."""
    log.warning(f"{reason}; the corpus is encoded anew each time (CHARLSTM_CACHE names another folder)")
    folder = Path(tempfile.mkdtemp(prefix="charlstm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
