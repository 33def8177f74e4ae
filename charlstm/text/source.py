"""What `data.text`, `data.path` and their like name -> the sources of a corpus."""

import contextlib
import fnmatch
import functools
import hashlib
import json
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from charlstm.config.settings import DataConfig
from charlstm.files import PROJECT
from charlstm.progress_bar import progress_bar
from charlstm.text.decoding import check_unicode

BLOCK = 1 << 16  # bytes that are downloaded at a time
MOST_GIVEN = 31 * 2**17  # bytes of a text in a checkpoint, whose header has 32 * 2**17 with all else
MOST = 10_000  # files of a folder that are looked at to say what it holds


@dataclass(frozen=True)
class Source:
    """One file, or what takes the place of one."""

    name: str  # what messages call it
    contents: Callable[[], bytes]  # gives all of it
    sha256: str | None = None  # what it must have, in small hexadecimal digits; None: any
    is_pipe: bool = False  # or standard input, which might never end

    def read(self) -> tuple[bytes, str]:
        """Its bytes, and their SHA-256; ValueError if it cannot be read, or is not the text it must be."""
        blob = self.contents()
        found = hashlib.sha256(blob).hexdigest()
        if self.sha256 not in (None, found):
            raise ValueError(f"{self.name}: its SHA-256 is {found}, not that of data.sha256; another text")
        return blob, found


def find(config: DataConfig) -> list[Source]:
    """The sources of a request, in their order; ValueError if there is none, or it cannot be had."""
    if config.text is not None:
        check_unicode(config.text, "data.text", "data.path")
        if len(json.dumps(json.dumps(config.text))) > MOST_GIVEN:
            raise ValueError(
                f"data.text: {len(config.text):,} characters are more than a checkpoint keeps among its "
                "settings; put them into a file, and name it by data.path=..."
            )
        return [Source("data.text", config.text.encode)]
    if not config.path:
        raise ValueError("data.path is not set; name a file or folder, or give the text with data.text=...")
    name = f"data.path = {config.path}"
    if config.path == "-":
        return [Source(name, partial(_drained, "-", name), is_pipe=True)]
    sha256 = config.sha256.lower() if config.sha256 else None
    path = _downloaded(config.path, config.url, sha256) if config.url else locate(config.path, "data.path")
    if path.is_dir():
        return _in_folder(path, config)
    if path.is_file():
        return [Source(name, partial(contents, path, name), sha256)]
    return [Source(name, partial(_drained, path, name), sha256, is_pipe=True)]


def locate(path: str, key: str) -> Path:
    """Where a relative path is: where the command was started, or else beside `train.py`; else ValueError."""
    for found in (Path(path), PROJECT / path):
        try:
            status = found.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:  # a loop of links, a name that no file can have
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{key} = {path}: cannot be read: {reason}") from None
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            raise ValueError(
                f"{key} = {path}: a device, which may have no end; name a file, or - for standard input"
            )
        return found
    raise ValueError(f"{key} = {path}: no such file (looked in {Path.cwd()})")


def contents(path: str | Path, name: str) -> bytes:
    """All bytes of a file that is looked for nowhere else, or for `-` of standard input; `name` is what
    messages call it. ValueError if it cannot be read."""
    try:
        if path != "-":
            return Path(path).read_bytes()
        if sys.stdin is None:  # which is what Python makes of a closed one, `<&-`
            raise ValueError(f"{name}: standard input is closed; pipe a text into it or name a file")
        return sys.stdin.buffer.read()
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file (looked in {Path.cwd()})") from None
    except IsADirectoryError:
        raise ValueError(f"{name}: a folder; name a file in it") from None
    except OSError as error:
        raise ValueError(f"{name}: cannot be read: {error.strerror}") from None
    except MemoryError:
        raise ValueError(f"{name}: larger than this machine's free memory") from None


_drained = functools.cache(contents)
"""The same of what comes but once, out of a pipe, and which the runs of a sweep share."""


def _in_folder(folder: Path, config: DataConfig) -> list[Source]:
    try:
        found = sorted(file.relative_to(folder) for file in folder.glob(config.glob) if file.is_file())
    except (ValueError, NotImplementedError, OSError) as error:
        raise ValueError(f"data.glob = {config.glob}: not a pattern for files in a folder: {error}") from None
    excluded = re.compile("|".join(map(fnmatch.translate, config.exclude)) or "(?!)")
    kept = [file for file in found if not any(map(excluded.match, file.parts))]
    if not kept:
        without = f" but for those that data.exclude leaves out, {len(found)}" if found else ""
        raise ValueError(
            f"data.path = {config.path}: a folder without files that match data.glob = {config.glob}{without}"
            f"{_held(folder)}"
        )
    names = [f"data.path = {Path(str(config.path)) / file}" for file in kept]
    return [
        Source(name, partial(contents, folder / file, name)) for name, file in zip(names, kept, strict=True)
    ]


def _held(folder: Path) -> str:
    """What a folder holds, by patterns that match it; of very many files the first, of hidden ones none."""
    files = [file.relative_to(folder) for file in islice(folder.rglob("*"), MOST) if file.is_file()]
    shown = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    ends = ("**/" * (len(one.parts) > 1) + (f"*{one.suffix}" if one.suffix else one.name) for one in shown)
    most = Counter(ends).most_common(5)
    kinds = ", ".join(f"{number:,} {pattern}" for pattern, number in most)
    return f"; it holds {kinds}; choose, such as data.glob='{most[0][0]}'" if most else ""


def _downloaded(path: str, url: str, sha256: str | None) -> Path:
    if not sha256:
        raise ValueError(f"data.url = {url}: needs data.sha256, to know what was downloaded")
    with contextlib.suppress(ValueError):
        return locate(path, "data.path")
    return _fetched(url, sha256, PROJECT / path)


def _fetched(url: str, wanted: str, place: Path) -> Path:
    """The file of a URL with the SHA-256 that is `wanted`: from the cache, which `CHARLSTM_CACHE` may name,
    or from the network, which fills the cache. Raises ValueError if it cannot be downloaded, or is another
    file; then people can put it at `place` themselves."""
    import pooch  # type: ignore[import-untyped]  # here: only who downloads waits for it

    def download(url: str, temporary: str, pup: object) -> None:
        as_it_lies_there = {"Accept-Encoding": "identity"}
        with progress_bar(None, url):
            pooch.HTTPDownloader(False, BLOCK, headers=as_it_lies_there)(url, temporary, pup)
        Path(temporary).chmod(0o644)  # or nobody else could read it in a cache that is shared

    mend = f"download it by other means and save it as {place}"
    pooch.get_logger().setLevel("WARNING")
    cache = Path(os.environ.get("CHARLSTM_CACHE") or pooch.os_cache("charlstm"))
    try:
        return Path(pooch.retrieve(url, f"sha256:{wanted}", wanted, cache / "downloads", None, download))
    except OSError as error:  # as all that requests raises
        raise ValueError(f"data.url = {url}: cannot be downloaded: {_reason(error)}; {mend}") from None
    except ValueError as error:
        raise ValueError(f"data.url = {url}, data.sha256: {str(error).rstrip('.')}; {mend}") from None


def _reason(error: BaseException) -> object:
    """What was wrong in the first place: requests and urllib3 wrap errors in errors."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or error
