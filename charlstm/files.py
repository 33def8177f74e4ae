"""Files that are there whole or not at all, and the folder for what can be made again."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: Path, ready: Callable[[Path], object] | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which is at `path` when the context ends well: whoever looks there finds the old
    file or the whole new one, however many write at once.

    Args:
        ready: gets the complete new file, under its temporary name, before it takes the place of the old one,
            which it does not if this raises.

    Raises:
        OSError: it cannot be written; what was at `path` is untouched.
    """
    # The temporary file lies in the same directory: a rename is atomic only within one file system.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        if ready is not None:
            ready(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself is durable only once the directory is
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def clear_stale(directory: Path) -> None:
    """Remove what writers that were killed left behind; nobody may be writing there."""
    for path in directory.glob(".*.safetensors.*"):
        path.unlink(missing_ok=True)


def cache() -> Path:
    """The folder that `CHARLSTM_CACHE` names, or `charlstm` in `XDG_CACHE_HOME` or `~/.cache`."""
    if given := os.environ.get("CHARLSTM_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "charlstm"


def _umask() -> int:
    # mkstemp makes files for the owner alone; the only way to read the umask is to set it
    mask = os.umask(0)
    os.umask(mask)
    return mask
