"""One run by two processes, as torchrun starts them: the same as by one, stopped, killed, resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from warm import PYTHON

from charlstm import checkpoint
from charlstm.files import PROJECT

TEXT = "the quick brown fox jumps over the lazy dog, and then it sleeps. " * 60
KEYS = [
    *("task=lm", "data.text", "model.layers=2", "model.hidden=12", "model.embedding=5", "train.batch=6"),
    *("train.window=7", "train.clip=0.1", "train.averaging=0.2", "train.budget=null", "eval.times=3"),
    *("threads=1", "precision=float32", "tensorboard=false", "save.every=null", "eval.baselines=false"),
]
KEYS[1] = f"data.text='{TEXT}'"
NO_DROPOUT = ["train.dropout.hidden=0", "train.dropout.weight=0"]
DROPOUT = ["train.dropout.hidden=0.2", "train.dropout.weight=0.1"]


class Two:
    """Two processes of `train.py`, which are together at once."""

    def __init__(self, folder: Path, *keys: str, size: int = 2) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
        command = [*PYTHON, str(PROJECT / "train.py"), f"hydra.run.dir={folder}", *keys]
        self.processes = [
            subprocess.Popen(
                command,
                cwd=folder.parent,
                env={
                    **os.environ,
                    **place,
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "LOCAL_WORLD_SIZE": "2",
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(size)
        ]

    def wait(self) -> tuple[list[int], str]:
        """The exit codes by rank, and what the first said."""
        said = [process.communicate(timeout=120)[0] for process in self.processes]
        assert len(said) == 1 or said[1] == "" or "ended" in said[1]
        return [process.returncode for process in self.processes], said[0]


def trained(folder: Path, *keys: str, size: int = 2) -> dict:
    codes, said = Two(folder, *keys, size=size).wait()
    assert codes == [0] * size, said
    return json.loads((folder / "result.json").read_text())


def assert_same(one: Path, other: Path) -> None:
    """Bit for bit: weights, moments, averages, states, generators."""
    a, b = (checkpoint.load(folder / "last.safetensors") for folder in (one, other))
    for ours, theirs in ((a.weights, b.weights), (a.arrays, b.arrays)):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert np.array_equal(ours[name], theirs[name]), name


def test_two_processes_are_one_run(tmp_path):
    keys = [*KEYS, *NO_DROPOUT, "train.lr=0.01", "train.steps=50"]
    one, two = trained(tmp_path / "one", *keys, size=1), trained(tmp_path / "two", *keys)
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert one["chars_seen"] == two["chars_seen"] == 50 * 6 * 7
    # float32, added up in another order; training/test_processes.py has it in float64
    for name in ("loss", "accuracy", "valid_nats", "test_nats", "valid_windows_nats"):
        assert two[name] == pytest.approx(one[name], rel=1e-3), name


def stepped(folder: Path, step: int) -> None:
    """Wait until it has saved such a step."""
    deadline = time.monotonic() + 60
    while not (folder / f"step_{step:06}.safetensors").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stopped_killed_and_resumed_it_is_bit_for_bit_the_same(tmp_path):
    keys = [*KEYS, *DROPOUT, "train.steps=600", "save.steps=50", "save.keep=20"]
    trained(tmp_path / "whole", *keys)
    run = tmp_path / "run"
    begun = Two(run, *keys)
    stepped(run, 100)
    begun.processes[1].send_signal(signal.SIGTERM)  # whichever process hears it, all stop
    codes, said = begun.wait()
    assert codes == [143, 0], said
    assert "everything is saved" in said
    assert f"torchrun --nproc-per-node 2 {PROJECT / 'train.py'} resume={run.name}\n" in said
    for rank in (0, 1):
        saved = checkpoint.load(run / "last.safetensors").step
        begun = Two(run, f"resume={run}")
        stepped(run, saved // 50 * 50 + 100)
        begun.processes[rank].kill()
        codes, said = begun.wait()
        assert sorted(codes) == [-9, 1], said
    trained(run, f"resume={run}")
    assert_same(run, tmp_path / "whole")
    # and one process goes on with the streams of both
    result = trained(tmp_path / "alone", f"resume={run}", "train.steps=650", size=1)
    assert result["steps"] == 650
    assert result["loss"] < 1.1 * json.loads((tmp_path / "whole" / "result.json").read_text())["loss"] + 0.05


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["task=memorize"], "error: task = memorize: several processes train task=lm only; start it without"),
        ([*KEYS, "train.batch=5"], "error: train.batch = 5: 2 processes cannot share its streams evenly;"),
    ],
)
def test_what_cannot_be_shared_is_one_line(tmp_path, keys, said):
    begun = Two(tmp_path / "run", *keys)
    output, _ = begun.processes[0].communicate(timeout=60)
    begun.processes[1].terminate()  # as torchrun does where one fails
    begun.processes[1].communicate(timeout=60)
    assert begun.processes[0].returncode == 2
    assert output.startswith(said)
    assert output.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_torchrun_starts_and_ends_them(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        str(PROJECT / "train.py"),
    ]
    keys = [*KEYS, "train.steps=20", f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [*command, *keys], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["processes"] == 2
