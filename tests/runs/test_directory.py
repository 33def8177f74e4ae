import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from charlstm import checkpoint, files
from charlstm.checkpoint import Checkpoint, CheckpointError
from charlstm.config.settings import ModelConfig
from charlstm.runs import directory, resume
from charlstm.text.vocabulary import Vocabulary
from tests.soak import forging

CONFIG = ModelConfig(cell="rnn_tanh", layers=1, hidden=2, embedding=0, head="linear", engine="fused")


def state(step, value=0.0):
    """A last state after so many steps, of a model of 2 units and 3 symbols."""
    shapes = {
        "rnn.weight_ih_l0": (2, 3), "rnn.weight_hh_l0": (2, 2), "rnn.bias_ih_l0": (2,),
        "rnn.bias_hh_l0": (2,), "head.weight": (3, 2), "head.bias": (3,),
    }  # fmt: skip
    weights = {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}
    training, arrays = forging.training_of(CONFIG, weights, step)
    return Checkpoint(
        CONFIG, Vocabulary("a"), "memorize", 5, {}, {}, weights, training=training, arrays=arrays
    )


def step_of(path):
    return checkpoint.load(path).step


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_older_ones_are_kept(tmp_path):
    for step in (10, 20, 30, 40):
        directory.save_last(tmp_path, state(step), keep=2)
    assert names(tmp_path) == ["last.safetensors", "step_000020.safetensors", "step_000030.safetensors"]
    assert [step_of(tmp_path / name) for name in names(tmp_path)] == [40, 20, 30]


@at_most(max_examples=25, deadline=None)
@given(gaps=st.lists(st.integers(0, 400_000), min_size=1, max_size=8), keep=st.integers(1, 4))
def test_what_is_kept_are_the_newest(tmp_path_factory, gaps, keep):
    folder, steps = tmp_path_factory.mktemp("run"), np.cumsum(gaps).tolist()
    for step in steps:
        directory.save_last(folder, state(step), keep)
        assert step_of(folder / "last.safetensors") == step
    older = sorted({step for step in steps if step < steps[-1]})[-keep:]
    found = sorted(step_of(path) for path in folder.glob("step_*"))
    # one of the last state's own step is besides them, until the next is saved
    assert [step for step in found if step != steps[-1]] == older
    assert len(found) <= keep + 1


def test_nothing_is_touched_before_the_new_one_is_verified(tmp_path, monkeypatch):
    for step in (10, 20):
        directory.save_last(tmp_path, state(step), keep=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    regular, seen = files.regular, []

    def damaged(path):
        seen.append({p.name: p.read_bytes() for p in tmp_path.glob("[!.]*")})
        blob = bytearray(path.read_bytes())
        blob[-1] ^= 1
        path.write_bytes(blob)
        return regular(path)

    monkeypatch.setattr(files, "regular", damaged)
    with pytest.raises(CheckpointError, match="not read back as it was written"):
        directory.save_last(tmp_path, state(30), keep=1)
    assert seen == [before]  # when it was read back, all was as it had been
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_cannot_be_linked_is_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    for step in (10, 20):
        directory.save_last(tmp_path, state(step), keep=1)
    assert step_of(tmp_path / "step_000010.safetensors") == 10


def test_a_broken_last_one_is_not_kept(tmp_path):
    for step in (10, 20):
        directory.save_last(tmp_path, state(step), keep=1)
    (tmp_path / "last.safetensors").write_bytes(b"broken")
    directory.save_last(tmp_path, state(15), keep=1)
    assert names(tmp_path) == ["last.safetensors", "step_000010.safetensors"]


def test_of_one_step_the_latest_is_kept(tmp_path):
    for step, value in ((10, 0.0), (10, 1.0), (20, 2.0)):
        directory.save_last(tmp_path, state(step, value), keep=1)
    assert checkpoint.load(tmp_path / "step_000010.safetensors").weights["head.bias"][0] == 1.0


def test_the_newest_good_one_is_resumed(tmp_path):
    for step in (999_990, 999_999, 1_000_000, 1_000_010):
        directory.save_last(tmp_path, state(step), keep=3)
    assert resume.find(tmp_path).path.name == "last.safetensors"
    (tmp_path / "last.safetensors").write_bytes(b"broken")
    found = resume.find(tmp_path)
    path = found.path
    assert (path.name, found.trained.step) == ("step_1000000.safetensors", 1_000_000)
    assert [refusal.startswith(f"{tmp_path / 'last.safetensors'}: ") for refusal in found.refusals] == [True]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert resume.find(tmp_path).trained.step == 999_999
    (tmp_path / "last.safetensors").unlink()
    assert resume.find(tmp_path).trained.step == 999_999
    assert directory.holds_a_run(tmp_path)
    with pytest.raises(CheckpointError, match=f"{path.name}: "):
        resume.find(path)  # this very one was asked for


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        resume.find(tmp_path)
    assert not directory.holds_a_run(tmp_path)
    checkpoint.save(replace(state(1), training=None, arrays={}), tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match="has only what sampling needs; a run is resumed from its last"):
        resume.find(tmp_path / "best.safetensors")


OWN = """
import sys, pathlib
from charlstm.runs import directory
try:
    with directory.owned(pathlib.Path(sys.argv[1])):
        print("owned")
except ValueError as error:
    print(error)
"""


def test_one_process_at_a_time_owns_a_directory(tmp_path):
    def another():
        done = subprocess.run([sys.executable, "-c", OWN, str(tmp_path)], capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / ".charlstm-0123456789abcdef.part").touch()
    with directory.owned(tmp_path):
        assert not list(tmp_path.iterdir())  # what a killed one left
        assert (
            another() == f"hydra.run.dir = {tmp_path}: another run is writing there; name another directory"
        )
        with directory.owned(tmp_path):  # the same process may
            pass
        assert "another run" in another()
    assert another() == "owned"


def test_a_save_and_a_resume_compute_one_digest_each(tmp_path, monkeypatch):
    digest, computed = checkpoint._digest, []
    monkeypatch.setattr(checkpoint, "_digest", lambda *given: computed.append(given) or digest(*given))
    before = None
    for step in (10, 20, 30):
        directory.save_last(tmp_path, state(step), keep=2, before=before)
        before = step
    assert len(computed) == 3
    assert resume.find(tmp_path).trained.step == 30
    assert len(computed) == 4


def claim(folder, resumed=None, is_sweep=False):
    """The refusal of a directory, if it is refused, in which case nothing there has changed."""
    before = {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")}
    try:
        with directory.claimed(folder, "hydra.run.dir", resumed, is_sweep):
            return None
    except ValueError as refusal:
        assert {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")} == before
        return str(refusal).removeprefix(f"hydra.run.dir = {folder}: ")


def test_a_run_claims_what_is_new_empty_or_its_own(tmp_path):
    new = tmp_path / "new" / "er"
    for _ in range(2):  # killed before it was first saved, it may begin again, whatever Hydra left
        assert claim(new) is None
        (new / "config").mkdir(exist_ok=True)
        (new / "train.log").touch()
    checkpoint.save(state(1), new / "last.safetensors")
    assert claim(new).startswith("holds a run that can be resumed; name a new one, or give resume=")
    assert claim(new, new) is None
    assert claim(new, new / "last.safetensors") is None
    assert claim(new, tmp_path).startswith("holds a run")
    (new / "result.json").touch()
    assert claim(new, new) == "holds the result of another run; name a new one"


@pytest.mark.parametrize("name", ["train.log", "notes.txt", "config/config.yaml", ".hidden"])
def test_a_run_touches_no_files_of_others(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert claim(tmp_path) == "holds other files; name a new or an empty folder"
    checkpoint.save(state(1), tmp_path / "last.safetensors")
    replaces = name in ("train.log", "config/config.yaml")
    assert (claim(tmp_path, tmp_path) is None) is not replaces


def test_a_run_from_before_there_were_markers_is_resumed(tmp_path):
    checkpoint.save(state(1), tmp_path / "last.safetensors")
    (tmp_path / "config").mkdir()
    for name in ("train.log", "config/config.yaml", "config/overrides.yaml"):
        (tmp_path / name).touch()
    assert claim(tmp_path).startswith("holds a run that can be resumed")
    assert claim(tmp_path, tmp_path) is None


def test_a_sweep_claims_what_is_new_empty_or_its_own(tmp_path):
    for _ in range(2):
        assert claim(tmp_path / "new", is_sweep=True) is None
    refused = "holds other files; name a new or an empty folder"
    assert claim(tmp_path / "new") == refused
    for name in (directory.MARKER, "multirun.yaml"):  # that of a run; what a user may have, too
        other = tmp_path / name.strip(".")
        other.mkdir()
        (other / name).touch()
        assert claim(other, is_sweep=True) == refused
