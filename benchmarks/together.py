"""`python -m benchmarks.together [steps=30] [size=2x512]`: one run by two processes of a thread each.

Characters a second, beside those of one process with one thread, with the same batch of 64 as a whole.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.machine import arguments, describe
from charlstm.files import PROJECT


def main(steps: int, size: str) -> None:
    """Print a row for each."""
    print(describe())
    layers, hidden = size.split("x")
    keys = ["task=lm", "data.path=text", "data.split=[0.98,0.02,0]", "train.batch=64", "train.window=128"]
    keys += [f"model.layers={layers}", f"model.hidden={hidden}", f"train.steps={steps}", "threads=1"]
    keys += ["train.budget=null", "eval.times=1", "eval.baselines=false", "tensorboard=false"]
    with TemporaryDirectory() as folder:
        letters = np.random.default_rng(0).choice(list("abcdefgh ijklmnop\n"), 10**6)
        Path(folder, "text").write_text("".join(letters))
        for count in (1, 2):
            command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
            command = [sys.executable] if count == 1 else command
            command += [str(PROJECT / "train.py"), *keys, f"hydra.run.dir={count}"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            result = json.loads(Path(folder, str(count), "result.json").read_text())
            print(
                f"{count} x 1 thread: {result['chars_per_second']:,.0f} characters/s, {result['precision']}"
            )


if __name__ == "__main__":
    main(*arguments(steps=30, size="2x512"))
