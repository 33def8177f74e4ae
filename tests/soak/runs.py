"""What these commands share: tiny runs of both tasks as processes, and what they leave."""

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from tensorboard.util.tensor_util import make_ndarray

from charlstm import checkpoint
from charlstm.checkpoint import BEST, LAST, Checkpoint
from charlstm.cli import command_line
from charlstm.cli.train import planned
from charlstm.config.settings import TrainSettings
from charlstm.files import PROJECT
from charlstm.runs import resume
from charlstm.runs.plan import Plan
from charlstm.runs.run import Run
from charlstm.tasks import table
from charlstm.training import speed
from charlstm.training.loop import Training

# two threads that wait for each other must not spin where other processes want the cores
ENVIRONMENT = os.environ | {"OMP_WAIT_POLICY": "passive"}

OF_TIME = ("seconds", "spent", "chars_per_second", "train_seconds")

SMALL = ["model.hidden=12", "save.every=null", "train.dropout.input=0.1", "train.dropout.hidden=0.2"]
MEMORIZE = [*SMALL, "task=memorize", "train.stop_at_recall=false", "train.dropout.weight=0.2"]
STREAMS = [*MEMORIZE, "train.layout=streams", "train.batch=4", "train.window=7"]
LM = [
    *SMALL,
    *("task=lm", "data.path=text.txt", "model.embedding=5", "train.batch=4", "train.window=16"),
    *("train.averaging=0.1", "train.dropout.weight=0.2", "train.lr=0.005", "precision=float32"),
]
"""Of the text that `write_text` makes; `train.averaging` has its averages beside the weights."""


def write_text(folder: Path, characters: int = 6000) -> None:
    """Made-up words that the language models here learn, in `text.txt`."""
    random = np.random.default_rng(0)
    letters = list("etaoinshrdlu" * 3 + "bcfgkmpwyé")
    words = ["".join(random.choice(letters, random.integers(2, 8))) for _ in range(80)]
    lines = [" ".join(words[n] for n in random.integers(80, size=8)) for _ in range(characters // 20)]
    (folder / "text.txt").write_text("\n".join(lines)[:characters], encoding="utf-8")


def settings(*overrides: str) -> TrainSettings:
    """The settings of `train.py` with these overrides."""
    return command_line.compose("train", TrainSettings, overrides)


def trained(
    chosen: TrainSettings,
    directory: Path,
    resumed: Path | None = None,
    before_step: Callable[[Training], object] = lambda _: None,
) -> int:
    """Train within this process, from the beginning or on, calling `before_step` before each step; returns
    the exit code."""
    directory.mkdir(exist_ok=True)
    saved = resume.find(resumed) if resumed else None
    if resumed:
        chosen = replace(chosen, resume=str(resumed))
    with before_each_step(before_step):
        return table.run(table.plan(chosen, saved), directory).code


@contextmanager
def before_each_step(do: Callable[[Training], object]) -> Iterator[None]:
    """Within this context `do` is called before each step of every run."""
    started = table.started

    def hooked(plan: Plan, path: Path) -> Run:
        run = started(plan, path)
        run.training.before_step = partial(do, run.training)
        return run

    with patched(table, "started", hooked):
        yield


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within this context `owner.name` is another."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class Started:
    """A training under way in a process of its own; what it says goes to a file.

    Args:
        arguments: of train.py.
        folder: where it is started.
        forked: not as a command, which imports torch for a second or two, but as a copy of this process.
        within: a context for such a copy.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        forked: bool = False,
        within: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.said_in = folder / f"said.{time.monotonic_ns()}"
        self._popen: subprocess.Popen[bytes] | None = None
        self.said_in.touch()
        if forked:
            make = multiprocessing.get_context("fork").Process
            self._copy = make(target=_train, args=(arguments, folder, self.said_in, within))
            self._copy.start()
        else:
            with self.said_in.open("wb") as said:
                command = [sys.executable, str(PROJECT / "train.py"), *arguments]
                self._popen = subprocess.Popen(
                    command, cwd=folder, env=ENVIRONMENT, stdout=said, stderr=subprocess.STDOUT
                )

    @property
    def pid(self) -> int:
        """Of the process."""
        pid = self._popen.pid if self._popen else self._copy.pid
        assert pid is not None
        return pid

    def send(self, number: int) -> None:
        """Send a signal; one that came too late is lost."""
        if self.wait(0) is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float = 300) -> int | None:
        """The exit code, as a shell says it (137 for `kill -9`); None if it is not over by then."""
        if self._popen:
            try:
                code: int | None = self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        else:
            self._copy.join(seconds)
            code = self._copy.exitcode
        return 128 - code if code is not None and code < 0 else code

    def said(self) -> str:
        """What it said on standard output and standard error."""
        return self.said_in.read_text("utf-8", "replace")


def _train(
    arguments: list[str],
    folder: Path,
    said_in: Path,
    within: Callable[[], AbstractContextManager[object]],
) -> None:
    said = os.open(said_in, os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdin = None  # type: ignore[assignment]
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["train.py", *arguments]
    try:
        with within():
            command_line.run("", planned, table.run)
    finally:
        sys.stdout.flush()


def ready_to_fork() -> None:
    """Import what a run needs, so that copies of this process need not; timing a step is no part of them."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    import charlstm.tasks.language_model_run
    import charlstm.tasks.memorize_run  # noqa: F401

    speed.PROBE_SECONDS = 0.0
    # TensorBoard reads files by name, which has the second and then a number, and 10 stands before 9: runs
    # of this process can begin in the same second
    event_file_writer._global_uid = event_file_writer.AtomicCounter(10**6)


def finished(arguments: list[str], folder: Path, forked: bool = False) -> Path:
    """Train to the end, undisturbed, in a directory of its own; returns it."""
    directory = folder / f"undisturbed.{time.monotonic_ns()}"
    started = Started([*arguments, f"hydra.run.dir={directory}"], folder, forked)
    if started.wait() != 0:
        raise RuntimeError(started.said())
    return directory


def result(directory: Path) -> dict[str, Any]:
    """What `result.json` has."""
    figures: dict[str, Any] = json.loads((directory / "result.json").read_text("utf-8"))
    return figures


def last(directory: Path) -> Checkpoint:
    """The last state of a run."""
    return checkpoint.load(directory / LAST)


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of all that a run has come to, by kind; what depends on the clock is left out."""
    state, best = last(directory), checkpoint.load(directory / BEST)
    kinds: dict[str, Any] = {
        "weights": state.weights,
        "best weights": best.weights,
        "moments": _starting(state, "adam/"),
        "averages": _starting(state, "average/"),
        "hidden state": _starting(state, "state/"),
        "generators": _starting(state, "generator"),
        "other arrays": {
            name: array
            for name, array in state.arrays.items()
            if not name.startswith(("adam/", "average/", "state/", "generator"))
        },
    }
    sums = {kind: _sum(arrays) for kind, arrays in kinds.items()}
    assert state.training is not None
    training = asdict(state.training)
    figures = {
        name: value for name, value in result(directory).items() if name not in ("checkpoint", "resumed_from")
    }
    for kind in ("numbers", "driver", "progress", "task"):
        values = training[kind]
        if kind == "task" and "decided" in values:
            values = values | {"decided": values["decided"] | {"seconds_per_step": None}}
        sums[kind] = _text_sum(values)
    return sums | {"result": _text_sum(figures), "curves": _text_sum(curves(directory))}


def _starting(trained: Checkpoint, prefix: str) -> dict[str, Any]:
    return {name: array for name, array in trained.arrays.items() if name.startswith(prefix)}


def _sum(arrays: dict[str, Any]) -> str:
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return whole.hexdigest()


def _text_sum(values: Any) -> str:
    return hashlib.sha256(repr(_timeless(values)).encode()).hexdigest()


def _timeless(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {key: _timeless(values[key]) for key in sorted(values) if key not in OF_TIME}


def curves(directory: Path) -> dict[str, list[list[Any]]]:
    """TensorBoard's curves and texts but for those of speed and memory: steps, values, in its order.

    Read as the page does it; the older `event_accumulator` keeps texts that were drawn before a restart.
    """
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it says what it purges
    shown = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    shown.Reload()
    return {
        name: [[e.step, make_ndarray(e.tensor_proto).tolist()] for e in shown.Tensors(name)]
        for name in shown.Tags()["tensors"]
        if not name.endswith(("_per_second", "train_seconds", "peak_memory_MiB", "custom_scalars__config__"))
    }


def wrong_order(points: dict[str, list[list[Any]]]) -> list[str]:
    """The curves that go back or have a step twice."""
    found = []
    for name, line in points.items():
        steps = [step for step, _ in line]
        twice = [step for step, count in Counter(steps).items() if count > 1]
        if twice or steps != sorted(steps):
            found.append(f"{name}: {f'twice: {twice[:5]}' if twice else 'goes back'}")
    return found


def different(directory: Path, expected: dict[str, str]) -> list[str]:
    """The kinds of things in which a run differs from what is expected of it, and curves that go back."""
    found = digests(directory)
    kinds = [kind for kind in expected if found[kind] != expected[kind]]
    return kinds + wrong_order(curves(directory))
