"""Long texts by heart: `python -m benchmarks.limit [rows=2000,6000,12000]`.

Each row is a random text of so many characters over 33 symbols, learnt by `train.py` with the published
experiment's three layers of 35 units and an output layer, and written back by `sample.py`, from the
checkpoint alone and without torch; what it writes is compared with the text byte by byte.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import machine
from charlstm.corpus import PROJECT

SYMBOLS = "abcdefghijklmnopqrstuvwxyz ?!.,:;"
KEYS = ["model.layers=3", "model.hidden=35", "threads=1"]


def random_text(length: int) -> str:
    """So many characters, always the same."""
    return "".join(SYMBOLS[k] for k in np.random.default_rng(7).integers(len(SYMBOLS), size=length))


def main(lengths: list[int]) -> int:
    """Print a line for each length; returns 1 if a text was not written back."""
    print(machine.describe())
    print(f"{'characters':>10} {'epochs':>7} {'seconds':>8} {'bits/parameter':>15} by sample.py")
    exact = True
    with tempfile.TemporaryDirectory() as name:
        for length in lengths:
            text, file, run = random_text(length), Path(name) / f"{length}.txt", Path(name) / f"run_{length}"
            file.write_text(text, encoding="utf-8")
            command = [sys.executable, "train.py", f"data.path={file}", f"hydra.run.dir={run}", *KEYS]
            subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            result = json.loads((run / "result.json").read_text())
            command = [sys.executable, "sample.py", f"ckpt={run}"]
            done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            same = done.stdout == text.encode()
            exact &= same
            bits = length * math.log2(len(SYMBOLS)) / result["params"]
            print(
                f"{length:10,} {result['epochs']:7,} {result['train_seconds']:8.1f} {bits:15.2f} "
                f"{'byte for byte' if same else 'not the same'}",
                flush=True,
            )
    return 0 if exact else 1


if __name__ == "__main__":
    (given,) = sys.argv[1:] or ["rows=2000,6000,12000"]
    sys.exit(main([int(row) for row in given.removeprefix("rows=").split(",")]))
