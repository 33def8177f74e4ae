"""`python -m benchmarks.recipes [seeds=4] [size=1x16]`: which recipe learns a text of which length.

Random texts over 33 symbols, each seed with a text and first weights of its own, by each recipe within 1,500
epochs or 10 seconds: how many were recalled, after how many epochs, and the median time. One thread.
"""

import statistics
import sys

import charlstm
from benchmarks.machine import describe
from charlstm.limits.capacity import random_text
from charlstm.training import recipe

TEXTS = ["1x4 60", "1x4 150", "1x6 200", "1x16 100", "1x16 300", "2x16 300", "2x128 60", "2x128 300"]
SYMBOLS = 33
RECIPES = {
    "one sequence, AdamW": {"train.layout": "sequence", "train.optimizer": "adamw"},
    "one sequence, SOAP": {"train.layout": "sequence", "train.optimizer": "soap"},
    "segments, SOAP": {"train.layout": "segments", "train.optimizer": "soap"},
}


def main(seeds: int, size: str) -> None:
    """Print a row for each text and recipe."""
    print(describe())
    for text in TEXTS:
        shape, length = text.split()
        layers, hidden = map(int, shape.split("x"))
        for name, keys in RECIPES.items():
            streams = recipe.segments(int(length) + 2) if keys["train.layout"] == "segments" else 1
            limits = {"train.epochs": 1500, "train.budget": "10s", "train.batch": streams, "threads": 1}
            found = [
                charlstm.train(
                    text=random_text(int(length), SYMBOLS, seed),
                    layers=layers,
                    hidden=hidden,
                    seed=seed,
                    overrides={**keys, **limits},
                ).figures
                for seed in (range(seeds) if size in ("", shape) else ())
            ]
            epochs = [one["epochs"] for one in found if one["recalled"]]
            if found:
                seconds = statistics.median(one["train_seconds"] for one in found)
                shown = f"{min(epochs):,} to {max(epochs):,} epochs" if epochs else "none"
                print(
                    f"{text:>9}  {name:20} {len(epochs)} of {seeds}, {shown:22} {seconds:5.1f} s", flush=True
                )


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(int(given.get("seeds", 4)), given.get("size", ""))
