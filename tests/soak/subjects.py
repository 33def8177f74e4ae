"""What is saved while processes are killed, power is lost and disks fail.

A subject saves checkpoints 1, 2, ... n (`forging.made`) into a directory, telling each number when its save
is done, and finds the newest there, like whoever resumes after a crash.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from charlstm import checkpoint, files
from charlstm.checkpoint import Checkpoint
from charlstm.runs import directory, resume
from tests.soak import forging


class Subject(NamedTuple):
    """Two functions.

    Attributes:
        save_all: save checkpoints 1 to n, yielding the number of each when its save has returned.
        newest: the number of the newest, after a clean-up if one is needed; 0: there is none. An error is
            what nobody may ever see.
    """

    save_all: Callable[[Path, int], Iterator[int]]
    newest: Callable[[Path], int]


def save_one(folder: Path, n: int) -> Iterator[int]:
    """One file, replaced each time."""
    for number in range(1, n + 1):
        checkpoint.save(made(number), folder / checkpoint.LAST)
        yield number


def newest_one(folder: Path) -> int:
    """The number in that file."""
    files.clear_stale(folder)
    path = folder / checkpoint.LAST
    return checked(checkpoint.load(path)) if path.exists() else 0


def save_run(folder: Path, n: int) -> Iterator[int]:
    """The last state of a run, the one before it kept beside it."""
    for number in range(1, n + 1):
        directory.save_last(folder, made(number), keep=1)
        yield number


def newest_run(folder: Path) -> int:
    """The number of the state that the run would be resumed from."""
    with directory.owned(folder):
        return checked(resume.find(folder).trained) if any(folder.iterdir()) else 0


def made(number: int) -> Checkpoint:
    return forging.made(number, hidden=30, training=True)


def checked(found: Checkpoint) -> int:
    """The number of a checkpoint, of which every value is compared."""
    if not forging.same(found, made(found.text_length)):
        raise ValueError(f"checkpoint {found.text_length} has another content than what was saved")
    return found.text_length


SUBJECTS = {"one file": Subject(save_one, newest_one), "run directory": Subject(save_run, newest_run)}
