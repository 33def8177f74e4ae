"""The benchmarks run, at their smallest: that their figures are good is not for a test to say."""

import subprocess

import pytest
from warm import PYTHON

from charlstm.files import PROJECT

SMALLEST = {
    "recall seeds=1": "recalled 1 of 1",
    "published seeds=1": "recalled free-running after the last epoch: 1 of 1",
    "engines seeds=1 epochs=5": "plain/fused, float64",
    "notebook rounds=1": "ratio: ",
    "sampling rounds=1 size=1x128": "1 thread; characters a second",
    "startup rounds=0": "the main job takes ",
    "threads rounds=1": "1 thread",
    "by_hand size=2x16 batch=4 seconds=1": "plain torch is",
    "together steps=2 size=1x8": "2 x 1 thread",
    "threads size=1x8 busy=1 late=1": "beside that of one thread",
    "corpus megabytes=20": "mixed: each byte of a text takes ",
    "training rounds=1 size=1x128": "1x128",
    "quality seeds=1 recipe=names train.steps=50": "mean",
    "beside path=data/cities.txt seconds=3": "charlstm ",
    "limit rows=300": "byte for byte",
    "recipes seeds=1 size=1x16": "segments, SOAP, focal        1 of 1",
    "budget budgets=3 only=copy": "copy",
    "sizes only=sums tries=1": "sums ",
    "finetune old=data/cities.txt new=data/README.md seconds=2": "init, train.keep",
    "cast out=OUT": " bytes",
    "mutations check": "0 of ",
    "tensorboard steps=5 rounds=1 path=data/cities.txt": "TensorBoard takes ",
    "same_weights . OUT --only main": "main  ",
}


@pytest.mark.parametrize("command", SMALLEST)
def test_it_runs(command, tmp_path):
    name, *arguments = command.replace("OUT", str(tmp_path / "out")).split()
    done = subprocess.run(
        [*PYTHON, "-m", f"benchmarks.{name}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SMALLEST[command] in done.stdout
