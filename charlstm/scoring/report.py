"""Scores -> what `python -m charlstm score` prints: a table for people, TSV, or JSON, piece by piece."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np

from charlstm.scoring.surprisal import Row, Total

FIGURES = ("bits_per_char", "bits_per_byte", "bits")


def as_text(per: str | None, totals: Sequence[Total], rows: Iterable[Row]) -> Iterator[str]:
    """The rows, if there are any, right-aligned under a header; then a line for each checkpoint."""
    if per is not None:
        *header, last = _header(per, totals)
        widths = [max(10, len(name)) for name in header]
        yield _aligned([*header, last], widths)
        for row in rows:
            figures = [f"{figure:.4f}" for figure in _figures(row)]
            *places, last = _places(row, per)
            last = repr(row.text) if per != "file" else last
            yield _aligned([*figures, *places, last], widths)
        yield "\n"
    for total in totals:
        bits = f"{total.bits_per_char:.4f} bits per character   {total.bits_per_byte:.4f} per byte"
        yield f"{bits}   {total.characters:,} characters   {total.checkpoint}\n"


def as_tsv(per: str | None, totals: Sequence[Total], rows: Iterable[Row]) -> Iterator[str]:
    """A header and the rows, or the checkpoints if there are no rows; numbers in full precision."""
    if per is None:
        yield _tabbed([*FIGURES, "characters", "checkpoint"])
        for total in totals:
            yield _tabbed([*_figures(total), total.characters, escaped(total.checkpoint)])
        return
    yield _tabbed([escaped(name) for name in _header(per, totals)])
    for row in rows:
        yield _tabbed([*_figures(row), *_places(row, per)])
    if per == "file":
        figures = [figure for total in totals for figure in _figures(total)]
        yield _tabbed([*figures, totals[0].characters, "total"])


def as_json(per: str | None, totals: Sequence[Total], rows: Iterable[Row]) -> Iterator[str]:
    """One object; each row is an object on a line of its own."""
    shown = [asdict(total) | dict(zip(FIGURES, _figures(total), strict=True)) for total in totals]
    yield f'{{"per": {_json(per)},\n"totals": {_json(shown)},\n"rows": ['
    comma = "\n"
    for row in rows:
        piece = {} if per == "file" else {"line": row.line, "position": row.position, "text": row.text}
        figures = {"characters": len(row.text)} | {name: getattr(row, name) for name in FIGURES}
        yield comma + _json({"file": row.file, **piece, **figures})
        comma = ",\n"
    yield "]}\n"


FORMATS = {"text": as_text, "tsv": as_tsv, "json": as_json}


def escaped(text: str) -> str:
    """The text with backslashes, and all that cannot be printed, as in a Python string: `\\t`, `\\n`."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in text)


def _header(per: str, totals: Sequence[Total]) -> list[str]:
    suffixes = [f":{total.checkpoint}" for total in totals] if len(totals) > 1 else [""]
    figures = [f"{figure}{suffix}" for suffix in suffixes for figure in FIGURES]
    return [*figures, "characters", *(["file"] if per == "file" else ["line", "position", "file", "text"])]


def _figures(costs: Row | Total) -> list[float]:
    """Of a row, those of one checkpoint after the other."""
    return np.stack([getattr(costs, name) for name in FIGURES], axis=-1).ravel().tolist()


def _places(row: Row, per: str) -> list[str]:
    place = [] if per == "file" else [str(row.line), str(row.position)]
    return [str(len(row.text)), *place, escaped(row.file), *([] if per == "file" else [escaped(row.text)])]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join([*map(str.rjust, cells, widths), cells[-1]]) + "\n"


def _tabbed(cells: Iterable[object]) -> str:
    return "\t".join(map(str, cells)) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
