"""`python -m benchmarks.recall [seeds=20]`: the main job for many seeds, each a process of its own."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import count, describe
from charlstm.files import PROJECT


def main(seeds: int) -> int:
    """Print a row for each seed and the medians; returns 1 if any did not recall."""
    print(describe())
    print(f"{'seed':>5} {'recalled':>9} {'epochs':>7} {'seconds':>8}")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            directory = Path(folder) / str(seed)
            command = [sys.executable, "train.py", f"seed={seed}", f"hydra.run.dir={directory}"]
            subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
            result = json.loads((directory / "result.json").read_text())
            results.append(result)
            print(
                f"{seed:5} {result['recalled']!s:>9} {result['epochs']:7} {result['train_seconds']:8.2f}",
                flush=True,
            )
    recalled = sum(result["recalled"] for result in results)
    epochs = statistics.median(result["epochs"] for result in results)
    seconds = statistics.median(result["train_seconds"] for result in results)
    print(f"recalled {recalled} of {seeds}; median {epochs:.0f} epochs, {seconds:.2f} s of training")
    return 0 if recalled == seeds else 1


if __name__ == "__main__":
    sys.exit(main(count("seeds", 20)))
