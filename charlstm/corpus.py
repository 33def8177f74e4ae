"""A string or a file -> the text that is learnt."""

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
        text, source = config.text, "data.text"
        _refuse_surrogates(text)
    elif config.path:
        text, source = _read_file(config.path, config.encoding), f"data.path = {config.path}"
    else:
        raise ValueError("data.path is not set; name a text file, or give the text itself with data.text=...")
    if not text:
        raise ValueError(f"{source}: the text is empty; it needs at least one character")
    return text


def source_name(config: DataConfig) -> str:
    """What messages call the text."""
    return "data.text" if config.text is not None else f"{config.path}"


def _read_file(path: str, encoding: str) -> str:
    wanted = Path(path)
    try:
        found = wanted if wanted.exists() else PROJECT / wanted
        # bytes, because Python's text mode would translate the line ends
        return found.read_bytes().decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise ValueError(
            f"data.encoding = {encoding}: no such encoding; try utf-8, latin-1 or utf-16"
        ) from None
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 4].hex(" ")
        raise ValueError(
            f"data.path = {path}: not {encoding} text: bytes {wrong} at offset {error.start}; "
            "name the file's encoding, such as data.encoding=latin-1"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"data.path = {path}: no such file (looked in {Path.cwd()})") from None
    except IsADirectoryError:
        raise ValueError(f"data.path = {path}: a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"data.path = {path}: cannot be read: {reason}") from None


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"data.text: not valid Unicode at position {error.start}; put the text in a file and name its "
            "encoding with data.path=... data.encoding=..."
        ) from None
