"""What a run leaves for people and programs at its end: `result.json` and what to do next."""

import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from charlstm import files


@contextmanager
def heard_by(*handlers: logging.Handler, name: str = "charlstm") -> Iterator[None]:
    """Within this context a log goes to these handlers, too, and no higher; afterwards it is as it was."""
    log = logging.getLogger(name)
    before = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [*log.handlers, *handlers], False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers, level, log.propagate = before
        log.setLevel(level)
        for handler in handlers:
            handler.close()


def write_result(directory: Path, result: Mapping[str, Any], name: str = "result.json") -> None:
    """Write final figures, all of them finite, to a JSON file. Raises OSError."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    with files.whole(directory / name) as file:
        # a path may have a lone surrogate, whose escape is JSON's, too
        file.write(text.encode(errors="backslashreplace") + b"\n")


def shown(path: Path) -> Path:
    """A path as it is typed from here."""
    relative = Path(os.path.relpath(path))
    # absolute, too, what would be taken for the user's home or an option
    return path.absolute() if ".." in relative.parts or str(relative)[0] in "~-" else relative


def quoted(value: object) -> str:
    """A word as it is pasted into a shell: what a terminal would not show as it is in bash's `$'...'`."""
    text = str(value)
    if text.isprintable():
        return shlex.quote(text)
    bytes_of = (("'" in c or c == "\\" or not c.isprintable(), c) for c in text)
    coded = ("".join(f"\\x{b:02x}" for b in os.fsencode(c)) if is_one else c for is_one, c in bytes_of)
    return f"$'{''.join(coded)}'"


class Outcome(NamedTuple):
    """How a run ended."""

    code: int  # 0 done, 1 failed, 130, 143 or 129 stopped by SIGINT, SIGTERM or SIGHUP
    stopped: bool = False  # by a signal, so that no other run is wanted after it
    checkpoint: Path | None = None  # that can be used from now on; None: none was saved
    resume: tuple[str, ...] | None = None  # keys besides its name; None: there is nothing to resume
    prompt: str = ""  # what the model needs to read before it can write
    steps: int | None = None  # that were made, of a run that came to its end
    problems: tuple[str, ...] = ()  # what was said to be wrong
