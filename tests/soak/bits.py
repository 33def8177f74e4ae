"""`python -m tests.soak.bits [flips=10000]`: is every flipped bit of a checkpoint noticed?

Every single bit of a small file is flipped, by itself, and so many bits chosen by chance of a file of 10 MB.
Each time the file must be refused.
"""

import random
import sys
import time
from pathlib import Path

from benchmarks.machine import count, describe
from charlstm import checkpoint
from tests.soak import forging


def unnoticed(blob: bytes, places: "range | list[int]") -> int:
    """How many of the flipped bits are not noticed; the place of a bit counts from the first of the file."""
    flipped = bytearray(blob)
    loaded = 0
    for place in places:
        byte, bit = divmod(place, 8)
        flipped[byte] ^= 1 << bit
        try:
            checkpoint.parse(flipped, Path("flipped"))
            loaded += 1
        except checkpoint.CheckpointError:
            pass
        flipped[byte] ^= 1 << bit
    checkpoint.parse(flipped, Path("flipped back"))
    return loaded


def main(flips: int) -> int:
    """Print the table; returns 1 if a flip was not noticed."""
    print(describe())
    small = forging.written(forging.made(training=True))
    large = forging.written(forging.made(hidden=780))
    chance = random.Random(0)
    rows = {
        "every bit": (small, range(8 * len(small))),
        "by chance": (large, [chance.randrange(8 * len(large)) for _ in range(flips)]),
    }
    print(f"{'bits':>10} {'file, bytes':>12} {'flipped':>8} {'noticed':>8} {'seconds':>8}")
    missed = 0
    for name, (blob, places) in rows.items():
        begin = time.perf_counter()
        loaded = unnoticed(blob, places)
        took = time.perf_counter() - begin
        print(
            f"{name:>10} {len(blob):12,} {len(places):8,} {len(places) - loaded:8,} {took:8.1f}", flush=True
        )
        missed += loaded
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(count("flips", 10_000)))
