"""What several test files share: settings as the command line makes them, and runs of the real commands."""

import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Several processes are under way at once, so none uses all cores, or waits for one by spinning, unless it is
# told to. NumPy and torch read this when they are imported, here and in what tests start.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="passive")

import hypothesis
import pytest
import torch
from filelock import FileLock
from warm import PYTHON, server
from xdist.scheduler.loadscope import LoadScopeScheduling

from charlstm.cli import command_line
from charlstm.config.compose import files_read_once
from charlstm.config.settings import TrainSettings
from charlstm.files import PROJECT
from charlstm.training.machine import available_cores

hypothesis.settings.register_profile(
    "no deadline", deadline=None
)  # how long an example takes is the machine's business
hypothesis.settings.load_profile("no deadline")

SENTENCE = "hello pytorch. how long can a rnn cell remember? show me your limit!"


@functools.cache  # a composition by Hydra takes 0.07 s
def settings(*overrides: str) -> TrainSettings:
    """The settings of `train.py` with these overrides."""
    return command_line.compose("train", TrainSettings, overrides)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.path.stem not in ("test_benchmarks", "test_readme", "test_reliability"))


class Scheduling(LoadScopeScheduling):
    """Tests go to the processes one by one, but those that share what took long to make stay together.

    `--dist loadgroup` would do if xdist 3.8 could mark tests of pytest 9.2.
    """

    TOGETHER = (
        "readme",
        "page",
        "bad_input",
        "search",
        "run",
        "language_model",
        "held_out",
        "in_tensorboard",
    )

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if Path(file).stem.removeprefix("test_") in self.TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """How `-n` distributes the tests."""
    return Scheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait, for a process to begin, to be stopped or to end."""
    return available_cores() + 1


@pytest.fixture(scope="session", autouse=True)
def configuration() -> Iterator[None]:
    """The files of `conf/` are read once."""
    with files_read_once():
        yield


@pytest.fixture(autouse=True)
def denormals() -> None:
    """What a run of an earlier test did to this process's arithmetic is undone."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session", autouse=True)
def warm() -> Iterator[None]:
    """Commands of the tests begin without the seconds in which torch is imported."""
    with TemporaryDirectory() as folder, server(Path(folder, "socket")):
        yield


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run a Python command of the project in an empty folder; returns the finished process."""

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*PYTHON, str(PROJECT / script), *arguments],
            cwd=tmp_path,
            capture_output=True,
            timeout=300,
        )
        # decoded here, because subprocess would translate the line ends
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
        )

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one real main job, one for all workers."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    directory = folder / "main job"
    with FileLock(folder / "main job.lock"):
        if not (directory / "standard output").exists():
            done = subprocess.run(
                [*PYTHON, str(PROJECT / "train.py"), f"hydra.run.dir='{directory}'"],
                cwd=folder,
                capture_output=True,
                encoding="utf-8",
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
            (directory / "standard output").write_text(done.stdout, encoding="utf-8")
    return directory
