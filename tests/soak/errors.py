"""`python -m tests.soak.errors [saves=2]`: what does a failing disk leave of the checkpoints?

Injected: at every call of the saves that concerns files (`calls.py`) the call fails, in turn with each error,
once or, like every call after it, for good. A write also fails after half of its bytes. The error must come
out, unless a save can do without that call; the newest checkpoint whose save had returned, or the one that
was being saved, must load; and once the disk works again, so must saving, with nothing left over.

A full disk: a file system of 2 MB in memory, mounted in a namespace of its own, with ever less room left.
Where mounting is not allowed, a limit to the size of a file (RLIMIT_FSIZE) takes its place.
"""

import errno
import itertools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import count, describe
from charlstm.checkpoint import CheckpointError
from charlstm.files import PROJECT
from tests.soak.calls import Call, Watched
from tests.soak.crashes import Row, noted, wrong
from tests.soak.subjects import SUBJECTS, Subject

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
SIZE = 2 * 2**20
NO_MOUNT = 75
REMOVALS = ("unlink", "remove", "rmdir")
# what a save may do without: a second name for the old file, which it can copy, and the old file at all
NEEDLESS = (*REMOVALS, "link", "open to read")

Do = Callable[[], Any]


def failing(at: int, code: int, for_good: bool) -> tuple[Callable[..., Any], list[str]]:
    """A step that fails at call `at`, and the list of the names of the calls that it let fail."""
    calls = itertools.count()
    failed: list[str] = []

    def step(call: Call, do: Do, half: Do | None) -> Any:
        number = next(calls)
        if number == at or (for_good and number > at):
            failed.append(call.name)
            if half is not None and number == at:
                half()
            elif call.name.startswith("close"):
                do()  # a close that fails has closed
            raise OSError(code, os.strerror(code))
        return do()

    return step, failed


def save(subject: Subject, directory: Path, saves: int) -> tuple[int, Exception | None]:
    """How many saves returned, and what came out of the next."""
    returned = 0
    try:
        for returned in subject.save_all(directory, saves):  # noqa: B007
            pass
    except Exception as error:
        return returned, error
    return returned, None


def problem(subject: Subject, directory: Path, saves: int, failed: list[str], outcome: Any) -> str:
    """What is wrong with the outcome of saves on a disk that works again, or nothing."""
    returned, error = outcome
    if error is not None and not isinstance(error, OSError | CheckpointError):
        return repr(error)
    if error is None and failed and failed[0] not in NEEDLESS:
        return "a silent success"
    clean = not set(failed) & set(REMOVALS)
    left = [path.name for path in directory.iterdir() if path.name.startswith(".")]
    return f"left over: {left}" if clean and left else wrong(subject, directory, returned, saves)


def injected(subject: Subject, saves: int, folder: Path) -> Iterator[Row]:
    """A row for each kind of call."""
    (folder / "noted").mkdir()
    names = [call.name for call in noted(subject, folder / "noted", saves) if call.name != "done"]
    for name in dict.fromkeys(names):
        count, failures = 0, []
        for at in (k for k, other in enumerate(names) if other == name):
            for code, for_good in itertools.product(ERRORS, (False, True)):
                directory = folder / "failing"
                directory.mkdir()
                step, failed = failing(at, code, for_good)
                with Watched(step):
                    outcome = save(subject, directory, saves)
                if found := problem(subject, directory, saves, failed, outcome):
                    failures.append(f"call {at}, {name}, {errno.errorcode[code]}, {for_good=}: {found}")
                shutil.rmtree(directory)
                count += 1
        yield Row(f"error at {name}", count, failures)


def full(subject: Subject, folder: Path, limited: bool) -> Row:
    """Save where one checkpoint is, with room for less and less of another, down to none."""
    failures: list[str] = []
    refused, rooms = 0, range(0, 32 * 8192, 8192)  # up to three files
    for room in rooms:
        directory = folder / "full"
        directory.mkdir()
        *_, first = subject.save_all(directory, 1)
        filler = folder / "filler"
        if limited:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        else:
            filler.write_bytes(b"x" * (shutil.disk_usage(folder).free - room))
        returned, error = save(subject, directory, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        filler.unlink(missing_ok=True)
        refused += error is not None
        if found := problem(subject, directory, 2, [], (max(first, returned), error)):
            failures.append(f"{room} bytes of room: {found}")
        shutil.rmtree(directory)
    if refused in (0, len(rooms)):
        failures.append(f"{refused} of {len(rooms)} saves were refused: this is no test")
    return Row("limited size of files" if limited else "full file system", len(rooms), failures)


def on_a_full_disk() -> int:
    """Run `full` for every subject on a file system of its own, or under a limit; returns its exit code."""
    command = [sys.executable, "-m", "tests.soak.errors"]
    with tempfile.TemporaryDirectory() as folder:
        unshare = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
        mount = f'mount -t tmpfs -o size={SIZE} tmpfs "$0" || exit {NO_MOUNT}; exec "$@"'
        mounted = [*unshare, "sh", "-c", mount, folder, *command, f"mounted={folder}"]
        if shutil.which("unshare"):
            done = subprocess.run(mounted, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
            if done.returncode in (0, 1) and "unshare: " not in done.stderr:
                sys.stderr.write(done.stderr)
                return done.returncode
        return subprocess.run([*command, f"limited={folder}"], cwd=PROJECT).returncode


def show(name: str, row: Row) -> int:
    """Print a row and what is wrong in it; returns how much that is."""
    print(f"{name:>14}  {row.name:28} {row.count:6} {len(row.failures):6}", flush=True)
    for failure in row.failures[:10]:
        print(failure)
    return len(row.failures)


def main(saves: int) -> int:
    """Print the table; returns 1 if an error was kept silent or lost a checkpoint."""
    print(describe())
    print(f"{'saved':>14}  {'error':28} {'cases':>6} {'wrong':>6}", flush=True)
    failures = 0
    for name, subject in SUBJECTS.items():
        with tempfile.TemporaryDirectory() as folder:
            failures += sum(show(name, row) for row in injected(subject, saves, Path(folder)))
    return 1 if failures + on_a_full_disk() else 0


if __name__ == "__main__":
    key, _, given = "".join(sys.argv[1:]).partition("=")
    if key in ("mounted", "limited"):
        rows = {name: full(subject, Path(given), key == "limited") for name, subject in SUBJECTS.items()}
        sys.exit(min(1, sum(show(name, row) for name, row in rows.items())))
    sys.exit(main(count("saves", 2)))
