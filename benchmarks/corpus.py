"""`python -m benchmarks.corpus [megabytes=1000]`: how fast a text becomes ids, and in how much memory.

ASCII is this project's own sources over and over; the mixed text has letters of one to four bytes.
Each figure is a process of its own with one thread. MB/s counts the seconds of its core, which neighbours on
the machine do not slow down; beside it, those of the clock, in which it also waits for the disk.
Linux only: anonymous memory is read from /proc.
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
    """Print seconds of the core and of the clock, and the highest anonymous memory in MB while a corpus is
    built and read through; then V and the type of the ids."""
    from charlstm.config.compose import compose
    from charlstm.config.settings import TrainSettings
    from charlstm.text import corpus, survey, vocabulary

    config = replace(compose("train", TrainSettings, []).data, path=path, split=(0.9, 0.1, 0.0))
    highest = 0.0
    add = survey.Survey.add
    encode = vocabulary.Vocabulary.ids_of

    def look() -> None:
        nonlocal highest
        highest = max(highest, anonymous())

    # looked at after every block of the sources and of the draft
    survey.Survey.add = lambda *given: (add(*given), look())[0]  # type: ignore[method-assign]
    vocabulary.Vocabulary.ids_of = lambda *given: (encode(*given), look())[0]  # type: ignore[method-assign]
    of_clock, of_core = time.perf_counter(), time.process_time()
    built = corpus.read(config)
    of_clock, of_core = time.perf_counter() - of_clock, time.process_time() - of_core
    for first in range(0, len(built.train), 10**6):
        built.train[first : first + 10**6].max()
    look()
    print(of_core, of_clock, highest, len(built.vocabulary), built.train.dtype)


def anonymous() -> float:
    """Anonymous memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 / 1e6


def main(megabytes: int) -> int:
    """Print a row for each text; returns 1 where it is slower than 60 MB/s or takes 50 MB more."""
    print(describe())
    print(f"{'text':>6} {'MB':>6} {'MB/s':>6} {'of clock':>9} {'anonymous MB':>13} {'V':>6} {'ids':>7}")
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
            of_core, of_clock, anon, vocabulary, dtype = done.stdout.split()
            memory[size] = float(anon)
            speed = size / float(of_core)
            print(
                f"{kind:>6} {size:6} {speed:6.0f} {size / float(of_clock):9.0f} {memory[size]:13.0f} "
                f"{vocabulary:>6} {dtype:>7}",
                flush=True,
            )
            good &= size < JUDGED or speed >= 60
        more = memory[megabytes] - memory[SMALL]
        print(f"{kind}: the large text takes {more:+.0f} MB of memory")
        good &= more <= 50
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("measure="):
        measure(sys.argv[1].removeprefix("measure="))
    else:
        sys.exit(main(count("megabytes", 1000)))
