"""One run by two processes, as torchrun starts them: the same as by one, stopped, killed, resumed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
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
    *(
        "device=cpu",
        "threads=1",
        "precision=float32",
        "tensorboard=false",
        "save.every=null",
        "eval.baselines=false",
    ),
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


TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@contextmanager
def two_machines():
    """What is typed before a command for it to run on one of two machines with a wire between them, 10.9.0.1
    and 10.9.0.2: two namespaces of the network with nothing else in them. Skips where none can be made."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip")
    machines = [
        subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE, stderr=2
        )
        for _ in range(2)
    ]
    try:
        if not all(machine.stdout.read(1) for machine in machines):
            pytest.skip("namespaces of the network cannot be made here, by this user at least")
        on = [["nsenter", f"--net=/proc/{machine.pid}/ns/net"] for machine in machines]
        wire = f"ip link add wire0 type veth peer name wire1 netns {machines[1].pid}".split()
        if subprocess.run([*on[0], *wire]).returncode:
            pytest.skip("no wire can be laid between two namespaces here")
        for k in range(2):
            for command in (
                f"addr add 10.9.0.{k + 1}/24 dev wire{k}",
                f"link set wire{k} up",
                "link set lo up",
            ):
                subprocess.run([*on[k], "ip", *command.split()], check=True)
        yield on
    finally:
        for machine in machines:
            machine.kill()
            machine.communicate()


def test_two_machines_are_one_with_two_processes(tmp_path):
    keys = [*KEYS, *DROPOUT, "train.steps=60"]
    with two_machines() as on:
        agents = [
            subprocess.Popen(
                [
                    *(*on[k], *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"),
                    *("--rdzv-endpoint", "10.9.0.1:29500", "--rdzv-conf", f"is_host={k == 0}"),
                    *("--local-addr", f"10.9.0.{k + 1}", str(PROJECT / "train.py")),
                    *(*keys, f"hydra.run.dir={tmp_path / 'machines'}"),
                ],
                cwd=tmp_path,
                env=os.environ | {"GLOO_SOCKET_IFNAME": f"wire{k}"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for k in range(2)
        ]
        said = [agent.communicate(timeout=120)[0] for agent in agents]
        assert [agent.returncode for agent in agents] == [0, 0], said
    again = (tmp_path / "machines" / "config" / "again.sh").read_text()
    assert "torchrun --nnodes 2 --nproc-per-node 1 " in again
    assert trained(tmp_path / "one", *keys)["processes"] == 2
    assert_same(tmp_path / "machines", tmp_path / "one")


def test_the_number_of_processes_may_change(tmp_path):
    """From one to two and back: without dropout it is the run of one, but for the order of sums."""
    keys = [*KEYS, *NO_DROPOUT, "train.lr=0.01", "train.steps=600", "save.steps=50", "save.keep=20"]
    whole = trained(tmp_path / "whole", *keys, size=1)
    run, said = tmp_path / "run", []
    for size, step in ((1, 100), (2, 350), (1, None)):
        begun = Two(run, *([f"resume={run}"] if said else keys), size=size)
        if step is not None:
            stepped(run, step)
            begun.processes[0].send_signal(signal.SIGTERM)
        codes, text = begun.wait()
        assert codes[0] == (143 if step else 0), text
        said.append(text)
    assert "processes 2 (was 1): the last bits may differ" in said[1]
    assert "processes 1 (was 2): the last bits may differ" in said[2]
    result = json.loads((run / "result.json").read_text())
    assert result["chars_seen"] == whole["chars_seen"]
    for name in ("loss", "valid_nats", "test_nats"):
        assert result[name] == pytest.approx(whole[name], rel=1e-3), name  # float32


def test_what_cannot_be_saved_ends_all_with_a_line(tmp_path):
    run = tmp_path / "run"
    begun = Two(run, *KEYS, "train.steps=300")
    deadline = time.monotonic() + 60
    while not (run / "train.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (run / "last.safetensors").mkdir()  # as good as a full disk: the new file cannot take this place
    codes, said = begun.wait()
    assert codes == [1, 0]
    assert f"error: {run}/last.safetensors: not saved: " in said
    assert not list(run.glob(".charlstm-*"))


def test_torchrun_ends_the_others_where_one_dies_at_the_start(tmp_path):
    script = tmp_path / "dies.py"
    train = str(PROJECT / "train.py")
    script.write_text(
        f"import os, runpy\nos.environ['RANK'] == '1' and os.kill(os.getpid(), 9)\n"
        f"runpy.run_path({train!r}, run_name='__main__')\n"
    )
    command = [*TORCHRUN, "--nproc-per-node", "2", str(script), *KEYS, f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "failed (exitcode: -9) local_rank: 1" in done.stderr
    assert not (tmp_path / "run").exists()


def test_torchrun_starts_and_ends_them(tmp_path):
    keys = [*KEYS, "train.steps=20", f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [*TORCHRUN, "--nproc-per-node", "2", str(PROJECT / "train.py"), *keys],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["processes"] == 2
