"""`python -m benchmarks.corpus [megabytes=1000]`: how fast a text becomes ids, and in how much memory.

ASCII is this project's own sources over and over; the mixed text has letters of one to four bytes.
Each figure is a process of its own with one thread. MB/s counts the seconds of its core, which neighbours on
the machine do not slow down; beside it, those of the clock, in which it also waits for the disk.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import count, describe
from charlstm.files import PROJECT

SMALL = 10
MOST = 10  # bytes of memory that a byte of a text takes
JUDGED = 100  # megabytes that take long enough for their speed to be judged, too
MIXED = "Größe und Maß; 日本語の文章, кириллица, ελληνικά, 🙂 – plain words between them.\r\n"


def write(path: Path, kind: str, megabytes: int) -> None:
    """A text of that many million bytes."""
    sources = "".join(file.read_text("utf-8") for file in sorted((PROJECT / "charlstm").rglob("*.py")))
    ascii_text = sources.encode("ascii", "ignore")
    piece = ascii_text if kind == "ascii" else MIXED.encode() * 2000 + ascii_text
    with path.open("wb") as file:
        for _ in range(megabytes * 10**6 // len(piece)):
            file.write(piece)
        file.write(piece[: megabytes * 10**6 % len(piece)].decode("utf-8", "ignore").encode())


def measure(path: str) -> None:
    """Print seconds of the core and of the clock in which a corpus is built, the most memory in MB, V, and
    the type of the ids."""
    from charlstm.config.compose import compose
    from charlstm.config.settings import TrainSettings
    from charlstm.text import corpus
    from charlstm.training import memory

    config = replace(compose("train", TrainSettings, []).data, path=path, split=(0.9, 0.1, 0.0))
    of_clock, of_core = time.perf_counter(), time.process_time()
    built = corpus.read(config)
    of_clock, of_core = time.perf_counter() - of_clock, time.process_time() - of_core
    print(of_core, of_clock, memory.peak() / 1e6, len(built.vocabulary), built.train.dtype)


def main(megabytes: int) -> int:
    """Print a row for each text; returns 1 where it is slower than 60 MB/s or takes much more memory."""
    print(describe())
    print(f"{'text':>6} {'MB':>6} {'MB/s':>6} {'of clock':>9} {'MB of memory':>13} {'V':>6} {'ids':>7}")
    good = True
    for kind in ("ascii", "mixed"):
        memory = {}
        for size in (SMALL, megabytes):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "text.txt"
                write(path, kind, size)
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.corpus", f"measure={path}"],
                    cwd=PROJECT,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            of_core, of_clock, most, vocabulary, dtype = done.stdout.split()
            memory[size] = float(most)
            speed = size / float(of_core)
            print(
                f"{kind:>6} {size:6} {speed:6.0f} {size / float(of_clock):9.0f} {memory[size]:13.0f} "
                f"{vocabulary:>6} {dtype:>7}",
                flush=True,
            )
            good &= size < JUDGED or speed >= 60
        more = (memory[megabytes] - memory[SMALL]) / (megabytes - SMALL)
        print(f"{kind}: each byte of a text takes {more:.1f} bytes of memory")
        good &= more <= MOST
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("measure="):
        measure(sys.argv[1].removeprefix("measure="))
    else:
        sys.exit(main(count("megabytes", 1000)))
