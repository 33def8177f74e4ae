"""Does a long run stay as it was?

    python -m tests.soak.long_run [minutes=30]

A tiny language model is trained with a checkpoint a second, TensorBoard's curves and an evaluation every
1,000 steps, while its memory (RssAnon), open files, threads and disk are read every second. After a tenth
of the time for warming up, the medians of the beginning, the middle and the end must be level: memory within
4 MiB, for the allocator's and the kernel's pages come and go, files and threads exactly. The disk may hold
the checkpoints that `save.keep` asks for, one being written, the model, and the curves, which grow with what
they show: by less than 200 bytes a point. The exit code is 1 if it is not so.
"""

import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from benchmarks.machine import describe
from charlstm import checkpoint
from tests.soak import runs
from tests.soak.runs import LM, Started

KEEP = 2
RUN = [*LM, "train.steps=1000000000", "eval.times=1000000", "save.every=1s", f"save.keep={KEEP}", "threads=1"]


class Reading(NamedTuple):
    """Of one moment; bytes, but for the counts."""

    memory: int
    files: int
    threads: int
    checkpoints: int
    curves: int


def read(pid: int, directory: Path) -> Reading:
    """What a process and its run directory take now."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    sizes = {"curves": 0, "rest": 0}
    for path in directory.rglob("*"):
        try:
            sizes["curves" if path.name.startswith("events") else "rest"] += path.stat().st_size
        except FileNotFoundError:  # one that was just replaced
            continue
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    memory = int(status["RssAnon"].split()[0]) * 1024
    return Reading(memory, files, int(status["Threads"]), sizes["rest"], sizes["curves"])


def main(minutes: float) -> int:
    """Print the beginning, the middle and the end; returns 1 if they are not level."""
    print(describe())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.write_text(folder)
        directory = folder / "run"
        started = Started([*RUN, f"hydra.run.dir={directory}"], folder)
        # until it has saved, and drawn its first pictures, whose libraries take memory
        drawn = 100_000  # bytes
        while not any(directory.glob("last.*")) or read(started.pid, directory).curves < drawn:
            if started.wait(1) is not None:
                raise RuntimeError(started.said())
        readings, end = [], time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            readings.append(read(started.pid, directory))
            time.sleep(min(1, minutes))
        started.send(signal.SIGTERM)
        code = started.wait()
        last = checkpoint.load(directory / "last.safetensors")
        size = (directory / "last.safetensors").stat().st_size
        assert last.training is not None
        steps = last.step
        sizes = scalar_bytes(directory)
    level = report(readings, size)
    per_point = sum(sizes) / len(sizes)
    print(f"{steps:,} steps, {len(sizes):,} points of curves of {per_point:.0f} bytes, exit code {code}")
    return 0 if level and per_point < 200 and code == 143 else 1


def scalar_bytes(directory: Path) -> list[int]:
    """Bytes of each point of a curve; texts, pictures and histograms, which are few, are left out."""
    events = (
        event for path in directory.glob("events*") for event in LegacyEventFileLoader(str(path)).Load()
    )
    return [e.ByteSize() + 16 for e in events if any(v.HasField("simple_value") for v in e.summary.value)]


def report(readings: list[Reading], size: int) -> bool:
    """Print medians of a tenth of the readings each; returns whether they are level."""
    tenth = max(len(readings) // 10, 1)
    parts = {
        "begin": readings[tenth : 2 * tenth] or readings[:1],
        "middle": readings[5 * tenth : 6 * tenth] or readings[-1:],
        "end": readings[-tenth:],
    }
    print(f"{'':8} {'memory, MiB':>12} {'files':>6} {'threads':>8} {'disk, KiB':>10} {'curves, KiB':>12}")
    medians = []
    for part, these in parts.items():
        median = Reading(*(int(statistics.median(column)) for column in zip(*these, strict=True)))
        medians.append(median)
        print(
            f"{part:8} {median.memory / 2**20:12.1f} {median.files:6} {median.threads:8} "
            f"{median.checkpoints / 1024:10,.0f} {median.curves / 1024:12,.0f}"
        )
    most = max(reading.checkpoints for reading in readings)
    bound = (KEEP + 4) * size + 2**17  # last, its older ones, one being written, best; log and configuration
    print(f"at most {most / 1024:,.0f} KiB besides the curves; a checkpoint has {size / 1024:,.0f}")
    begin, _, end = medians
    same = (begin.files, begin.threads) == (end.files, end.threads)
    return same and end.memory - begin.memory < 4 * 2**20 and most < bound


if __name__ == "__main__":
    (given,) = sys.argv[1:] or ["minutes=30"]
    sys.exit(main(float(given.removeprefix("minutes="))))
