"""A string, a file, a folder or standard input -> text."""

import sys
from pathlib import Path

from charlstm.settings import DataConfig

PROJECT = Path(__file__).resolve().parent.parent


def read_text(config: DataConfig) -> str:
    """The text that `data.text` gives or `data.path` names, unchanged but for a byte order mark.

    A relative path is looked for where the command was started and then beside `train.py`.

    Raises:
        ValueError: there is no text, it is empty, or its bytes are not text in `data.encoding`.
    """
    if config.text is not None:
        return _given(config.text, "data.text")
    if config.path:
        return _read_file(_find(config.path, "data."), config.path, config.encoding, "data.")
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
        return {"text": _given(text, "text")}
    assert path is not None
    if path == "-":
        if sys.stdin is None:  # which is what Python makes of a closed one, `<&-`
            raise ValueError("path = -: standard input is closed; pipe a text into it or name a file")
        try:
            return {"-": _decoded(sys.stdin.buffer.read(), "-", encoding)}
        except OSError as error:
            raise _unreadable("-", error) from None
    names = {path: _find(path)}
    if names[path].is_dir():
        names = {str(Path(path, found.name)): found for found in sorted(names[path].glob("*.txt"))}
        if not names:
            raise ValueError(f"path = {path}: a folder without .txt files; name a file")
    return {name: _read_file(found, name, encoding) for name, found in names.items()}


def source_name(config: DataConfig) -> str:
    """What messages call the text."""
    return "data.text" if config.text is not None else f"{config.path}"


def _given(text: str, key: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        group = key.removesuffix("text")
        raise ValueError(
            f"{key}: not valid Unicode at position {error.start}; put the text in a file and name its "
            f"encoding with {group}path=... {group}encoding=..."
        ) from None
    return _not_empty(text, key)


def _find(path: str, group: str = "") -> Path:
    # `group` precedes the keys that messages name
    wanted = Path(path)
    try:
        for found in (wanted, PROJECT / wanted):
            if found.exists():
                return found
    except OSError as error:
        raise _unreadable(path, error, group) from None
    raise ValueError(f"{group}path = {path}: no such file (looked in {Path.cwd()})")


def _read_file(found: Path, path: str, encoding: str, group: str = "") -> str:
    try:
        # bytes, because Python's text mode would translate the line ends
        blob = found.read_bytes()
    except IsADirectoryError:
        raise ValueError(f"{group}path = {path}: a folder; name a file in it") from None
    except OSError as error:
        raise _unreadable(path, error, group) from None
    return _decoded(blob, path, encoding, group)


def _unreadable(path: str, error: Exception, group: str = "") -> ValueError:
    return ValueError(f"{group}path = {path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _decoded(blob: bytes, path: str, encoding: str, group: str = "") -> str:
    try:
        text = blob.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise ValueError(
            f"{group}encoding = {encoding}: no such encoding; try utf-8, latin-1 or utf-16"
        ) from None
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 4].hex(" ")
        raise ValueError(
            f"{group}path = {path}: not {encoding} text: bytes {wrong} at offset {error.start}; "
            f"name the file's encoding, such as {group}encoding=latin-1"
        ) from None
    except ValueError as error:  # some codecs, such as idna, have errors of their own
        raise _unreadable(path, error, group) from None
    return _not_empty(text, f"{group}path = {path}")


def _not_empty(text: str, source: str) -> str:
    if not text:
        raise ValueError(f"{source}: the text is empty; it needs at least one character")
    return text
