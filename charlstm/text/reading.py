"""A string, a file, a folder or standard input -> text."""

import functools
import hashlib
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from charlstm.config.settings import DataConfig
from charlstm.files import PROJECT as PROJECT
from charlstm.text.decoding import CONTROLS, answered_decoding, has_byte_order_mark, refuse_binary


def read_text(config: DataConfig) -> str:
    """The text that `data.text` gives or `data.path` names, unchanged but for a byte order mark.

    A relative path is looked for where the command was started and then beside `train.py`.

    Raises:
        ValueError: there is no text, it is empty, its bytes are not text in `data.encoding`, or it should be
            read in a way that only `dataset.py` knows.
    """
    for key, usual in {"unit": "char", "min_count": 1, "records": "none"}.items():
        if getattr(config, key) != usual:
            raise ValueError(f"data.{key} = {getattr(config, key)}: is for task=lm; leave it out")
    if config.text is not None:
        check_unicode(config.text, "data.text")
        return _not_empty(config.text, "data.text")
    blob, source = _bytes(config), f"data.path = {config.path}"
    if config.errors == "skip":
        raise ValueError("data.errors = skip: leaves out files of a folder, with task=lm; use replace")
    with answered_decoding(source, config.encoding, "data."):
        text = blob.decode(config.encoding, config.errors).removeprefix("\ufeff")
    if any("\ud800" <= character <= "\udfff" for character in set(text)):
        raise ValueError(f"{source}: has lone surrogates in data.encoding = {config.encoding}; convert it")
    if not config.force:
        refuse_binary(sum(map(text.count, CONTROLS)), len(text), source, [blob])
    return _not_empty(text, source)


def describe(config: DataConfig, text: str) -> str:
    """What `read_text` found, with what is not seen when it is shown."""
    pairs = text.count("\r\n")
    counted = {"CRLF line ends": pairs, "CR line ends": text.count("\r") - pairs}
    extras = "".join(f", {count:,} {name}" for name, count in counted.items() if count)
    if config.text is None and has_byte_order_mark(_bytes(config), config.encoding):
        extras += ", a byte order mark left out"
    return f"{source_name(config)}: {len(text):,} characters, {len(set(text)):,} distinct{extras}"


def _bytes(config: DataConfig) -> bytes:
    if not config.path:
        raise ValueError("data.path is not set; name a text file, or give the text itself with data.text=...")
    path = config.path if config.path == "-" else find(config.path, "data.path")
    is_file = path != "-" and Path(path).is_file()
    return _contents(path, "data.path") if is_file else _drained(path)


@functools.cache
def _drained(path: str) -> bytes:
    """What comes out of a pipe, for `-` of standard input: once only, though it is asked for more often."""
    return _contents(path, "data.path")


def read_files(text: str | None, path: str | None, encoding: str) -> dict[str, str]:
    """The texts of a request by name: `text` itself, a file, a folder's *.txt files, `-` standard input.

    They are found, read and refused as `read_text` does it, under the keys `text`, `path` and `encoding`.
    """
    if (text is None) == (not path):
        raise ValueError(
            "path: give it or text, one of the two: path=FILE, path=FOLDER (its .txt files), "
            "path=- (standard input), or text=..."
        )
    if text is not None:
        check_unicode(text, "text")
        return {"text": _not_empty(text, "text")}
    assert path is not None
    found = path if path == "-" else find(path, "path")
    names = {path: found}
    if found != "-" and Path(found).is_dir():
        names = {str(Path(path, file.name)): str(file) for file in sorted(Path(found).glob("*.txt"))}
        if not names:
            raise ValueError(f"path = {path}: a folder without .txt files; name a file")
    return {
        name: _not_empty(read_file(file, "path", encoding), f"path = {name}") for name, file in names.items()
    }


def read_file(path: str, key: str, encoding: str = "utf-8") -> str:
    """The text of a file, or for `-` of standard input, unchanged but for a byte order mark.

    Args:
        path: as it is, looked for nowhere else.
        key: of the settings, under which messages name the path.
        encoding: by its Python name, given by the key beside `key`, if there is one.

    Raises:
        ValueError: it cannot be read, or its bytes are not text in `encoding`.
    """
    blob = _contents(path, key)
    with answered_decoding(f"{key} = {path}", encoding, key.rpartition("path")[0]):
        return blob.decode(encoding).removeprefix("\ufeff")


def _contents(path: str, key: str) -> bytes:
    source = f"{key} = {path}"
    with answered_reading(source):
        if path != "-":
            # bytes, because Python's text mode would translate the line ends
            return Path(path).read_bytes()
        if sys.stdin is None:  # which is what Python makes of a closed one, `<&-`
            raise ValueError(f"{source}: standard input is closed; pipe a text into it or name a file")
        return sys.stdin.buffer.read()


@contextmanager
def answered_reading(source: str) -> Iterator[None]:
    """Within this context an OSError is a ValueError that says what is wrong with `source`."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{source}: no such file (looked in {Path.cwd()})") from None
    except IsADirectoryError:
        raise ValueError(f"{source}: a folder; name a file in it") from None
    except OSError as error:
        raise ValueError(f"{source}: cannot be read: {error.strerror}") from None


def check_unicode(text: str, key: str) -> None:
    """Check a text from the command line.

    Raises:
        ValueError: the shell handed over bytes that are no text.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{key}: not valid Unicode at position {error.start}; give it in a file, such as by "
            + ("prompt_file=..." if key == "prompt" else key.replace("text", "path=..."))
        ) from None


def fingerprint(text: str) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a text."""
    blob = text.encode("utf-8", "surrogatepass")
    return {"size": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}


def source_name(config: DataConfig) -> str:
    """What messages call the text."""
    return "data.text" if config.text is not None else f"{config.path}"


def find(path: str, key: str) -> str:
    """Where a relative path is: where the command was started, or else beside `train.py`.

    Raises:
        ValueError: in neither place.
    """
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
        return str(found)
    raise ValueError(f"{key} = {path}: no such file (looked in {Path.cwd()})")


def _not_empty(text: str, source: str) -> str:
    if not text:
        raise ValueError(f"{source}: the text is empty; it needs at least one character")
    return text
