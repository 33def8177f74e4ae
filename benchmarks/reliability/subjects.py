"""What is saved while processes are killed, power is lost and disks fail.

A subject saves checkpoints 1, 2, ... n (`forging.made`) into a directory, telling each number when its save
is done, and finds the newest there, like whoever goes on after a crash.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.reliability import forging
from charlstm import checkpoint, files


class Subject(NamedTuple):
    """Two functions.

    Attributes:
        save_all: save checkpoints 1 to n, yielding the number of each when its save has returned.
        newest: the number of the newest, after a clean-up if one is needed; 0: there is none. An error is
            what nobody may ever see.
    """

    save_all: Callable[[Path, int], Iterator[int]]
    newest: Callable[[Path], int]


def save_last(directory: Path, n: int) -> Iterator[int]:
    """One file, replaced each time."""
    for number in range(1, n + 1):
        checkpoint.save(forging.made(number, hidden=30, training=True), directory / checkpoint.LAST)
        yield number


def newest_last(directory: Path) -> int:
    """The number in that file."""
    files.clear_stale(directory)
    path = directory / checkpoint.LAST
    return checked(path) if path.exists() else 0


def checked(path: Path) -> int:
    """The number of a checkpoint, of which every value is compared."""
    found = checkpoint.load(path)
    if not forging.same(found, forging.made(found.text_length, hidden=30, training=True)):
        raise ValueError(f"{path}: another content than what was saved")
    return found.text_length


SUBJECTS = {"one file": Subject(save_last, newest_last)}
