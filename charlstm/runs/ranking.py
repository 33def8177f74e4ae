"""The runs of a sweep beside each other, best first."""

import json
import math
from pathlib import Path

from charlstm import files
from charlstm.runs.report import shown
from charlstm.scoring.report import escaped

FINAL = {
    "memorize": {"free_run": -1, "epochs": 1},
    "lm": {"test_bpc": 1, "valid_bpc": 1},
    "copy": {"longest": -1, "bits_per_hidden_unit": -1},
}
"""The figures of `result.json` by which the runs of each task are ranked; 1: the smaller the better."""


class Sweep:
    """The runs that have ended: for each what it is ranked by, and what is shown of it, by name."""

    def __init__(self) -> None:
        self._ended: list[tuple[list[float], dict[str, str]]] = []

    def add(self, values: str, directory: Path) -> str:
        """Take in what a run with these values left in its directory; returns a line about it."""
        try:
            result = json.loads((directory / "result.json").read_text("utf-8"))
        except (OSError, ValueError):
            result = {}
        signs = FINAL.get(result.get("task"), {})
        found = {name: result[name] for name in signs if result.get(name) is not None}
        row = {name: f"{value:.5g}" for name, value in found.items()}
        rank = [signs[name] * value for name, value in found.items()] or [math.inf]
        self._ended.append((rank, row | {"values": values, "directory": str(shown(directory))}))
        return f"{values}: {', '.join(map(' '.join, row.items())) or 'no result'}"

    def lines(self, folder: Path) -> list[str]:
        """A table with a row for each run, if any, which is left in `summary.tsv`, too. Raises OSError."""
        if not self._ended:
            return []
        rows = [row for _, row in sorted(self._ended, key=lambda one: one[0])]
        names = sorted(
            dict.fromkeys(name for row in rows for name in row), key=["values", "directory"].__contains__
        )
        table = [names, *([row.get(name, "-") for name in names] for row in rows)]
        with files.whole(folder / "summary.tsv") as file:
            for cells in table:
                file.write("\t".join(map(escaped, cells)).encode(errors="backslashreplace") + b"\n")
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
