"""Long texts by heart: learnt by `train.py`, written back by `sample.py` byte for byte, and verified.

    python -m benchmarks.limit                          random characters in the published 3 x 35
    python -m benchmarks.limit rows=6000 seeds=5        other lengths, and the median and spread of seeds
    python -m benchmarks.limit rows=100000 path=book.txt model.layers=2 model.hidden=128

Each row is a text of so many characters, random ones of 33 symbols or the first of a file; a seed is that of
the text and of the first weights. `sample.py` writes from the checkpoint alone and without torch, with its
weights and with these rounded to as few bits as it takes; `verify.py` reads the file for itself. Without keys
of `train.py`, it is the published experiment's three layers of 35 units with an output layer, on one thread.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from benchmarks.machine import describe
from charlstm import checkpoint
from charlstm.files import PROJECT
from charlstm.limits import trial
from charlstm.limits.capacity import random_text

SYMBOLS = 33
KEYS = ["model.layers=3", "model.hidden=35", "threads=1"]


def ran(*arguments: object) -> bytes:
    """What a command of this folder says."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True).stdout


def cpu_seconds() -> float:
    """Of all commands so far."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(text: str, seed: int, folder: Path, keys: list[str], is_random: bool) -> tuple[bool, float]:
    """Print what came of a text; returns whether it is exact, and the CPU seconds of its training."""
    file, run = folder / "text.txt", folder / "run"
    file.write_text(text, encoding="utf-8", newline="")
    before = cpu_seconds()
    ran("train.py", f"data.path={file}", f"hydra.run.dir={run}", f"seed={seed}", *keys)
    seconds = cpu_seconds() - before
    result = json.loads((run / "result.json").read_text())
    same = ran("sample.py", f"ckpt={run}") == text.encode()
    weight_bits: int | None = None
    if same:
        trained = checkpoint.load(run)
        weight_bits, rounded = trial.rounded_most(trained, trained.vocabulary.encode(text))
        checkpoint.save(rounded, run / trial.ROUNDED)
        same = ran("sample.py", f"ckpt={run / trial.ROUNDED}") == text.encode()
        verified = ran("benchmarks/verify.py", run / checkpoint.BEST, file)
        same &= verified.startswith(b"yes")
    # what a text that can be understood has in bits, nobody knows
    bits = f"{len(text) * math.log2(SYMBOLS) / result['params']:.2f}" if is_random else ""
    print(
        f"{len(text):10,} {seed:5} {result['epochs']:7,} {seconds:8.1f} {bits:>12} "
        f"{weight_bits or '-':>12} {'byte for byte' if same else 'not the same'}",
        flush=True,
    )
    return same, seconds


def main(lengths: list[int], seeds: int, path: Path | None, keys: list[str]) -> int:
    """Print a line for each length and seed; returns 1 if a text was not written back."""
    print(describe())
    print(" ".join(keys))
    print(
        f"{'characters':>10} {'seed':>5} {'epochs':>7} {'CPU s':>8} {'bits/param.':>12} {'bits/weight':>12}"
    )
    found = []
    for length in lengths:
        book = path.read_text(encoding="utf-8")[:length] if path else None
        of_length = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as name:
                text = book or random_text(length, SYMBOLS, seed)
                of_length.append(row(text, seed, Path(name), keys, book is None))
        spent = [seconds for same, seconds in of_length if same]
        if len(spent) > 1:
            print(
                f"exact in {len(spent)} of {seeds}, in {min(spent):.1f} to {max(spent):.1f} s, "
                f"median {statistics.median(spent):.1f}"
            )
        found += of_length
    return 0 if all(same for same, _ in found) else 1


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    rows = [int(row) for row in given.pop("rows", "6000,12000,21000").split(",")]
    each = int(given.pop("seeds", 1))
    book = given.pop("path", None)
    chosen = [f"{key}={value}" for key, value in given.items()] or KEYS
    sys.exit(main(rows, each, Path(book) if book else None, chosen))
