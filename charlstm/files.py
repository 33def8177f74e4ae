"""Files that are there whole or not at all; where those are that come with charlstm."""

import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PACKAGE = Path(__file__).resolve().parent

PROJECT = _PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent
"""Where conf/ and data/ are: in the package if it came as a wheel, in a clone beside it."""

UNFINISHED = re.compile(r"\.charlstm-[0-9a-f]{16}\.part")


@contextmanager
def whole(path: Path, ready: Callable[[Path], object] | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which is at `path` when the context ends well: whoever looks there finds the old
    file or the whole new one, however many write at once, and after a loss of power, too. It takes the place
    of a link, and leaves alone what that led to. `ready` gets the complete new file, under its temporary
    name, before it takes the place of the old one, which it does not if this raises.

    Raises OSError if it cannot be written, and the old file is untouched; or if all is done but to make it
    last: then the new file is there and whole, but a loss of power may bring back the old."""
    # In the same directory: a rename is atomic only within one file system. The name is not made of that of
    # the path, which may be as long as a name can be, and no other program has such names.
    temporary = path.parent / f".charlstm-{os.urandom(8).hex()}.part"
    # the directory is opened before anything is written: what fails here would fail after the rename, too
    flags = getattr(os, "O_DIRECTORY", None)  # Windows opens no folders
    directory = None if flags is None else os.open(path.parent, os.O_RDONLY | flags)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if ready is not None:
            ready(temporary)
        temporary.replace(path)
        if directory is not None:
            os.fsync(directory)  # only now does the rename last
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise
    finally:
        if directory is not None:
            os.close(directory)


@contextmanager
def written_to(out: str, what: str = "written") -> Iterator[None]:
    """Within this context an OSError is a ValueError that names the key `out` and `what` it cannot be."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"out = {out}: cannot be {what}: {error.strerror}") from None


def clear_stale(directory: Path) -> None:
    """Remove what writers of `whole` files left in a directory when they were killed; for who makes sure, by
    a lock on it, that none is alive. OSError if it cannot be read, or a file not be removed."""
    for path in sorted(directory.iterdir()):
        if UNFINISHED.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
            path.unlink(missing_ok=True)


@contextmanager
def regular(path: Path) -> "Iterator[io.BufferedReader[io.FileIO]]":
    """A file to read from; OSError if it cannot be opened, or is a pipe or device, which might never end."""

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its writer

    with io.BufferedReader(io.FileIO(path, opener=at_once)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is a pipe or a device, not a file")
        yield file
