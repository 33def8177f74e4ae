"""train.py --multirun: every run has what there was when it began, and what goes wrong with one is heard."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from charlstm.files import PROJECT

# a sweep in a copy of the project, whose first run changes conf/ and the text
CHANGED = """
import sys
from pathlib import Path
from charlstm.cli import train
run = train.carried_out
def carried_out(plan, path):
    outcome = run(plan, path)
    if path.name == "0":
        Path("conf/train.yaml").write_text("hidden: [")
        Path("text").write_text("another")
    return outcome
train.carried_out = carried_out
train.main()
"""
FAST = ["model.hidden=4", "model.layers=1", "train.epochs=1", "threads=1", "tensorboard=false"]


def sweep(folder, *arguments, code="from charlstm.cli import train; train.main()"):
    return subprocess.run(
        [sys.executable, "-c", code, "--multirun", "hydra.sweep.dir=sweep", *FAST, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder if (folder / "charlstm").exists() else PROJECT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Four runs, two of which cannot be, and one of them goes wrong while it trains."""
    folder = tmp_path_factory.mktemp("swept")
    text = "To be, or 'not' ${x}\\\nto be"
    return folder, text, sweep(folder, f"data.text={text}", "seed=1,-1,2,-3", "train.lr=0.01")


def test_a_text_is_one_value(swept):
    folder, text, _ = swept
    assert sorted(path.name for path in (folder / "sweep").iterdir() if path.is_dir()) == ["0", "1", "2", "3"]
    for k in (0, 2):
        result = json.loads((folder / "sweep" / str(k) / "result.json").read_text())
        assert result["chars_seen"] == len(text) + 1  # the end token, too


def test_every_failure_is_heard(swept):
    folder, _, done = swept
    assert done.returncode == 2
    *errors, last = done.stderr.splitlines()
    assert last == "error: 2 of 4 runs failed"
    for error, k, seed in zip(errors, (1, 3), (-1, -3), strict=True):
        assert error.startswith(f"error: sweep/{k} (model.hidden=4 ")
        assert f" seed={seed} train.lr=0.01): seed = {seed}: must be a whole number, at least 0" in error
        assert error in (folder / "sweep" / str(k) / "train.log").read_text()
        assert not (folder / "sweep" / str(k) / "result.json").exists()


def test_a_run_that_stumbles_ends_no_other(tmp_path):
    code = """
from charlstm.cli import train
def carried_out(plan, path):
    raise (OSError(28, "No space left on device") if path.name == "0" else KeyError("x"))
train.carried_out = carried_out
train.main()
"""
    done = sweep(tmp_path, "seed=1,2", "hydra.sweep.subdir=${hydra.job.num}", code=code)
    assert done.returncode == 1
    assert "error: sweep/0 (model.hidden=4 " in done.stderr
    assert ": the run cannot go on: [Errno 28] No space left on device\n" in done.stderr
    assert "): KeyError: 'x'\n" in done.stderr
    assert "Traceback" in (tmp_path / "sweep" / "1" / "train.log").read_text()


def test_two_runs_get_no_directory_together(tmp_path):
    done = sweep(tmp_path, "seed=1,2", "hydra.sweep.subdir=x")
    assert done.returncode == 2
    assert "seed=2): hydra.sweep.subdir = " in done.stderr
    assert json.loads((tmp_path / "sweep" / "x" / "result.json").read_text())["steps"] == 1


def test_a_sweep_has_what_there_was_when_it_began(tmp_path):
    for name in ("charlstm", "conf"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    (tmp_path / "text").write_text("the text")
    done = sweep(tmp_path, "data.path=text", "seed=1,2", code=CHANGED)
    assert (tmp_path / "text").read_text() == "another"
    assert "seed=2): data.path = text: the text has changed since the sweep began" in done.stderr
    assert done.stderr.count("error: ") == 2
    before, after = ((tmp_path / "sweep" / k / "config" / "config.yaml").read_text() for k in "01")
    assert before.replace("seed: 1", "seed: 2") == after
