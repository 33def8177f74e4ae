"""A run directory: one process at a time writes there, and there is always a state to go on from."""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from charlstm import checkpoint, files
from charlstm.checkpoint import LAST, Checkpoint, CheckpointError

log = logging.getLogger("charlstm")

_OWNED: set[Path] = set()  # by this process


@contextmanager
def owned(directory: Path, key: str = "hydra.run.dir") -> Iterator[None]:
    """Within this context no other process can own the directory; what killed processes left is cleared.

    The lock is the kernel's, on the directory itself: it ends with the process, whatever ends that. Whoever
    owns it may enter again: the command does so before it writes the first file, and the run within that.

    Args:
        key: what the command line calls it.

    Raises:
        ValueError: another process owns it.
    """
    path = directory.resolve()
    if path in _OWNED:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{key} = {directory}: another run is writing there; name another directory"
            ) from None
        except OSError as error:  # a file system without locks
            log.warning(f"{directory} cannot be locked: {error.strerror}; let no other run use it")
        files.clear_stale(directory)
        _OWNED.add(path)
        yield
    finally:
        _OWNED.discard(path)
        os.close(handle)


def holds_a_run(directory: Path) -> bool:
    """Whether there is a state to go on from, be it a good one or not."""
    return (directory / LAST).exists() or bool(_older(directory))


def save_last(directory: Path, trained: Checkpoint, keep: int) -> None:
    """Make `trained` the last state of a run. The one before stays as `step_<number>.safetensors`, and so do
    the newest `keep` of its kind.

    Nothing older is touched before the new file is complete, on the disk, and was read back and verified.

    Raises:
        OSError, CheckpointError: it cannot be written, or not be read back; what was there is untouched.
    """
    last = directory / LAST

    def verified(fresh: Path) -> None:
        checkpoint.load(fresh)
        with suppress(CheckpointError):  # there is none, or it is not worth keeping
            _keep(last, _numbered(directory, _step(checkpoint.load(last))))

    checkpoint.save(trained, last, verified)
    older = [path for path in _older(directory) if path != _numbered(directory, _step(trained))]
    for path in older[keep:]:
        path.unlink(missing_ok=True)


def last_of(path: Path) -> tuple[Path, Checkpoint, list[str]]:
    """The newest state that a run can go on from, where it lies, and what is wrong with newer ones: in a run
    directory, or this very file.

    Raises:
        CheckpointError: there is none.
    """
    candidates = [path / LAST, *_older(path)] if path.is_dir() else [path]
    refusals = []
    for candidate in candidates:
        try:
            trained = checkpoint.load(candidate)
        except CheckpointError as error:
            refusals.append(str(error))
            continue
        if trained.training is None:
            raise CheckpointError(
                f"{candidate}: has only what sampling needs; a run goes on from its {LAST}, or its directory"
            )
        return candidate, trained, refusals
    raise CheckpointError(refusals[0])


def _older(directory: Path) -> list[Path]:
    """The checkpoints that are kept beside the last one, newest first."""
    return sorted(directory.glob("step_*.safetensors"), key=lambda path: (len(path.name), path.name))[::-1]


def _numbered(directory: Path, step: int) -> Path:
    return directory / f"step_{step:06}.safetensors"


def _step(trained: Checkpoint) -> int:
    return int(trained.training["numbers"]["step"]) if trained.training is not None else 0


def _keep(last: Path, kept: Path) -> None:
    """Give a file a second name; where the file system knows no such thing, copy it."""
    kept.unlink(missing_ok=True)  # of the same step, from before the run went back; `last` is the good one
    try:
        os.link(last, kept)
    except OSError:
        with files.whole(kept) as file, last.open("rb") as source:
            shutil.copyfileobj(source, file)
