"""`python -m tests.soak.crashes [saves=3]`: does a checkpoint survive a crash, whenever it comes?

Killed: a forked process saves, and ends without a word before, after, and in the middle of every call that
changes a file (`calls.py`). What it leaves must load: the checkpoint whose save had returned last, or the one
that was being saved; and saving must go on from there.

Power lost: the calls are noted, and after each of them a directory is made as a disk may hold it then. What
was written to a file since its last fsync may be there, or missing, or half of it, or zeros in its place; of
the names given, changed or removed since the last fsync of their directory any may be there and any missing.
That is more than most file systems lose. Here, too, what had returned must load.
"""

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import count, describe
from tests.soak.calls import Call, Watched
from tests.soak.subjects import SUBJECTS, Subject

Do = Callable[[], Any]
KILLED = 9
FAILED = "failed "
CHANGE_NOTHING = (
    "done",
    "open to read",
    "open directory",
    "close file",
    "close directory",
    "chmod",
    "fchmod",
)
MOST_PENDING = 10  # changes of names whose every subset is tried


class Row(NamedTuple):
    """A row of the table: what happened, how often, and what was wrong."""

    name: str
    count: int
    failures: list[str]


def noted(subject: Subject, directory: Path, saves: int) -> list[Call]:
    """The calls of all saves, with a call `done` after each."""
    found: list[Call] = []

    def step(call: Call, do: Do, _: Do | None) -> Any:
        try:
            result = do()
        except OSError:  # as where there is no such file: the call counts, too
            found.append(Call(f"{FAILED}{call.name}"))
            raise
        if call.name == "create":
            call = call._replace(file=Path(call.paths[0]).stat().st_ino)
        found.append(call)
        return result

    with Watched(step):
        for _ in subject.save_all(directory, saves):
            found.append(Call("done"))
    return found


def die_at(subject: Subject, directory: Path, saves: int, at: int, when: str) -> int:
    """Save in a child that ends at call number `at`; returns how many saves had returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != KILLED:
            raise RuntimeError(f"the child did not come to call {at}: it ended with {code}")
        return len(said)
    calls = itertools.count()
    write = os.write

    def step(_: Call, do: Do, half: Do | None) -> Any:
        reached = next(calls) == at
        if reached and when == "before":
            os._exit(KILLED)
        if reached and when == "within" and half is not None:
            half()
            os._exit(KILLED)
        try:
            return do()
        finally:
            if reached:
                os._exit(KILLED)

    try:
        with Watched(step):
            for _ in subject.save_all(directory, saves):
                write(writing, b".")
    finally:
        os._exit(1)


def wrong(subject: Subject, directory: Path, returned: int, saves: int) -> str:
    """What is wrong with a directory after a crash, or nothing."""
    try:
        found = subject.newest(directory)
        if not returned <= found <= returned + 1:
            return f"found checkpoint {found}, but the save of {returned} had returned"
        *_, last = subject.save_all(directory, saves)
        if subject.newest(directory) != last:
            return "saving does not go on from there"
    except Exception as error:
        return repr(error)
    left = [path.name for path in directory.iterdir() if path.name.startswith(".")]
    return f"left over: {left}" if left else ""


def killed(subject: Subject, saves: int, folder: Path) -> Iterator[Row]:
    """A row for each call and moment."""
    (folder / "noted").mkdir()
    names = [call.name for call in noted(subject, folder / "noted", saves) if call.name != "done"]
    for name in dict.fromkeys(names):
        for when in ("before", "within", "after") if name == "write" else ("before", "after"):
            places = [k for k, other in enumerate(names) if other == name]
            failures = []
            for k in places:
                directory = folder / f"killed {k} {when}"
                directory.mkdir()
                returned = die_at(subject, directory, saves, k, when)
                if problem := wrong(subject, directory, returned, saves):
                    failures.append(f"killed {when} call {k}, {name}: {problem}")
                shutil.rmtree(directory)
            yield Row(f"killed {when} {name}", len(places), failures)


class Disk:
    """What is on a disk and what is only in memory, after some calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[int, tuple[bytes, bytes]] = {}  # content on disk, and as it is seen
        self.numbers: dict[int, int] = {}  # a file system gives the number of a removed file to the next
        self.seen: dict[str, int] = {}
        self.names: dict[str, int] = {}  # on disk
        self.pending: list[tuple[str | None, str | None, int]] = []  # from a name, to a name, the file

    def apply(self, call: Call) -> None:
        """One call, as it is noted."""
        number = self.numbers.get(call.file, -1)
        if call.name == "create":
            if call.paths[0] not in self.seen:
                number = self.numbers[call.file] = len(self.files)
                self._rename(None, call.paths[0], number)
            self.files[number] = (self.files.get(number, (b"",))[0], b"")
        elif call.name == "write":
            durable, now = self.files[number]
            padded = now.ljust(call.offset, b"\0")
            self.files[number] = (
                durable,
                padded[: call.offset] + call.data + padded[call.offset + len(call.data) :],
            )
        elif call.name in ("fsync file", "fdatasync file"):
            self.files[number] = (self.files[number][1],) * 2
        elif call.name == "fsync directory":
            self.names, self.pending = dict(self.seen), []
        elif call.name in ("replace", "rename"):
            self._rename(call.paths[0], call.paths[1], self.seen[call.paths[0]])
        elif call.name == "link":
            self._rename(None, call.paths[1], self.seen[call.paths[0]])
        elif call.name in ("unlink", "remove"):
            self._rename(call.paths[0], None, -1)
        elif call.name not in CHANGE_NOTHING and not call.name.startswith(FAILED):
            raise NotImplementedError(f"what {call.name} leaves on a disk is not modelled")

    def _rename(self, source: str | None, target: str | None, number: int) -> None:
        self.pending.append((source, target, number))
        self._move(self.seen, *self.pending[-1])

    @staticmethod
    def _move(names: dict[str, int], source: str | None, target: str | None, number: int) -> None:
        if source is not None:
            names.pop(source, None)
        if target is not None:
            names[target] = number

    def after_a_loss(self) -> Iterator[dict[str, bytes]]:
        """Every content of the directory that may be found."""
        count = len(self.pending)
        if count > MOST_PENDING:
            raise NotImplementedError(f"{count} names changed without an fsync of their directory")
        for kept in itertools.product((False, True), repeat=count):
            names = dict(self.names)
            for keep, change in zip(kept, self.pending, strict=True):
                if keep:
                    self._move(names, *change)
            contents = {name: self._contents(*self.files[number]) for name, number in names.items()}
            for way in range(4):
                yield {name: content[way] for name, content in contents.items()}

    @staticmethod
    def _contents(durable: bytes, now: bytes) -> tuple[bytes, ...]:
        """What a file may be found to hold."""
        if durable == now:
            return (now,) * 4
        return durable, now, now[: len(now) // 2], b"\0" * len(now)


def powerless(subject: Subject, saves: int, folder: Path) -> Iterator[Row]:
    """A row for each kind of call after which the power is lost."""
    root = folder / "disk"
    root.mkdir()
    calls = noted(subject, root, saves)
    disk, returned = Disk(root), 0
    rows: dict[str, Row] = {}
    for k, call in enumerate(calls):
        disk.apply(call)
        returned += call.name == "done"
        row = rows.setdefault(call.name, Row(f"power lost after {call.name}", 0, []))
        different = {tuple(sorted(found.items())) for found in disk.after_a_loss()}
        for state in different:
            directory = folder / "found"
            directory.mkdir()
            for name, content in state:
                path = directory / Path(name).relative_to(root)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if problem := wrong(subject, directory, returned, saves):
                sizes = {Path(name).name: len(content) for name, content in state}
                row.failures.append(f"power lost after call {k}, {call.name}: {problem}; found {sizes}")
            shutil.rmtree(directory)
        rows[call.name] = row._replace(count=row.count + len(different))
    yield from rows.values()


def main(saves: int) -> int:
    """Print the table; returns 1 if a checkpoint was lost."""
    print(describe())
    print(f"{'saved':>14}  {'crash':34} {'cases':>6} {'lost':>6}")
    failures: list[str] = []
    for name, subject in SUBJECTS.items():
        for crash in (killed, powerless):
            with tempfile.TemporaryDirectory() as folder:
                for row in crash(subject, saves, Path(folder)):
                    print(f"{name:>14}  {row.name:34} {row.count:6} {len(row.failures):6}", flush=True)
                    failures += row.failures
    print("\n".join(failures[:30]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(count("saves", 3)))
