"""Small runs of both tasks within this process, which can be stopped before any step and resumed."""

import functools
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.summary.writer import event_file_writer

from charlstm import checkpoint
from charlstm.config.compose import compose as compose_settings
from charlstm.config.settings import TrainSettings
from charlstm.runs import resume
from charlstm.runs.plan import Plan
from charlstm.runs.report import Outcome
from charlstm.runs.run import Run
from charlstm.state import Numbers
from charlstm.tasks import table
from charlstm.training import recipe, speed
from charlstm.training.loop import Training

# TensorBoard reads files by name: the second, then a number, and 10 stands before 9; runs of this process
# begin in the same second
event_file_writer._global_uid = event_file_writer.AtomicCounter(10**6)

DROPOUT = ["train.dropout.input=0.1", "train.dropout.hidden=0.2", "train.dropout.weight=0.2"]
SMALL = ["model.hidden=9", "model.layers=1", "save.every=null", "threads=1", *DROPOUT]
# 10 steps an epoch; no state that is carried from one epoch to the next would do
MEMORIZE = [
    *SMALL,
    *("train.layout=streams", "train.batch=2", "train.window=4", "train.epochs=4"),
    "train.stop_at_recall=false",
]
LM = [
    *SMALL,
    *("task=lm", "model.embedding=5", "train.batch=3", "train.window=8", "train.steps=40", "eval.times=5"),
    *(
        "train.optimizer=adamw",
        "train.lr=0.01",
        "train.weight_decay=0",
        "train.budget=5m",
        "train.averaging=0.2",
        "train.decay=cosine",
        "eval.baselines=false",
        "precision=float32",
    ),
    *("data.split=[0.6,0.4,0]",),
]


class Time:
    """A clock whose time somebody sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


PLACE = re.compile(r"(resume|data\.path)='(/[^'\\$]*)'")


@functools.cache  # a composition by Hydra takes 0.07 s
def composed(*overrides: str) -> TrainSettings:
    return compose_settings("train", TrainSettings, overrides)


def settings(overrides: Sequence[str]) -> TrainSettings:
    """Those of `train.py`; what is composed once serves for the same in other folders."""
    places = dict(found.groups() for one in overrides if (found := PLACE.fullmatch(one)))
    others = [one for one in overrides if one.partition("=")[0] not in places]
    return recipe.with_values(composed(*others), places)


def plan(*arguments: str) -> Plan:
    """The plan of a request as the command line would make it, with the state that `resume` names."""
    complete, saved = resume.complete(arguments)
    return table.plan(settings(complete), saved, typed=arguments)


def compose(*arguments: str) -> TrainSettings:
    """The settings as the command line would have them, those of `resume` included."""
    return settings(resume.complete(arguments)[0])


def text(symbols: int = 600) -> str:
    """Words of a small alphabet, all of which is in its first part."""
    letters = np.random.default_rng(0).choice(list("abcdef gh"), symbols)
    return "abcdef gh" + "".join(letters)


def go(
    directory: Path,
    *arguments: str,
    stop_before: int | None = None,
    before_step: Callable[[Training], object] | None = None,
    code: int | None = None,
) -> Path:
    """A whole request within this process; `stop_before` a step it gets SIGTERM. Returns the directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "PROBE_SECONDS", 0.0)
        planned = plan(*arguments)
        directory.mkdir(exist_ok=True)

        def hook(training: Training) -> None:
            if training.step == stop_before:
                signal.raise_signal(signal.SIGTERM)
            if before_step is not None:
                before_step(training)

        expected = code if code is not None else 0 if stop_before is None else 143
        assert carry_out(planned, directory, hook).code == expected
    return directory


def carry_out(planned: Plan, directory: Path, before_step: Callable[[Training], object]) -> Outcome:
    """The outcome of a plan; `before_step` is called before each step of its training."""
    started = table.started

    def hooked(*request: Any) -> Run:
        run = started(*request)
        run.training.before_step = partial(before_step, run.training)
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "started", hooked)
        return table.run(planned, directory)


def arrays_of(directory: Path) -> dict[str, np.ndarray]:
    """Everything that is an array in a run's last state."""
    trained = checkpoint.load(directory / "last.safetensors")
    return trained.weights | trained.arrays


def numbers_of(directory: Path) -> Numbers:
    """Its numbers, but for those of the clock."""
    numbers = checkpoint.load(directory / "last.safetensors").training.numbers
    return replace(numbers, seconds=0.0, since=replace(numbers.since, seconds=0.0))


def assert_same(first: Path, second: Path) -> None:
    """Two runs have come to the same, bit for bit."""
    one, other = arrays_of(first), arrays_of(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []
    assert numbers_of(first) == numbers_of(second)
    best = [checkpoint.load(directory / "best.safetensors").weights for directory in (first, second)]
    assert [name for name in best[0] if not np.array_equal(best[0][name], best[1][name])] == []
