"""What becomes of a run whose disk fills, or whose directory is lost?

    python -m tests.soak.full_disk

As root on Linux on a real file system of 2 MB (tmpfs), which is filled at the start, in the middle for a
while, or in the middle for good; elsewhere by a limit on the size of files. Then with a run directory that is
made unwritable, or is deleted, in the middle. Training must go on to its end, say once that TensorBoard's
curves end, try again to save at the next interval, and leave the checkpoint before it as it was; messages
have the bytes that are needed and free; the exit code is 1 if the last state could not be saved; and there
is no traceback. The exit code is 1 if anything is not so.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.machine import describe
from charlstm import checkpoint
from charlstm.checkpoint import LAST
from charlstm.training.loop import Training
from tests.soak import runs
from tests.soak.runs import LM, Started

RUN = [*LM, "train.steps=3000", "eval.times=30", "save.steps=300", "threads=1", "eval.baselines=false"]
PAUSES = (1000, 2000)  # the steps before which it waits for what is done to it, if that is in the middle


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A file system of 2 MB; None where none can be mounted."""
    with tempfile.TemporaryDirectory() as name:
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", name]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def start(folder: Path, where: Path, limit: int | None = None, pauses: tuple[int, ...] = ()) -> Started:
    """A run; with files of so many bytes at most, or with pauses."""

    def pause(training: Training) -> None:
        if training.step in pauses:
            (folder / f"at {training.step}").touch()
            while not (folder / f"past {training.step}").exists():
                time.sleep(0.01)

    @contextmanager
    def within() -> Iterator[None]:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with runs.before_each_step(pause):
            yield

    return Started([*RUN, f"hydra.run.dir={where}"], folder, True, within)


@contextmanager
def paused(folder: Path, step: int, started: Started) -> Iterator[None]:
    """While the run waits before this step."""
    while not (folder / f"at {step}").exists() and started.wait(0.02) is None:
        pass
    yield
    (folder / f"past {step}").touch()


def problems_of(started: Started, code: int, *wanted: str, unwanted: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with the end of a run, and with what it said."""
    found = started.wait()
    said = started.said()
    # 2 is for a run directory that cannot even be begun
    wrong = found != code and not (code == 1 and found == 2 and "cannot be made" in said)
    problems = [f"exit code {found}, not {code}"] if wrong else []
    problems += [f"said nothing of {text!r}" for text in wanted if text not in said]
    problems += [f"said {text!r}" for text in ("Traceback", "Exception ignored", *unwanted) if text in said]
    if said.count("TensorBoard's curves end here") > 1:
        problems.append("said more than once that the curves end")
    return [f"{', '.join(problems)}: {said[:200]} ... {said[-1500:]}"] if problems else []


def intact(where: Path) -> list[str]:
    """What is wrong with the checkpoints that are there."""
    try:
        for path in where.glob("*.safetensors"):
            checkpoint.load(path)
        checkpoint.load(where / LAST)
    except checkpoint.CheckpointError as error:
        return [str(error)]
    return [f"{path.name} is left" for path in where.glob(".charlstm-*")]


def full_at_the_start(disk: Path, folder: Path) -> list[str]:
    """Not a byte is free."""
    filler = fill(disk)
    started = start(folder, disk / "run")
    problems = problems_of(started, 2, "error: ", "No space left on device")
    filler.unlink()
    return problems


def full_soon(disk: Path, folder: Path) -> list[str]:
    """The first bytes fit: some of the configuration, the log, or the curves."""
    problems = []
    for room in (4096, 16384, 40960, 65536):
        filler = fill(disk)
        with filler.open("rb+") as file:
            file.truncate(filler.stat().st_size - room)
        started = start(folder, disk / f"run{room}")
        problems += [f"{room} bytes: {text}" for text in problems_of(started, 1, "No space left on device")]
        shutil.rmtree(disk / f"run{room}", ignore_errors=True)
        filler.unlink()
    return problems


def full_for_a_while(disk: Path, folder: Path) -> list[str]:
    """In the middle, and then there is room again."""
    where = disk / "run"
    started = start(folder, where, pauses=PAUSES)
    with paused(folder, PAUSES[0], started):
        filler = fill(disk)
    with paused(folder, PAUSES[1], started):
        problems = intact(where)
        filler.unlink()
    problems += problems_of(started, 0, "No space left on device; it needs ", "bytes, 0 are free")
    return problems + intact(where) + _whole(where)


def full_to_the_end(disk: Path, folder: Path) -> list[str]:
    """From the middle on."""
    where = disk / "run"
    started = start(folder, where, pauses=PAUSES[:1])
    with paused(folder, PAUSES[0], started):
        fill(disk)
        before = runs.last(where).step
    problems = problems_of(started, 1, "No space left on device; it needs ", "TensorBoard's curves end here")
    after = runs.last(where).step
    return problems + intact(where) + ([] if after == before else [f"step {before} became {after}"])


def files_at_most(_disk: Path, folder: Path) -> list[str]:
    """No file may be longer than 20,000 bytes, which no checkpoint fits, and not the curves for long."""
    return problems_of(start(folder, folder / "limited", limit=20_000), 1, "File too large; it needs ")


def unwritable(_disk: Path, folder: Path) -> list[str]:
    """The directory is made unwritable in the middle; for root, who may write everywhere, the run becomes
    another user's there."""
    where = folder / "unwritable"

    def lose(training: Training) -> None:
        if training.step == 1000:
            where.chmod(0o555)
            if os.getuid() == 0:
                os.setuid(65534)

    started = Started([*RUN, f"hydra.run.dir={where}"], folder, True, partial(runs.before_each_step, lose))
    problems = problems_of(started, 1, "not saved: Permission denied; it needs ")
    where.chmod(0o755)
    return problems + intact(where)


def deleted(_disk: Path, folder: Path) -> list[str]:
    """The directory is deleted in the middle."""
    where = folder / "deleted"
    started = start(folder, where, pauses=PAUSES[:1])
    with paused(folder, PAUSES[0], started):
        where.rename(folder / "elsewhere")
    return problems_of(started, 1, "not saved: No such file or directory; it needs ")


def _whole(where: Path) -> list[str]:
    saved = runs.last(where).step
    steps = runs.result(where)["steps"]
    return [] if saved == steps == 3000 else [f"the last state is of step {saved}, the result of {steps}"]


CASES: dict[str, Callable[[Path, Path], list[str]]] = {
    "full at the start": full_at_the_start,
    "full soon after": full_soon,
    "full for a while": full_for_a_while,
    "full to the end": full_to_the_end,
    "files of limited size": files_at_most,
    "directory unwritable": unwritable,
    "directory gone": deleted,
}


def main(words: list[str]) -> int:
    """Print a row for each case that has one of the words, or for all; returns 1 if there is a problem."""
    runs.ready_to_fork()
    print(describe())
    wrong = 0
    for case, check in CASES.items():
        if words and not any(word in case for word in words):
            continue
        with small_disk() as disk, tempfile.TemporaryDirectory() as name:
            if disk is None and case.startswith("full"):
                print(f"{case:24} no file system can be mounted here")
                continue
            folder = Path(name)
            runs.write_text(folder)
            problems = check(disk or folder, folder)
        wrong += bool(problems)
        print(f"{case:24} {'; '.join(problems) or 'as it should be'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
