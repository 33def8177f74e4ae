"""The short versions of `benchmarks/reliability`: here their verdict counts."""

import subprocess
import sys

import pytest

from charlstm.text.source import PROJECT

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
    "soak minutes=0.03": "exit code 143",
    "full_disk while": "as it should be|no file system can be mounted",
}


@pytest.mark.parametrize("command", SHORT)
def test_checkpoints_and_runs_survive(command):
    name, argument = command.split()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.reliability.{name}", argument],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(shown in done.stdout for shown in SHORT[command].split("|")), done.stdout
