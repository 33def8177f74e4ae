"""Long texts by heart: `python -m benchmarks.limit [rows=2000,6000,12000] [data.path=shakespeare.txt]`.

Each row is a text, learnt by `train.py` and written back by `sample.py`, from the checkpoint alone and
without torch; what it writes is compared with the text byte by byte. A row that is a number is a random text
of so many characters over 33 symbols, for the model and with the keys that `ROWS` has; shakespeare is the
first 100,000 characters of the file `data.path`.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import machine
from charlstm.corpus import PROJECT

SYMBOLS = "abcdefghijklmnopqrstuvwxyz ?!.,:;"
PUBLISHED = ["model.layers=3", "model.hidden=35", "threads=1"]
ROWS = {
    "300": PUBLISHED,
    "2000": PUBLISHED,
    "6000": PUBLISHED,
    "12000": PUBLISHED,
    "18000": [*PUBLISHED, "train.decay=linear", "train.epochs=6000"],
    "112000": ["model.layers=3", "model.hidden=128", "threads=1"],
    "shakespeare": [],
}


def text_of(row: str, path: str) -> str:
    """The text that a row is about."""
    if row == "shakespeare":
        return Path(path).read_text(encoding="utf-8")[:100_000]
    drawn = np.random.default_rng(7).integers(len(SYMBOLS), size=int(row))
    return "".join(SYMBOLS[k] for k in drawn)


def main(rows: list[str], path: str) -> int:
    """Print a line for each row; returns 1 if a text was not written back."""
    print(machine.describe())
    print(f"{'text':>12} {'parameters':>10} {'epochs':>7} {'seconds':>8} {'bits/parameter':>15} by sample.py")
    exact = True
    with tempfile.TemporaryDirectory() as name:
        for row in rows:
            folder, text = Path(name) / row, text_of(row, path)
            folder.mkdir()
            (folder / "text.txt").write_text(text, encoding="utf-8")
            given = [f"data.path={folder / 'text.txt'}", f"hydra.run.dir={folder / 'run'}", *ROWS[row]]
            subprocess.run([sys.executable, "train.py", *given], cwd=PROJECT, check=True, capture_output=True)
            result = json.loads((folder / "run" / "result.json").read_text())
            begin = time.perf_counter()
            command = [sys.executable, "sample.py", f"ckpt={folder / 'run'}"]
            done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            same = done.stdout == text.encode()
            exact &= same
            # a text that is not random has fewer bits than this, and nobody knows how many
            bits = len(text) * math.log2(len(SYMBOLS)) / result["params"]
            print(
                f"{row:>12} {result['params']:10,} {result['epochs']:7,} {result['train_seconds']:8.1f} "
                f"{f'{bits:.2f}' if row != 'shakespeare' else '':>15} "
                f"{'byte for byte' if same else 'not the same'}, {time.perf_counter() - begin:.1f} s",
                flush=True,
            )
    return 0 if exact else 1


if __name__ == "__main__":
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    sys.exit(main(arguments.get("rows", "2000,6000,12000").split(","), arguments.get("data.path", "")))
