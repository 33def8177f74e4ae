"""The benchmarks run, at their smallest: that their figures are good is not for a test to say."""

import subprocess
import sys

import pytest

from charlstm.text.source import PROJECT

SMALLEST = {
    "recall seeds=1": "recalled 1 of 1",
    "published seeds=1": "recalled free-running after the last epoch: 1 of 1",
    "engines seeds=1": "plain/fused, float64",
    "notebook rounds=1": "ratio: ",
    "sampling rounds=1": "1 thread; characters a second",
    "startup rounds=1": "the main job takes ",
    "threads rounds=1": "1 thread",
    "corpus megabytes=20": "mixed: the large text takes ",
    "training rounds=1": "3x512",
    "quality seeds=1 recipe=names train.steps=50": "mean",
    "limit rows=300": "byte for byte",
}


@pytest.mark.parametrize("command", SMALLEST)
def test_it_runs(command):
    name, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert SMALLEST[command] in done.stdout
