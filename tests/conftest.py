"""What several test files share: settings as the command line makes them, and runs of the real commands."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch

from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.text.source import PROJECT

hypothesis.settings.register_profile(
    "no deadline", deadline=None
)  # how long an example takes is the machine's business
hypothesis.settings.load_profile("no deadline")

SENTENCE = "hello pytorch. how long can a rnn cell remember? show me your limit!"


def settings(*overrides: str) -> TrainSettings:
    """The settings of `train.py` with these overrides."""
    return command_line.compose("train", TrainSettings, overrides)


@pytest.fixture(autouse=True)
def denormals() -> None:
    """What a run of an earlier test did to this process's arithmetic is undone."""
    torch.set_flush_denormal(False)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run a Python command of the project in an empty folder; returns the finished process."""

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(PROJECT / script), *arguments],
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
    """The run directory of one real main job."""
    directory = tmp_path_factory.mktemp("main job") / "run"
    done = subprocess.run(
        [sys.executable, str(PROJECT / "train.py"), f"hydra.run.dir='{directory}'"],
        cwd=directory.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (directory / "standard output").write_text(done.stdout, encoding="utf-8")
    return directory
