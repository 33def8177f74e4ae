"""`python -m benchmarks.sizes [folder=.] [only=names] [tries=20]`: are sizes chosen by the text good ones?

Of ten unlike texts, 2 kB to 20 MB: the bits per character of the test part with what `auto` chooses, those of
the best of a small search (by the valid part), and of a 5-gram. All get the same time, at most 12 s of
one usual core, which is counted (`steps_in`) and not measured, so that the figures do not depend on the
machine's load. The folder has `PACKAGES` of Debian, unpacked: `apt-get download`, then `dpkg -x` of each.
"""

import gzip
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import charlstm
from benchmarks.machine import describe
from charlstm.config.compose import compose, literal
from charlstm.config.settings import TrainSettings
from charlstm.files import PROJECT
from charlstm.text import corpus
from charlstm.training import recipe

PACKAGES = ["fortunes", "fortunes-zh", "dict-gcide", "developers-reference", "debian-faq"]
FORTUNES = "usr/share/games/fortunes"
TEXTS: dict[str, dict[str, Any]] = {  # paths in the folder, or of this machine
    "sums": {},
    "names": {"data.path": "data/cities.txt"},
    "prose": {"data.path": f"{FORTUNES}/tao"},
    "chat": {"data.path": f"{FORTUNES}/knghtbrd"},
    "cjk": {"data.path": f"{FORTUNES}/tang300"},
    "log": {"data.path": "/var/log/dpkg.log"},
    "verse": {"data": "shakespeare"},
    "markup": {"data.path": "usr/share", "data.glob": "**/*.html"},
    "code": {"data": "python"},
    "dictionary": {"data.path": "usr/share/dictd/gcide.dict.dz"},
}
HELD_OUT = 40_000  # characters of valid and test, or a tenth of the text

SECONDS = 12

SEARCH = [  # the first are all tried, then each of the others with the best so far
    *(
        {"model.hidden": hidden, "train.dropout.hidden": p}
        for hidden in (96, 192, 384)
        for p in (0, 0.2, 0.4)
    ),
    *({"model.hidden": hidden} for hidden in (64, 128, 256)),
    *({"train.dropout.hidden": p} for p in (0.1, 0.3, 0.5)),
    *({"train.lr": lr} for lr in (0.006, 0.01, 0.04)),
    *({"train.weight_decay": decay} for decay in (0, 0.3)),
]
# all by AdamW, which in so little time is what `auto` chooses, too
FIRST, PLAIN = 9, {"train.optimizer": "adamw", "train.lr": 0.02, "model.embedding": 64}


def source(name: str, folder: Path) -> tuple[str | None, dict[str, Any]]:
    """The text itself or the keys that name it. Raises OSError if it is not there."""
    keys = dict(TEXTS[name])
    if name == "sums":
        draw = random.Random(0)
        pairs = [(draw.randrange(100), draw.randrange(100)) for _ in range(250)]
        return "".join(f"{a}+{b}={a + b}\n" for a, b in pairs), keys
    if name == "dictionary":
        with gzip.open(folder / keys["data.path"]) as packed:
            unpacked = folder / "dictionary.txt"
            unpacked.write_text(packed.read(20_000_000).decode("utf-8", "ignore"), "utf-8")
        keys["data.path"] = str(unpacked.resolve())
        return None, keys
    if path := keys.get("data.path"):
        found = next(place for place in (folder, PROJECT) if (place / path).exists())
        keys["data.path"] = str(found / path)
    return None, keys


def steps_in(seconds: float, hidden: int) -> int:
    """Steps of 32 x 64 characters that a core with AVX-512 makes in that time, in float32."""
    return max(int(seconds / (0.003 + 0.15 * (hidden / 512) ** 1.9)), 5)


def asked(text: str | None, keys: dict[str, Any], budget: str) -> tuple[TrainSettings, int, int]:
    """The settings of a text with that budget, the symbols of its training part and of its vocabulary; its
    split is put into `keys`."""
    whole = ["task=lm", f"train.budget={budget}", *(f"{key}={literal(value)}" for key, value in keys.items())]
    settings = compose("train", TrainSettings, whole)
    read = corpus.read(replace(settings.data, text=text) if text else settings.data)
    held = min(HELD_OUT / len(read.ids), 0.1)
    keys["data.split"] = [1 - 2 * held, held, held]
    return settings, int((1 - 2 * held) * len(read.ids)), len(read.vocabulary)


def compared(text: str | None, keys: dict[str, Any], tries: int) -> tuple[dict[str, Any], ...]:
    """The figures with what is chosen, those of the best of the search, and the keys of that."""
    settings, symbols, V = asked(text, keys, "auto")
    chosen, seconds = recipe.by_corpus(settings, symbols, V), float(SECONDS)
    if passes := chosen.get("train.epochs"):
        steps = passes * recipe.steps_per_epoch(recipe.for_corpus(settings.train, symbols), symbols)
        seconds = min(steps / steps_in(1000, chosen["model.hidden"]) * 1000, seconds)
    if seconds == SECONDS:
        chosen = recipe.by_corpus(*asked(text, keys, f"{SECONDS}s"))

    def figures(tried: dict[str, Any]) -> dict[str, Any]:
        weight = {"train.dropout.weight": tried["train.dropout.hidden"] / 2}
        fixed = {"train.steps": steps_in(seconds, tried["model.hidden"]), "threads": 1, "eval.times": 8}
        return charlstm.train(text, task="lm", overrides=keys | weight | tried | fixed).figures

    sizes = ("model.hidden", "train.optimizer", "train.lr", "train.dropout.hidden", "train.weight_decay")
    auto = figures({key: chosen[key] for key in sizes})
    keys["eval.baselines"] = False
    best: tuple[dict[str, Any], dict[str, Any]] | None = None
    for k, changed in enumerate(SEARCH[:tries]):
        tried = PLAIN | changed if best is None or k < FIRST else best[1] | changed
        found = figures(tried)
        if best is None or found["valid_bpc"] < best[0]["valid_bpc"]:
            best = found, tried
    assert best is not None
    return auto, *best


def main(folder: str, only: str, tries: int) -> None:
    """Print a row for each text that is there."""
    print(f"{describe()}\n{'text':10} {'auto':>7} {'best':>7} {'ratio':>6} {'5-gram':>7}  what was best")
    for name in [only] if only else TEXTS:
        try:
            text, keys = source(name, Path(folder))
        except (OSError, StopIteration):
            print(f"{name:10} skipped: there is no {TEXTS[name]['data.path']} in {folder}", flush=True)
            continue
        auto, best, tried = compared(text, keys, tries)
        score, searched, ngram = auto["test_bpc"], best["test_bpc"], auto["baselines_bpc"]["5-gram"]
        said = " ".join(f"{key}={value}" for key, value in tried.items())
        print(
            f"{name:10} {score:7.4f} {searched:7.4f} {score / searched:6.3f} {ngram:7.4f}  {said}", flush=True
        )


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(given.get("folder", "."), given.get("only", ""), int(given.get("tries", len(SEARCH))))
