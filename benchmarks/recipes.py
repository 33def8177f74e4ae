"""`python -m benchmarks.recipes [seeds=4] [size=1x16] [path=book.txt]`: which recipe learns a text how soon.

Random texts over 33 symbols, or parts of a book, each seed with a text and first weights of its own, by each
recipe within 1,500 epochs or 10 seconds (of a book 30): how many were recalled, after how many epochs, and in
which median time. One thread.
"""

import statistics
import sys
from pathlib import Path

import charlstm
from benchmarks.machine import arguments, describe
from charlstm.limits.capacity import random_text
from charlstm.training import recipe

TEXTS = ["1x4 60", "1x4 150", "1x6 200", "1x16 100", "1x16 300", "2x16 300", "2x128 60", "2x128 300"]
BOOK = ["1x32 1000", "1x64 1000", "1x64 4000", "2x128 200", "2x128 1000", "2x128 4000", "1x256 4000"]
LONGEST = 4000
SYMBOLS = 33
RECIPES = {
    "one sequence, AdamW": {"train.layout": "sequence", "train.optimizer": "adamw"},
    "one sequence, SOAP": {"train.layout": "sequence", "train.optimizer": "soap"},
} | {
    f"segments, {optimizer}, {loss}": {
        "train.layout": "segments",
        "train.optimizer": optimizer.lower(),
        "train.loss": loss.replace("-", "_"),
    }
    for optimizer in ("SOAP", "Muon")
    for loss in ("cross-entropy", "focal")
}


def main(seeds: int, size: str, path: str) -> None:
    """Print a row for each text and recipe."""
    print(describe())
    book = Path(path).read_text(encoding="utf-8") if path and Path(path).is_file() else ""
    if path and len(book) < seeds * LONGEST:
        sys.exit(f"error: path = {path}: no text of {seeds * LONGEST:,} characters")

    def part(length: int, seed: int) -> str:
        return book[seed * length :][:length] if book else random_text(length, SYMBOLS, seed)

    for text in BOOK if book else TEXTS:
        shape, length = text.split()
        layers, hidden = map(int, shape.split("x"))
        for name, keys in RECIPES.items():
            streams = recipe.segments(int(length) + 2) if keys["train.layout"] == "segments" else 1
            limits = {
                "train.epochs": 1500,
                "train.budget": "30s" if book else "10s",
                "train.batch": streams,
                "threads": 1,
            }
            found = [
                charlstm.train(
                    text=part(int(length), seed),
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
                    f"{text:>9}  {name:28} {len(epochs)} of {seeds}, {shown:22} {seconds:5.1f} s", flush=True
                )


if __name__ == "__main__":
    main(*arguments(seeds=4, size="", path=""))
