"""How long whole commands take that were given a time, beside that time: memorize, lm and copy.

    python -m benchmarks.budget [budgets=20,80] [busy=0] [only=lm]

`busy` loops in other processes run all the while.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from charlstm.files import PROJECT

CASES = {
    "memorize": ["data.path={folder}/random.txt"],
    "lm": ["task=lm", "data=shakespeare"],
    "lm, 10 MB": ["task=lm", "data=python"],
    "copy": ["task=copy"],
}


def seconds(arguments: list[str], directory: Path) -> float:
    """Of a whole command, with what it says in `directory`; it has to succeed."""
    begin = time.perf_counter()
    with directory.with_suffix(".txt").open("w") as said:
        words = [sys.executable, "train.py", *arguments, f"hydra.run.dir={directory}"]
        subprocess.run(words, cwd=PROJECT, stdout=said, stderr=subprocess.STDOUT, check=True)
    return time.perf_counter() - begin


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(int(given.get("busy", 0)))
    ]
    print(f"{describe()}; {len(loops)} busy loops")
    print("asked, s   took, s   off, s")
    try:
        with tempfile.TemporaryDirectory() as folder:
            letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), 100_000)
            Path(folder, "random.txt").write_text("".join(letters))
            for budget in map(float, given.get("budgets", "20,80").split(",")):
                for name, words in CASES.items():
                    if given.get("only", name) == name:
                        asked = [word.format(folder=folder) for word in (*words, f"train.budget={budget:g}")]
                        took = seconds(asked, Path(folder, f"{len(name)}_{budget:g}"))
                        print(f"{budget:8g}  {took:8.1f}  {took - budget:+7.1f}   {name}", flush=True)
    finally:
        for loop in loops:
            loop.kill()


if __name__ == "__main__":
    main()
