"""`python -m benchmarks.quality [seeds=3] [recipe=shakespeare] [key=value ...]`: how good a recipe gets.

Trains by `train.py` itself, a seed at a time, and prints the scores of the held-out part. Other keys are
passed on, such as train.budget=3m, or data.path=... where the text already lies.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from charlstm.files import PROJECT

FIGURES = ("valid_nats", "valid_windows_nats", "test_nats")


def short(result: dict[str, Any]) -> str:
    """Where the first is no score of the whole part."""
    return f" of its first {result['valid_symbols']:,} symbols" if "valid_symbols" in result else ""


def main(seeds: int, recipe: str, keys: list[str]) -> None:
    """Print a row for each seed, then the means."""
    print(describe())
    print(f"experiment={recipe} {' '.join(keys)}".rstrip())
    print(f"{'seed':>5} {'steps':>8} {'seconds':>8} {'chars/s':>9} " + " ".join(f"{n:>18}" for n in FIGURES))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            run = Path(folder) / str(seed)
            arguments = [f"experiment={recipe}", f"seed={seed}", f"hydra.run.dir={run}", *keys]
            subprocess.run(
                [sys.executable, "train.py", *arguments], cwd=PROJECT, stdout=subprocess.DEVNULL, check=True
            )
            results.append(json.loads((run / "result.json").read_text()))
            result = results[-1]
            scores = " ".join(f"{result.get(name) or float('nan'):18.4f}" for name in FIGURES)
            print(
                f"{seed:5} {result['steps']:8,} {result['train_seconds']:8.1f} "
                f"{result['chars_per_second']:9,.0f} {scores}{short(result)}",
                flush=True,
            )
    means = [statistics.mean(r.get(name) or float("nan") for r in results) for name in FIGURES]
    print(f"{'mean':>33} " + " ".join(f"{mean:18.4f}" for mean in means))


if __name__ == "__main__":
    own = dict(part.split("=", 1) for part in sys.argv[1:] if part.startswith(("seeds=", "recipe=")))
    main(
        int(own.get("seeds", 3)),
        own.get("recipe", "shakespeare"),
        [part for part in sys.argv[1:] if not part.startswith(("seeds=", "recipe="))],
    )
