"""A string, a file, a folder or standard input -> text."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from charlstm.settings import DataConfig

PROJECT = Path(__file__).resolve().parent.parent


class UndecodableError(ValueError):
    """Bytes are not text in the encoding that they should have."""


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
    if config.path:
        path = find(config.path, "data.path")
        return _not_empty(read_file(path, "data.path", config.encoding), f"data.path = {config.path}")
    raise ValueError("data.path is not set; name a text file, or give the text itself with data.text=...")


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
    source = f"{key} = {path}"
    with answered_reading(source):
        if path != "-":
            # bytes, because Python's text mode would translate the line ends
            blob = Path(path).read_bytes()
        elif sys.stdin is None:  # which is what Python makes of a closed one, `<&-`
            raise ValueError(f"{source}: standard input is closed; pipe a text into it or name a file")
        else:
            blob = sys.stdin.buffer.read()
    with answered_decoding(source, encoding, key.rpartition("path")[0]):
        return blob.decode(encoding).removeprefix("\ufeff")


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


@contextmanager
def answered_decoding(source: str, encoding: str, group: str, offset: int = 0) -> Iterator[None]:
    """Within this context an error of decoding is a ValueError that names the bytes and the mend.

    Args:
        source: where the bytes are from.
        group: what stands before `encoding` in the name of its key.
        offset: of the bytes within the source.
    """
    try:
        yield
    except LookupError:
        raise ValueError(
            f"{group}encoding = {encoding}: no such encoding; try utf-8, latin-1 or utf-16"
        ) from None
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 4].hex(" ")
        mend = f"name the file's encoding, such as {group}encoding=latin-1"
        raise UndecodableError(
            f"{source}: not {encoding} text: bytes {wrong} at offset {offset + error.start}; "
            + ("convert it" if source.startswith("prompt") else mend)
        ) from None
    except ValueError as error:  # some codecs, such as idna, have errors of their own
        raise ValueError(f"{source}: cannot be read: {error}") from None


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
    try:
        for found in (Path(path), PROJECT / path):
            if found.exists():
                return str(found)
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{key} = {path}: cannot be read: {reason}") from None
    raise ValueError(f"{key} = {path}: no such file (looked in {Path.cwd()})")


def _not_empty(text: str, source: str) -> str:
    if not text:
        raise ValueError(f"{source}: the text is empty; it needs at least one character")
    return text
