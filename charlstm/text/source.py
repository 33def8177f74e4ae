"""What `data.text`, `data.path` and their like name -> the sources of a corpus, each to be read in blocks."""

import atexit
import contextlib
import fnmatch
import functools
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from charlstm.config.settings import DataConfig
from charlstm.text import download, reading

BLOCK = 1 << 19
"""Bytes at a time. Half as many or twice as many are as fast, within 10 %; much more leave the caches."""


@dataclass(frozen=True)
class Source:
    """One file, or what takes the place of one.

    Attributes:
        name: what messages call it.
        open: gives it anew, from its beginning.
    """

    name: str
    open: Callable[[], BinaryIO]

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, at most `BLOCK` at a time.

        Raises:
            ValueError: it cannot be read.
        """
        with reading.answered_reading(self.name), self.open() as file:
            while block := file.read(BLOCK):
                yield block


def find(config: DataConfig) -> list[Source]:
    """The sources of a request, in their order.

    Raises:
        ValueError: there is none, or it cannot be had.
    """
    if config.text is not None:
        reading.check_unicode(config.text, "data.text")
        return [Source("data.text", partial(io.BytesIO, config.text.encode()))]
    if not config.path:
        raise ValueError("data.path is not set; name a file or folder, or give the text with data.text=...")
    source = f"data.path = {config.path}"
    if config.path == "-":
        return [Source(source, _file(_spooled("-")))]
    path = _downloaded(config) if config.url else Path(reading.find(config.path, "data.path"))
    if path.is_dir():
        return _in_folder(path, config)
    if not path.is_file():  # a pipe, such as the shell's <(command), can be read but once, too
        path = _spooled(str(path))
    if config.sha256 and (found := download.sha256(path, source)) != config.sha256.lower():
        raise ValueError(f"{source}: its SHA-256 is {found}, not that of data.sha256; it is another text")
    return [Source(source, _file(path))]


def _file(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _in_folder(folder: Path, config: DataConfig) -> list[Source]:
    try:
        found = sorted(file for file in folder.glob(config.glob) if file.is_file())
    except (ValueError, NotImplementedError, OSError) as error:
        raise ValueError(f"data.glob = {config.glob}: not a pattern for files in a folder: {error}") from None
    kept = [
        file
        for file in found
        if not any(
            fnmatch.fnmatchcase(part, pattern)
            for part in file.relative_to(folder).parts
            for pattern in config.exclude
        )
    ]
    if not kept:
        without = f" but for those that data.exclude leaves out, {len(found)}" if found else ""
        raise ValueError(
            f"data.path = {config.path}: a folder without files that match data.glob = {config.glob}{without}"
        )
    shown = Path(str(config.path))
    return [Source(f"data.path = {shown / file.relative_to(folder)}", _file(file)) for file in kept]


def _downloaded(config: DataConfig) -> Path:
    assert config.path is not None
    assert config.url is not None
    if not config.sha256:
        raise ValueError(f"data.url = {config.url}: needs data.sha256, to know what was downloaded")
    with contextlib.suppress(ValueError):
        return Path(reading.find(config.path, "data.path"))
    return download.fetch(config.url, config.sha256.lower(), reading.PROJECT / config.path)


@functools.cache
def _spooled(path: str) -> Path:
    """A pipe, for `-` standard input, as a file: its bytes are read more than once."""
    source = f"data.path = {path}"
    if path == "-" and sys.stdin is None:  # which is what Python makes of a closed one, `<&-`
        raise ValueError(f"{source}: standard input is closed; pipe a text into the command or name a file")
    with (
        reading.answered_reading(source),
        tempfile.NamedTemporaryFile(prefix="charlstm-", delete=False) as file,
    ):
        atexit.register(Path(file.name).unlink, missing_ok=True)
        with contextlib.nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as pipe:
            shutil.copyfileobj(pipe, file, BLOCK)
    return Path(file.name)
