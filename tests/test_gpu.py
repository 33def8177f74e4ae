"""What is different on a GPU. Needs one."""

import json
import math
import subprocess
import sys

import pytest
import torch
from recurrences import CELLS
from resuming import LM, MEMORIZE, arrays_of, assert_same, go, numbers_of, plan, text

import charlstm
from benchmarks.deviations import deviations
from charlstm import checkpoint
from charlstm.files import PROJECT
from charlstm.model.torch_model import Model
from charlstm.scoring import held_out
from charlstm.training import graph, machine

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

KEYS = {
    "memorize": [*MEMORIZE, f"device={GPU}"],
    "segments": [
        *(f"data.text='{text(300)}'", "model.layers=2", "model.hidden=16", "train.epochs=12"),
        *("train.stop_at_recall=false", "save.every=null", f"device={GPU}"),
    ],
    "lm": [*LM, f"data.text='{text()}'", f"device={GPU}"],
    "copy": [*("task=copy", "model.hidden=16", "train.budget=null", "train.epochs=30"), f"device={GPU}"],
}
OTHER = {
    "float16": ["precision=float16"],
    "bfloat16": ["precision=bfloat16"],
    "muon": ["train.optimizer=muon"],
}
STOPPED = {
    **{name: keys for name, keys in KEYS.items() if name != "copy"},
    **{name: [*KEYS["lm"], *others] for name, others in OTHER.items()},
    "plain": [*KEYS["lm"], "model.engine=plain"],
    "layers": [*KEYS["lm"], "model.layers=2", "model.hidden=64", "train.window=20"],
    # so many characters that torch's embedding would add up in any order
    "batch": [
        *(*KEYS["lm"], f"data.text='{text(20_000)}'", "train.batch=64", "train.window=64"),
        *("model.hidden=64", "model.embedding=64", "train.optimizer=muon"),
    ],
}


@pytest.mark.parametrize("cell", CELLS)
def test_written_out_cells_are_cudnns(cell):
    machine.prepare(seed=0, threads=1)
    exact = deviations(cell, 2, False, True, True, 7, torch.float64, GPU)
    assert max(exact) < 1e-12
    values = deviations(cell, 2, False, True, True, 200, torch.float32, GPU)[:2]
    assert max(values) < 1e-5  # with products in TF32 1e-3


@pytest.mark.parametrize("name", STOPPED)
def test_the_same_run_is_the_same_bit_for_bit_and_resumed_too(name, tmp_path):
    keys = STOPPED[name]
    whole, again = go(tmp_path / "whole", *keys), go(tmp_path / "again", *keys)
    assert_same(whole, again)
    run = go(tmp_path / "run", *keys, stop_before=7)
    assert_same(go(run, f"resume={run}"), whole)


@pytest.mark.parametrize("name", ["memorize", "lm", "layers", "batch", *OTHER])
def test_recorded_steps_are_those_that_are_not(name, tmp_path, monkeypatch):
    replays = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda self: (replays.append(1), replay(self)))
    recorded = go(tmp_path / "recorded", *STOPPED[name])
    assert len(replays) > 20
    monkeypatch.setattr(graph, "EAGER", 10**9)
    count = len(replays)
    assert_same(go(tmp_path / "eager", *STOPPED[name]), recorded)
    assert len(replays) == count


def test_what_cannot_be_recorded_goes_on_as_it_was():
    def noisy(x):
        total = torch.rand(3, device=GPU).add_(x)
        return (total / total.sum().item(),)  # which waits for the GPU

    x = torch.ones(3, device=GPU)
    torch.cuda.manual_seed(0)
    expected = [noisy(x)[0] for _ in range(graph.EAGER + 3)]
    torch.cuda.manual_seed(0)
    recorded = graph.Recorded(noisy)
    assert all(torch.equal(recorded(x)[0], one) for one in expected)
    assert recorded.graph is None


def test_a_run_of_either_device_is_resumed_on_the_other(tmp_path):
    keys = KEYS["lm"]
    run = go(tmp_path / "gpu", *keys, stop_before=7)
    go(run, f"resume={run}", "device=cpu")
    other = go(tmp_path / "cpu", *keys, "device=cpu", stop_before=7)
    go(other, f"resume={other}", f"device={GPU}")
    assert numbers_of(run).step == numbers_of(other).step == 40
    assert any(name.startswith("generator/cuda") for name in arrays_of(other))


def test_a_text_by_heart_is_written_back_by_numpy():
    assert charlstm.train(overrides={"device": GPU}).figures["recalled"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_model_learns_in_every_precision(precision):
    keys = {"device": GPU, "precision": precision, "model.hidden": 64, "train.steps": 150}
    model = charlstm.train(path=PROJECT / "data" / "cities.txt", task="lm", overrides=keys)
    assert model.figures["valid_bpc"] < 4.4  # 5.0 by the frequencies of the characters


def test_scores_of_both_devices_agree(tmp_path):
    keys = KEYS["lm"]
    run = go(tmp_path / "run", *keys)
    planned, result = plan(*keys), json.loads((run / "result.json").read_text())
    model = Model(planned.settings.model, len(planned.vocabulary))
    model.load_arrays(checkpoint.load(run / "best.safetensors").weights)
    score = held_out.carried(model, planned.corpus.valid, planned.vocabulary.start)
    assert score.nats == pytest.approx(result["valid_nats"], abs=1e-5)


def test_copying_makes_its_steps(tmp_path):
    run = go(tmp_path / "run", *KEYS["copy"])
    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], math.isfinite(result["loss"])) == (30, True)


def test_weights_that_lie_in_no_one_piece_are_no_warning(tmp_path):
    """Those of which some are dropped; cuDNN says so once in each process."""
    command = [sys.executable, "train.py", *KEYS["lm"], "train.steps=4", f"hydra.run.dir={tmp_path / 'r'}"]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (said.returncode, "Warning" in said.stderr) == (0, False), said.stderr


def test_its_memory_can_be_out():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, device=GPU)
    assert machine.is_out_of_memory(error.value)


def test_processes_have_a_gpu_each_or_train_on_the_cpu(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "99", "LOCAL_WORLD_SIZE": "99"}.items():
        monkeypatch.setenv(name, value)
    assert machine.choose_device("cpu") == torch.device("cpu")
    for asked in ("auto", "cuda"):
        with pytest.raises(ValueError, match=f"device = {asked}: 99 processes and .* use device=cpu"):
            machine.choose_device(asked)
