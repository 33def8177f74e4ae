"""Each of these commands at its smallest; by `pytest -m soak -s` at the size of the README's figures."""

import subprocess

import pytest
from warm import PYTHON

from charlstm.files import PROJECT

SHORT = {
    "bits flips=30": "by chance",
    "fuzz count=1500": "all                            1,500",
    "crashes saves=2": "power lost after done",
    "errors saves=2": "full file system|limited size of files",
    "kills count=2": "0 of ",
    "resumes most=1": "0 of 7 kinds of runs depend",
    "stops count=2": "all as it should be",
    "nonfinite cases=12": "0 wrong",
    "together count=2": "all as it should be",
    "long_run minutes=0.03": "exit code 143",
    "full_disk while": "as it should be|no file system can be mounted",
}


def run(name, *arguments, timeout=None):
    """What a command prints, which `pytest -s` shows."""
    done = subprocess.run(
        [*PYTHON, "-m", f"tests.soak.{name}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    print(f"\n{name}\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", SHORT)
def test_checkpoints_and_runs_survive(command):
    said = run(*command.split(), timeout=600)
    assert any(shown in said for shown in SHORT[command].split("|"))


@pytest.mark.soak
@pytest.mark.parametrize("name", [*(command.split()[0] for command in SHORT), "several"])
def test_at_the_size_of_the_figures(name):
    run(name)
