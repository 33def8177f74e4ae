"""Wall times from start to exit, beside the imports below them.

    python -m benchmarks.startup [rounds=7] [against=FOLDER]

FOLDER is another checkout, which is timed in turn with this one, under the same Python.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe
from charlstm.files import PROJECT

IMPORTS = "import torch, torch.utils.tensorboard, hydra"
JOB = "python train.py, start to exit"
FIRST = "python sample.py ckpt=..., first character"
CASES = {  # {run} is a directory of its own in every round
    IMPORTS: ["-c", IMPORTS],
    JOB: ["train.py", "hydra.run.dir={run}"],
    "python train.py model.layer=3 (a wrong key)": ["train.py", "model.layer=3"],
    "python train.py --help": ["train.py", "--help"],
    FIRST: ["sample.py", "ckpt={run}"],
}


def seconds(checkout: Path, arguments: list[str], first_byte: bool) -> float:
    """Seconds until a Python process ends, or until it writes its first byte to standard output."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=checkout,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.perf_counter() - begin
        process.stdout.read()
        process.wait()
    return first if first_byte else time.perf_counter() - begin


def measure(checkouts: list[Path], rounds: int) -> list[dict[str, list[float]]]:
    """The times of each case in each checkout, which take turns, so that a noisy machine is noisy for all."""
    times: list[dict[str, list[float]]] = [{name: [] for name in CASES} for _ in checkouts]
    with tempfile.TemporaryDirectory() as folder:
        for n in range(rounds + 1):  # the first round warms the file cache up
            for name, words in CASES.items():
                for k in range(len(checkouts))[:: 1 if n % 2 else -1]:
                    run = Path(folder, f"{k}_{n}")
                    arguments = [word.format(run=run) for word in words]
                    taken = seconds(checkouts[k], arguments, first_byte=name == FIRST)
                    assert name != JOB or (run / "result.json").exists()
                    if n or not rounds:
                        times[k][name].append(taken)
    return times


def main(rounds: int, *others: str) -> None:
    """Print medians, and the ratios to those of another checkout."""
    ours, *theirs = measure([PROJECT, *map(Path, others)], rounds)
    print(describe())
    for name, values in ours.items():
        median = statistics.median(values)
        row = f"{name:46} {median:5.2f} s  ({min(values):.2f} to {max(values):.2f})"
        for other in theirs:
            before = statistics.median(other[name])
            row += f"; {median / before:.2f} times the other's {before:.2f} s"
        print(row)
    for whose, times in zip(("the main job", "the other's"), (ours, *theirs), strict=False):
        ratios = [job / base for job, base in zip(times[JOB], times[IMPORTS], strict=True)]
        print(f"{whose} takes {statistics.median(ratios):.2f} times the imports")


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(int(given.get("rounds", 7)), *filter(None, [given.get("against")]))
