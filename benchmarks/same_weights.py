"""Does another version of charlstm train to the same weights, bit for bit, killed in the middle or not?

    python -m benchmarks.same_weights ../before /tmp/before    another checkout, as with `git worktree add`
    python -m benchmarks.same_weights . /tmp/after --against /tmp/before/hashes.json
    python -m benchmarks.same_weights CHECKOUT OUT_DIR --python PYTHON --only main lm

Runs the train.py of a checkout for a few small jobs: undisturbed in OUT_DIR/<job>; killed by `kill -9` after
its first save in OUT_DIR/<job>_killed; from there to the end in OUT_DIR/<job>_resumed. The SHA-256 of the
weights goes to OUT_DIR/hashes.json: `whole` and `resumed` of best.safetensors, and `whole_last` and
`resumed_last` of last.safetensors. The exit code is 1 if killed runs, or the other version's, end elsewhere.
Weights are the same on the same machine, PyTorch and number of threads alone. Imports nothing of charlstm.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

BEST, LAST = "best.safetensors", "last.safetensors"
KEYS = ("whole", "whole_last", "resumed", "resumed_last")
OF_TRAINING = "training/"  # begins the names of arrays that are no weights
TRIES = 3  # to kill a run before its end
LIMIT = 300  # seconds for a run

# job: the steps after which it is saved, and killed; what is typed after train.py
JOBS = {
    "main": (20, ""),
    "notebook": (60, "experiment=notebook train.epochs=150 train.stop_at_recall=false"),
    "notebook_batch": (40, "experiment=notebook_batch train.epochs=100 train.stop_at_recall=false"),
    "plain": (6, "model.engine=plain train.epochs=20"),
    "long": (30, "data.path=long.txt train.epochs=40 train.stop_at_recall=false"),
    "lm": (
        60,
        "task=lm data.path=data/cities.txt data.records=line model.hidden=64 train.steps=150 "
        "train.averaging=0.2 train.dropout.input=0.1 train.dropout.hidden=0.2 train.dropout.weight=0.2 "
        "eval.times=3 eval.baselines=false precision=float32",
    ),
    "copy": (100, "task=copy train.budget=null train.epochs=600"),
}
LONG = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz .,", k=2000))


def environment(checkout: Path, cache: Path) -> dict[str, str]:
    """That of a command which is to take its code from this checkout."""
    own = {"PYTHONPATH": str(checkout), "CHARLSTM_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return os.environ | own


def check_origin(python: str, folder: Path, variables: dict[str, str]) -> None:
    """Raise RuntimeError if another charlstm than that of the checkout would be imported."""
    command = [python, "-c", "import charlstm; print(charlstm.__file__)"]
    said = subprocess.run(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    if not Path(said.stdout.strip()).is_relative_to(variables["PYTHONPATH"]):
        raise RuntimeError(f"{said.stdout.strip()} is not of {variables['PYTHONPATH']}")


def weights_sum(path: Path) -> str:
    """The SHA-256 over names, types, shapes and bytes of the weights in a checkpoint."""
    whole = hashlib.sha256()
    for name, array in sorted(safetensors.numpy.load_file(path).items()):
        if not name.startswith(OF_TRAINING):
            whole.update(f"{name} {array.dtype} {array.shape}".encode())
            whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


class Runs:
    """The runs of one checkout's train.py in one folder; what they say goes to <run>.log."""

    def __init__(self, checkout: Path, folder: Path, python: str) -> None:
        self.folder, self.command = folder, [python, str(checkout / "train.py")]
        self.variables = environment(checkout, folder / "cache")
        check_origin(python, folder, self.variables)

    def whole(self, name: str, *arguments: str) -> list[str]:
        """Train in this run directory to the end; returns the SHA-256 of the best and of the last weights."""
        if code := self._start(name, arguments).wait(LIMIT):
            raise RuntimeError(f"{name}: exit code {code}: {self._said(name)}")
        return [weights_sum(self.folder / name / file) for file in (BEST, LAST)]

    def killed(self, name: str, *arguments: str) -> None:
        """Train in this run directory until there is a state to resume from, and kill it there."""
        directory = self.folder / name
        for _ in range(TRIES):
            process = self._start(name, arguments)
            while not (directory / LAST).exists() and process.poll() is None:
                time.sleep(0.002)
            process.kill()
            if process.wait() > 0:
                break
            if process.returncode == -9 and not (directory / "result.json").exists():
                return
            shutil.rmtree(directory)  # it was through before it was killed
        raise RuntimeError(f"{name}: not killed, exit code {process.returncode}: {self._said(name)}")

    def _start(self, name: str, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = [*self.command, *arguments, f"hydra.run.dir='{self.folder / name}'"]
        with (self.folder / f"{name}.log").open("wb") as said:
            return subprocess.Popen(command, cwd=self.folder, env=self.variables, stdout=said, stderr=said)

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")[-1500:]


def differences(found: dict[str, dict[str, str]], other: Path) -> list[str]:
    """A line for each thing that the JSON file of another version says otherwise, or not at all."""
    expected = json.loads(other.read_text("utf-8"))
    return [
        f"{name}: {key} is {value!r}, in {other} it is {expected.get(name, {}).get(key)!r}"
        for name, values in found.items()
        for key, value in values.items()
        if value != expected.get(name, {}).get(key)
    ]


def main() -> int:
    """Run the jobs; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("out_dir", type=Path, help="empty, or not there yet")
    parser.add_argument("--python", default=sys.executable, help="that runs train.py; its full path")
    parser.add_argument("--against", type=Path, help="hashes.json of another version")
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    asked = parser.parse_args()
    folder = asked.out_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    (folder / "long.txt").write_text(LONG)
    runs, hashes, failed = Runs(asked.checkout.resolve(), folder, asked.python), {}, False
    print(f"{'job':16} {'whole':16} {'resumed':16} {'seconds':>7}", flush=True)
    for job in asked.only:
        begin, (steps, typed) = time.monotonic(), JOBS[job]
        arguments = ["threads=1", "seed=0", *typed.split()]
        whole = runs.whole(job, *arguments)
        runs.killed(f"{job}_killed", *arguments, f"save.steps={steps}")
        resumed = runs.whole(f"{job}_resumed", f"resume={folder / f'{job}_killed'}")
        hashes[job] = dict(zip(KEYS, whole + resumed, strict=True))
        failed |= whole != resumed
        row = f"{job:16} {whole[0][:16]} {resumed[0][:16]} {time.monotonic() - begin:7.1f}"
        print(row + ("" if whole == resumed else "  DIFFERENT"), flush=True)
    (folder / "hashes.json").write_text(json.dumps(hashes, indent=1) + "\n")
    differing = differences(hashes, asked.against) if asked.against else []
    print("".join(f"{line}\n" for line in differing), end="")
    return 1 if failed or differing else 0


if __name__ == "__main__":
    sys.exit(main())
