"""Long texts by heart: learnt by `train.py`, and written back by `sample.py`, byte for byte.

    python -m benchmarks.limit                          random characters in the published 3 x 35
    python -m benchmarks.limit rows=6000 threads=2      other lengths, other keys of train.py
    python -m benchmarks.limit rows=100000 path=book.txt model.layers=2 model.hidden=128

Each row is a text of so many characters, random ones of 33 symbols or the first of a file. `sample.py` writes
from the checkpoint alone and without torch. Without keys, it is the published experiment's three layers of 35
units with an output layer, on one thread.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from charlstm.files import PROJECT

SYMBOLS = "abcdefghijklmnopqrstuvwxyz ?!.,:;"
KEYS = ["model.layers=3", "model.hidden=35", "threads=1"]


def random_text(length: int) -> str:
    """So many characters, always the same."""
    return "".join(SYMBOLS[k] for k in np.random.default_rng(7).integers(len(SYMBOLS), size=length))


def main(lengths: list[int], path: Path | None, keys: list[str]) -> int:
    """Print a line for each length; returns 1 if a text was not written back."""
    print(describe())
    print(" ".join(keys))
    print(f"{'characters':>10} {'epochs':>7} {'seconds':>8} {'bits/parameter':>15} by sample.py")
    exact = True
    with tempfile.TemporaryDirectory() as name:
        for length in lengths:
            text = path.read_text(encoding="utf-8")[:length] if path else random_text(length)
            file, run = Path(name) / f"{length}.txt", Path(name) / f"run_{length}"
            file.write_text(text, encoding="utf-8")
            command = [sys.executable, "train.py", f"data.path={file}", f"hydra.run.dir={run}", *keys]
            subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            result = json.loads((run / "result.json").read_text())
            command = [sys.executable, "sample.py", f"ckpt={run}"]
            done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            same = done.stdout == text.encode()
            exact &= same
            # what a text that can be understood has in bits, nobody knows
            bits = "" if path else f"{length * math.log2(len(SYMBOLS)) / result['params']:.2f}"
            print(
                f"{length:10,} {result['epochs']:7,} {result['train_seconds']:8.1f} {bits:>15} "
                f"{'byte for byte' if same else 'not the same'}",
                flush=True,
            )
    return 0 if exact else 1


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    rows = [int(row) for row in given.pop("rows", "6000,12000,21000").split(",")]
    book = given.pop("path", None)
    chosen = [f"{key}={value}" for key, value in given.items()] or KEYS
    sys.exit(main(rows, Path(book) if book else None, chosen))
