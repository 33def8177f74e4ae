"""A run directory: one process at a time writes there, and there is always a state to resume from."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from charlstm import checkpoint, files
from charlstm.checkpoint import BEST, LAST, Checkpoint, CheckpointError
from charlstm.runs.report import quoted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("charlstm")

MARKER = ".charlstm"  # an empty file in every directory that a run of ours made its own
SWEPT = ".charlstm-sweep"  # the same of a sweep
RUNS = [Path("outputs"), Path("multirun"), Path("runs")]  # where they are, as `conf/train.yaml` has it

_OWNED: set[Path] = set()  # by this process


@contextmanager
def claimed(directory: Path, key: str, resumed: Path | None, is_sweep: bool = False) -> Iterator[None]:
    """Within this context the directory is `owned`, and nothing is in it but what a run of ours wrote: it is
    new, empty, or that of a run that was never saved or is resumed; for a sweep it is that of an earlier one.
    Raises ValueError if it holds something else or another process owns it, OSError if it cannot be made."""
    directory.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in directory.iterdir()}
    # older runs left no marker, but what they were asked for
    is_saved = any(name == "result.json" or name.endswith(".safetensors") for name in names)
    asked = not names & {"config", "train.log"} or (directory / "config" / "overrides.yaml").exists()
    is_own = SWEPT in names if is_sweep else MARKER in names or (is_saved and asked)
    if names and not is_own:
        raise ValueError(f"{key} = {directory}: holds other files; name a new or an empty folder")
    with owned(directory, key):
        check_unused(directory, key, resumed)
        (directory / (SWEPT if is_sweep else MARKER)).touch()
        yield


def check_unused(directory: Path, key: str, resumed: Path | None = None) -> None:
    """Raise ValueError if a directory holds another run than the one that is resumed, or a result."""
    is_own = resumed is not None and resumed.resolve() in (directory.resolve(), (directory / LAST).resolve())
    has_result = (directory / "result.json").exists()
    if holds_a_run(directory) and not has_result and not is_own:
        raise ValueError(
            f"{key} = {directory}: holds a run that can be resumed; name a new one, or give "
            f"resume={quoted(directory)}"
        )
    if has_result or (any(directory.glob("*.safetensors")) and not is_own):
        raise ValueError(f"{key} = {directory}: holds the result of another run; name a new one")


@contextmanager
def owned(directory: Path, key: str = "hydra.run.dir") -> Iterator[None]:
    """Within this context no other process can own the directory, which `key` names; what killed processes
    left is cleared. Raises ValueError if another process owns it. The lock is the kernel's, on the directory
    itself: it ends with the process. Whoever owns it may enter again, as a run does within its command."""
    path = directory.resolve()
    if path in _OWNED:
        yield
        return
    handle = None if fcntl is None else os.open(path, os.O_RDONLY)  # where no folder can be opened
    try:
        try:
            if handle is None:
                raise OSError(0, "this system has no such locks")
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
        if handle is not None:
            os.close(handle)


def holds_a_run(directory: Path) -> bool:
    """Whether there is a state to resume from, be it a good one or not."""
    return (directory / LAST).exists() or bool(older(directory))


def saved_in(folders: Sequence[Path], asked: str) -> list[Path]:
    """The directories of saved runs in these folders, at any depth, in the order in which they were saved;
    ValueError if there is none, which names what was `asked` for."""
    when: dict[Path, int] = {}
    for file in chain.from_iterable(folder.rglob("*.safetensors") for folder in folders):
        if file.name in (BEST, LAST):
            when[file.parent] = max(when.get(file.parent, 0), file.lstat().st_mtime_ns)
    if not when:
        places = ", ".join(f"{folder}/" for folder in folders)
        raise ValueError(f"{asked}: no run in {places} (looked in {Path.cwd()}); name another folder")
    return sorted(when, key=lambda path: (when[path], path))


def save_last(directory: Path, trained: Checkpoint, keep: int, before: int | None = None) -> None:
    """Make `trained` the last state of a run, and the one before one of the newest `keep` that stay as
    `step_<number>.safetensors`.

    Nothing older is touched before the new file is on the disk, and was read back and compared: OSError or
    CheckpointError if that cannot be. `before` is the step of the state that is there; None: it is read."""
    last = directory / LAST

    def keep_the_one_before() -> None:
        with suppress(CheckpointError):  # there is none, or it is not worth keeping
            step = before if before is not None else checkpoint.load(last).step
            kept = _numbered(directory, step)
            kept.unlink(missing_ok=True)  # of the same step, from before the run went back; `last` is good
            try:
                os.link(last, kept)
            except OSError:  # the file system has no second names
                with files.whole(kept) as file, last.open("rb") as source:
                    shutil.copyfileobj(source, file)

    checkpoint.save(trained, last, keep_the_one_before)
    for path in [path for path in older(directory) if path != _numbered(directory, trained.step)][keep:]:
        path.unlink(missing_ok=True)


def older(directory: Path) -> list[Path]:
    """The checkpoints that are kept beside the last one, newest first."""
    return sorted(directory.glob("step_*.safetensors"), key=lambda path: (len(path.name), path.name))[::-1]


def _numbered(directory: Path, step: int) -> Path:
    return directory / f"step_{step:06}.safetensors"
