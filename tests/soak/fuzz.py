"""`python -m tests.soak.fuzz [count=200000]`: what can a file do to whoever loads it?

So many mutated checkpoints (`mutants.py`), in half of the cases with a right digest, are written and loaded.
Each must be refused by a CheckpointError, or be valid to a second, independent reader; it must cause no code
to be run, no module to be imported, nothing to be opened but itself, and no process or socket (an audit hook
watches); it may take at most 4 times its size and 200 MB of memory, and 10 seconds of a core. Processes of
5,000 cases each; one that dies is a failure, too, as it does after a minute with one file. The seed of a case
is its number: a failure can be repeated by `python -m tests.soak.fuzz batch=NUMBER:1`.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from benchmarks.machine import count, describe
from charlstm import checkpoint
from charlstm.files import PROJECT
from charlstm.sampling import writer
from charlstm.training import memory
from tests.soak import forging, mutants

BATCH = 5000
SECONDS, HUNG = 10, 300
FORBIDDEN = ("exec", "compile", "import", "subprocess", "socket", "ctypes", "os.", "shutil", "pickle", "mmap")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORMAT_1 = PROJECT / "tests" / "checkpoints" / "format_1.safetensors"


class Watch:
    """An audit hook, which cannot be taken away again, that keeps what happens while `path` is set."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.seen: list[str] = []
        memory.physical()  # which is found out once, in files of the system
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.path is None:
            return
        if event == "open":
            if str(arguments[0]) != self.path or arguments[2] & WRITES:
                self.seen.append(f"open {arguments}")
        elif event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {arguments}"[:200])


def bases() -> list[bytes]:
    """The files that are mutated."""
    kinds = ({}, {"training": True}, {"embedding": 2}, {"hidden": 5, "training": True})
    return [forging.written(forging.made(k, **kind)) for k, kind in enumerate(kinds)] + [
        FORMAT_1.read_bytes()
    ]


def valid(blob: bytes) -> bool:
    """Whether another reader, with the shapes written out once more, finds nothing wrong with a file."""
    arrays = safetensors.numpy.load(blob)
    metadata, entries, data = forging.parts(blob)
    at = blob.index(metadata["sha256"].encode())
    right = hashlib.sha256(blob[:at] + b"0" * 64 + blob[at + 64 :]).hexdigest() == metadata["sha256"]
    model, size = metadata["model"], len(metadata["characters"]) + 2 + metadata.get("unknown", False)
    wide, gates = model["hidden"], {"lstm": 4, "gru": 3}.get(model["cell"], 1)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (size, model["embedding"])}
    if not model["embedding"]:
        shapes = {}
    for layer in range(int(model["layers"])):  # 1.0 is a whole number, too
        below = wide if layer else model["embedding"] or size
        shapes[f"rnn.weight_ih_l{layer}"] = (gates * wide, below)
        shapes[f"rnn.weight_hh_l{layer}"] = (gates * wide, wide)
        shapes |= {f"rnn.bias_{kind}_l{layer}": (gates * wide,) for kind in ("ih", "hh")}
    if model["head"] == "linear":
        shapes |= {"head.weight": (size, wide), "head.bias": (size,)}
    weights = {name: array for name, array in arrays.items() if not name.startswith("training/")}
    training = metadata.get("training")
    typed = training and {**training, "settings": None, "folder": None}  # which may have any sign
    strict = json.dumps(
        [metadata | {"training": typed}, entries], ensure_ascii=False, allow_nan=False
    ).encode()
    return bool(
        right
        and strict
        and metadata["format"] == 1
        and len(set(metadata["characters"])) == len(metadata["characters"]) > 0
        and {name: array.shape for name, array in weights.items()} == shapes
        and all(array.dtype == np.float32 and np.isfinite(array).all() for array in weights.values())
        and sum(array.nbytes for array in arrays.values()) == len(data)
        and all(isinstance(metadata[name], dict) for name in ("figures", "provenance"))
        and isinstance(metadata["text_length"], int | float)
        and metadata["text_length"] >= 0
        and (metadata.get("training") is not None or len(weights) == len(arrays))
    )


class Outcome(NamedTuple):
    """What came of a file, `refused`, `loaded` or what is wrong, and the memory and time that it took."""

    said: str
    most: int = 0
    seconds: float = 0


def outcome(path: Path, blob: bytes, watch: Watch) -> Outcome:
    """Load one file."""
    path.write_bytes(blob)
    tracemalloc.reset_peak()
    before, begin = tracemalloc.get_traced_memory()[0], time.process_time()
    signal.setitimer(signal.ITIMER_REAL, HUNG)  # its signal ends the process, whatever that is doing
    loaded, watch.path = None, str(path)
    try:
        loaded = checkpoint.load(path)
        said = "loaded"
    except checkpoint.CheckpointError as error:
        told = str(error)
        told.encode()
        right = told.startswith(f"{path}: ") and "; " in told and len(told) < 1000
        said = "refused" if right else f"FAILED: an unclear message: {told[:300]}"
    except BaseException as error:
        said = f"FAILED: {error!r}"[:300]
    watch.path = None
    seconds, most = time.process_time() - begin, tracemalloc.get_traced_memory()[1] - before
    signal.setitimer(signal.ITIMER_REAL, 0)
    if watch.seen:
        said, watch.seen = f"FAILED: {watch.seen}", []
    elif most > 4 * len(blob) + 200e6:
        said = f"FAILED: {most / 1e6:.0f} MB for a file of {len(blob):,} bytes"
    elif seconds > SECONDS:
        said = f"FAILED: {seconds:.0f} seconds"
    elif loaded is not None:
        try:
            if not valid(blob):
                said = "FAILED: loaded, though it is not valid"
            writer.likeliest(loaded.model(), loaded.vocabulary, 3)
        except FloatingPointError:
            pass  # of huge weights
        except BaseException as error:
            said = f"FAILED: loaded, but {error!r}"[:300]
    return Outcome(said, most, seconds)


def batch(first: int, count: int) -> dict[str, Any]:
    """The outcomes of cases `first`, `first` + 1, ... of this process; it ends if a case takes too long."""
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    sources, watch = bases(), Watch()
    outcomes: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / "case"
        tracemalloc.start()
        for blob in (sources[1], sources[1][:-1], forging.sealed(sources[1][:-1])):
            outcome(path, blob, watch)
        watch.seen = []  # what is imported on the first use is no harm
        for seed in range(first, first + count):
            way, blob = mutants.mutant(seed, sources)
            found.append(outcome(path, blob, watch))
            if found[-1].said.startswith("FAILED"):
                failures.append(f"{seed} {way}: {found[-1].said}")
            outcomes[f"{way}: {found[-1].said.partition(':')[0]}"] += 1
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    most, longest = max(one.most for one in found) / 1e6, max(one.seconds for one in found)
    return {"outcomes": outcomes, "failures": failures, "most": most, "rss": rss, "longest": longest}


def run_batch(first: int, count: int) -> dict[str, Any]:
    """`batch` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.fuzz", f"batch={first}:{count}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        ended = f"{first}+: the process ended with {done.returncode}: {done.stderr[-2000:]}"
        return {"outcomes": {}, "failures": [ended], "most": 0, "rss": 0, "longest": 0}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(count: int) -> int:
    """Print the table; returns 1 if a case was not as it should be."""
    print(describe(), flush=True)
    begin = time.perf_counter()
    batches = [(first, min(BATCH, count - first)) for first in range(0, count, BATCH)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda given: run_batch(*given), batches))
    outcomes: collections.Counter[str] = collections.Counter()
    for one in found:
        outcomes.update(one["outcomes"])
    ways = sorted({row.rpartition(": ")[0] for row in outcomes})
    print(f"{'mutation':26} {'files':>9} {'refused':>9} {'loaded':>9} {'failed':>9}")
    total: collections.Counter[str] = collections.Counter()
    for way in ways:
        counts = {what: outcomes[f"{way}: {what}"] for what in ("refused", "loaded", "FAILED")}
        total.update(counts)
        print(f"{way:26} {sum(counts.values()):9,} " + " ".join(f"{number:9,}" for number in counts.values()))
    print(f"{'all':26} {total.total():9,} " + " ".join(f"{number:9,}" for number in total.values()))
    failures = [failure for one in found for failure in one["failures"]]
    print(
        f"at most {max(one['most'] for one in found):.0f} MB and {max(one['longest'] for one in found):.2f} s"
        f" for a file, {max(one['rss'] for one in found):.0f} MB for a whole process; "
        f"{time.perf_counter() - begin:.0f} s in all; {len(failures)} failures"
    )
    print("\n".join(failures[:50]))
    return 1 if failures or total.total() != count else 0


if __name__ == "__main__":
    given = sys.argv[1] if sys.argv[1:] else ""
    if given.startswith("batch="):
        first, _, count = given.removeprefix("batch=").partition(":")
        json.dump(batch(int(first), int(count)), sys.stdout)
    else:
        sys.exit(main(count("count", 200_000)))
