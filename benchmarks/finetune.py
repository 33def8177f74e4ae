"""`python -m benchmarks.finetune old=first.txt new=second.txt [seconds=30]`: a trained model and a new one.

A model of the old text, trained for so many seconds, learns 50 kB of the new one in as many, with a share of
the old text and without; beside it stands a model that begins from nothing, with the same text in the same
time. All are given that as `train.budget`, scores included.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import charlstm
from benchmarks.machine import arguments, describe

SIZE = 50_000  # bytes of the new text


def main(old: str, new: str, seconds: float) -> None:
    """Print a row for each way."""
    text = Path(new).read_bytes()[:SIZE].decode("utf-8", "ignore")
    known = set(Path(old).read_text("utf-8"))
    print(f"{describe()}\n{len(set(text) - known)} of {len(set(text))} characters are new")
    usual, budget = {"eval.baselines": False}, f"{seconds:g}s"
    with TemporaryDirectory() as folder:
        first = f"{folder}/first"
        charlstm.train(path=old, task="lm", budget=budget, overrides=usual, directory=first)
        print(f"{'bits per character':20} {'new text':>9} {'old, before':>12} {'old, after':>11}")
        for name, keys in {
            "from nothing": {},
            "init": {"init": first},
            "init, train.keep=0.3": {"init": first, "train.keep": 0.3},
        }.items():
            made = charlstm.train(text, task="lm", budget=budget, overrides=usual | keys).figures
            before, after = (made.get(f"old_bpc_{when}", float("nan")) for when in ("before", "after"))
            print(f"{name:20} {made['test_bpc']:9.4f} {before:12.4f} {after:11.4f}", flush=True)


if __name__ == "__main__":
    main(*arguments(old="first.txt", new="second.txt", seconds=30.0))
