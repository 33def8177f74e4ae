"""`python -m benchmarks.startup [rounds=7]`: wall times from start to exit, beside the imports below them."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import count, describe
from charlstm.text.source import PROJECT


def seconds(*arguments: str, first_byte: bool = False) -> float:
    """Seconds until a Python process ends, or until it writes its first byte to standard output."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
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


def main(repeats: int) -> None:
    """Take turns, so that a noisy machine is noisy for all; print medians and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        imports, jobs, wrong, help_, sample = [], [], [], [], []
        for n in range(repeats + 1):
            run = f"{folder}/{n}"
            imports.append(seconds("-c", "import torch, torch.utils.tensorboard, hydra"))
            jobs.append(seconds("train.py", f"hydra.run.dir={run}"))
            wrong.append(seconds("train.py", "model.layer=3"))
            help_.append(seconds("train.py", "--help"))
            sample.append(seconds("sample.py", f"ckpt={run}", first_byte=True))
            assert (Path(run) / "result.json").exists()
    print(describe())
    rows = {
        "import torch, torch.utils.tensorboard, hydra": imports,
        "python train.py, start to exit": jobs,
        "python train.py model.layer=3 (a wrong key)": wrong,
        "python train.py --help": help_,
        "python sample.py ckpt=..., first character": sample,
    }
    for name, values in rows.items():  # the first round warms the file cache up
        print(
            f"{name:46} {statistics.median(values[1:]):5.2f} s  "
            f"({min(values[1:]):.2f} to {max(values[1:]):.2f})"
        )
    ratios = [job / base for job, base in zip(jobs[1:], imports[1:], strict=True)]
    print(f"the main job takes {statistics.median(ratios):.2f} times the imports")


if __name__ == "__main__":
    main(count("rounds", 7))
