"""The terminal: how this process was started, what goes to standard output and error, and who takes it."""

import io
import logging
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from charlstm.runs.report import quoted

ESCAPES = {n: ascii(chr(n))[1:-1] for n in (*range(32), *range(127, 160)) if chr(n) not in "\t\n\r"}
"""Control characters, which a terminal obeys, by their numbers."""


def this_command(name: str) -> str:
    """What is typed for the command `name` by who started this process as it was started: `charlstm train`,
    `python train.py` or `python -m charlstm train`; `tensorboard` is known, too."""
    if name == "tensorboard":
        return program(name)
    started = Path(sys.argv[0])
    scripts = ("train.py", "sample.py")
    if started.name in scripts and f"{name}.py" in scripts:
        return f"{program('python')} {quoted(started.with_name(f'{name}.py'))}"
    return f"{program('charlstm' if started.stem == 'charlstm' else 'python -m charlstm')} {name}"


def program(line: str) -> str:
    """A command line, with the place of its program where the shell would not find this Python's own."""
    name, *rest = line.split()
    mine = Path(sys.executable) if name == "python" else Path(sys.executable).with_name(name)
    is_found = shutil.which(name) == str(mine) or not mine.exists()
    return " ".join([name if is_found else quoted(mine), *rest])


def as_started(doc: str | None) -> str:
    """A help text whose commands, such as `charlstm train`, are written as `this_command` has them."""
    return re.sub(r"(?m)^    charlstm (\w+)", lambda found: f"    {this_command(found[1])}", doc or "")


@contextmanager
def answered() -> Iterator[None]:
    """Within this context a ValueError is a wrong request: a line for each problem, and exit code 2."""
    try:
        yield
    except ValueError as error:
        print_error(error)
        sys.exit(2)


def print_error(wrong: object) -> None:
    """Print what is wrong on standard error: a line, or of what has `problems` one for each."""
    for problem in getattr(wrong, "problems", [wrong]):
        print(f"error: {visible(str(problem))}", file=sys.stderr)


def show(text: str, flush: bool = False) -> None:
    """Write to standard output: as it is, or where that is a terminal, which obeys, `visible`."""
    print(visible(text) if sys.stdout.isatty() else text, end="", flush=flush)


def visible(text: str) -> str:
    """The text with escapes in place of control characters, but for tabs and line ends."""
    return text.translate(ESCAPES)


def escaped(text: str) -> str:
    """The text with backslashes, and all that cannot be printed, as in a Python string: `\\t`, `\\n`."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in text)


@contextmanager
def output() -> Iterator[bool]:
    """Standard output is UTF-8 with line ends as they are, in this context; yields whether it is a terminal.

    A lone surrogate, as in the name of a file that is not UTF-8, is written as its escape.
    Whatever ends the writing is answered: a wrong request as by `answered`, a reader that has gone (`| head`)
    or a closed output (`>&-`) by silence, a full disk and a model whose numbers overflow by a line and exit
    code 1, Ctrl-C by exit code 130, an OSError of any other file by a line that names it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed; print(file=None) would take the other one
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  # until the process ends
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    try:
        with redirect_stdout(stream if isinstance(stream, io.TextIOWrapper) else _Notebook(stream)):
            try:
                with answered():
                    _refuse_lost_folder()
                    yield sys.stdout.isatty()
            except OSError as error:
                if error.filename is None:  # then it is that of standard output
                    raise
                print_error(f"{error.filename}: cannot be read or written: {error.strerror}")
                sys.exit(1)
            finally:
                sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except FloatingPointError as error:
        print_error(error)
        sys.exit(1)
    except OSError as error:
        give_up_output(error)
        if not isinstance(error, BrokenPipeError):
            sys.exit(1)


def let_bytes_through() -> None:
    """Write what a model of bytes writes to standard output as it is, unless people watch."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(errors="surrogateescape")


class _Notebook(io.TextIOBase):
    """A standard output that is not made of bytes, as Jupyter's, which fails at a lone surrogate."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text.encode("utf-8", "backslashreplace").decode())
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


class Terminal(logging.StreamHandler[TextIO]):
    """A log on standard output, for which a bar makes room; where that cannot be written, the run goes on
    without. On a terminal a record that is `bold` is so, unless NO_COLOR is set, and broken between words."""

    def emit(self, record: logging.LogRecord) -> None:
        bars: Any = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode() if bars else nullcontext():
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not (getattr(record, "bold", False) and self.stream.isatty()):
            return text
        columns = shutil.get_terminal_size().columns
        text = "\n".join(textwrap.fill(line, columns) for line in text.split("\n"))
        return text if os.environ.get("NO_COLOR") else f"\x1b[1m{text}\x1b[0m"

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            give_up_output(error)
        else:
            super().handleError(record)


class Visible(logging.Formatter):
    """Lines of a log that are `visible`."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def give_up_output(error: OSError) -> None:
    """Nobody takes standard output any more: what is still to come goes nowhere."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # what is still buffered, and all that comes, goes nowhere: Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        print_error(f"standard output cannot be written: {error.strerror}")


def _refuse_lost_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ValueError("the folder that you stand in is gone; go to another one") from None
