"""What Windows and macOS have not is not needed: a run and a checkpoint in a process that lacks it."""

import subprocess
import sys

SCRIPT = """
import os, pathlib, signal, sys
import hydra, numpy, pooch, safetensors.numpy, torch  # which know their system
from torch.utils.tensorboard import SummaryWriter
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("SIGUSR1", "SIGHUP"):
    delattr(signal, name)
for name in ("geteuid", "uname", "sysconf", "O_DIRECTORY", "O_NONBLOCK", "sched_getaffinity"):
    delattr(os, name)
read, exists = pathlib.Path.read_text, pathlib.Path.exists
def no_proc(path, *given, **more):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(path)
    return read(path, *given, **more)
pathlib.Path.read_text = no_proc
pathlib.Path.exists = lambda path, **more: not str(path).startswith("/proc") and exists(path, **more)
import charlstm
from charlstm.runs import signals
signals.listen()
keys = {"train.epochs": 3, "model.hidden": 8, "save.steps": 1, "threads": "auto"}
made = charlstm.train("ab ba", overrides=keys, directory=sys.argv[1])
print(charlstm.load(sys.argv[1]).score("ab") == made.score("ab"), sorted(os.listdir(sys.argv[1]))[-1])
"""


def test_a_run_without_what_only_some_systems_have(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")], capture_output=True, encoding="utf-8"
    )
    assert (done.returncode, done.stdout) == (0, "True step_000002.safetensors\n"), done.stderr
