"""Say how well a trained model predicts a text, in bits per character and per byte of UTF-8.

    charlstm score ckpt=outputs/... path=book.txt                of the whole text
    charlstm score ckpt=runs/a,runs/b text="how long" per=word   of two models, word by word
    charlstm score ckpt=outputs/... path=- per=line sort=true    the worst lines first

Each file is read from the start token with a zero state, and every character is scored once, given all that
come before it. The end token is not counted. A model of records reads each of them between the start and the
end token, as in its training. All keys, with their defaults:
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.cli import command_line, terminal
from charlstm.config.settings import Records
from charlstm.config.tool_settings import ScoreSettings
from charlstm.progress_bar import progress_bar
from charlstm.scoring import surprisal
from charlstm.scoring.surprisal import Row, Total
from charlstm.text import decoding, source
from charlstm.text.records import places
from charlstm.text.vocabulary import Ids, Vocabulary

FIGURES = ("bits_per_char", "bits_per_byte", "bits")
_json = partial(json.dumps, ensure_ascii=False, allow_nan=False)


def score(settings: ScoreSettings) -> Iterator[str]:
    """The answer in pieces; raises ValueError for a wrong request."""
    names = checkpoint_names(settings.ckpt or "")
    if not names:
        raise ValueError("ckpt: missing; name a checkpoint or run directory, such as ckpt=outputs/...")
    if settings.sort and settings.per is None:
        raise ValueError("sort = true: there are no rows to sort; add per=line, or char, word or file")
    models = [(name, checkpoint.load(Path(name))) for name in names]
    are_of_bytes = all(trained.vocabulary.unit == "byte" for _, trained in models)
    files = read_files(settings.text, settings.path, settings.encoding, are_of_bytes)
    if len({trained.records for _, trained in models}) > 1 and settings.records is None:
        raise ValueError(
            f"ckpt = {settings.ckpt}: their records are not of one kind; say with records=... how all read"
        )
    scored = _measure(models, files, settings.records or models[0][1].records or "none")
    totals = [surprisal.total(name, files, bits) for name, bits in zip(names, scored, strict=True)]
    rows: Iterable[Row] = surprisal.rows(files, scored, settings.per) if settings.per else []
    if settings.sort:
        rows = sorted(rows, key=lambda row: -row.bits_per_char[0])
    return FORMATS[settings.format](settings.per, totals, rows)


def checkpoint_names(ckpt: str) -> list[str]:
    """The paths that `ckpt` lists between commas; a path that exists as it stands is one, commas or not."""
    try:
        is_one = ckpt != "" and Path(ckpt).exists()
    except OSError:  # such as too long for one name
        is_one = False
    return [ckpt] if is_one else [name for name in ckpt.split(",") if name]


def read_files(text: str | None, path: str | None, encoding: str, anything: bool) -> dict[str, str]:
    """The texts of a request by name: `text` itself, a file, a folder's *.txt files, `-` standard input; with
    `anything` a file need be no text: a byte that is no UTF-8 is a lone surrogate. Raises ValueError if there
    is none, one is empty, cannot be read or is not text in `encoding`."""
    if (text is None) == (not path):
        raise ValueError(
            "path: give it or text, one of the two: path=FILE, path=FOLDER (its .txt files), "
            "path=- (standard input), or text=..."
        )
    if text is not None:
        decoding.check_unicode(text, "text", "path")
        files = {"text": text}
    else:
        assert path is not None
        files = {}
        for name, found in _paths(path).items():
            blob = source.contents(found, f"path = {name}")
            if anything and encoding == "utf-8":
                files[name] = blob.decode("utf-8", "surrogateescape")
            else:
                files[name] = decoding.decoded(blob, f"path = {name}", encoding, "encoding")
    for name, content in files.items():
        if not content:
            shown = name if path is None else f"path = {name}"
            raise ValueError(f"{shown}: the text is empty; it needs at least one character")
    return files


def _paths(path: str) -> dict[str, str]:
    """The paths of the files that `path` names, by the names that rows give them."""
    if path == "-":
        return {path: path}
    found = source.locate(path, "path")
    if not found.is_dir():
        return {path: str(found)}
    paths = {str(Path(path, file.name)): str(file) for file in sorted(found.glob("*.txt"))}
    if not paths:
        raise ValueError(f"path = {path}: a folder without .txt files; name a file")
    return paths


def _measure(
    models: Sequence[tuple[str, checkpoint.Checkpoint]], files: Mapping[str, str], records: Records
) -> list[dict[str, NDArray[np.float64]]]:
    """For each checkpoint the bits of the characters of each file; NaN of what separates records."""
    found = {file: places(text, records) for file, text in files.items()}
    for file, slices in found.items():
        if not slices:
            raise ValueError(f"{file}: there are only empty records; it needs at least one character")
    read = []
    for name, trained in models:  # all that can be wrong is, before the work begins
        try:
            read.append({f: _ids(trained.vocabulary, f, files[f], found[f]) for f in files})
        except ValueError as error:
            raise ValueError(f"{error} of {name}") from None
    scored = []
    total = sum(len(ids) for of_files in read for records_of in of_files.values() for ids in records_of)
    with progress_bar(total, "scoring") as bar:
        for (name, trained), of_files in zip(models, read, strict=True):
            model, bits = trained.model(), {}
            for file, ids in of_files.items():
                try:
                    of_records = surprisal.of_records(model, trained.vocabulary, ids, bar.update)
                except FloatingPointError as error:
                    raise ValueError(f"{name}: cannot score this text: {error}") from None
                if trained.vocabulary.unit == "byte":
                    texts = (files[file][place] for place in found[file])
                    of_records = list(map(surprisal.of_characters, of_records, texts))
                bits[file] = np.full(len(files[file]), np.nan)
                for place, here in zip(found[file], of_records, strict=True):
                    bits[file][place] = here
            scored.append(bits)
    return scored


def _ids(vocabulary: Vocabulary, file: str, text: str, found: Sequence[slice]) -> list[Ids]:
    if len(found) == 1:
        return [vocabulary.encode(text[found[0]], source=file)]
    return [vocabulary.encode(text[place], f"{file}, record {n}") for n, place in enumerate(found, 1)]


def as_text(per: str | None, totals: Sequence[Total], rows: Iterable[Row]) -> Iterator[str]:
    """The rows, if there are any, right-aligned under a header; then a line for each checkpoint."""
    if per is not None:
        header = _header(per, totals)
        widths = [max(10, len(name)) for name in header[:-1]]
        shown = ([*(f"{x:.4f}" for x in _figures(row)), *_places(row, per, repr)] for row in rows)
        for cells in chain([header], shown):
            yield "  ".join([*map(str.rjust, cells, widths), cells[-1]]) + "\n"
        yield "\n"
    for total in totals:
        bits = f"{total.bits_per_char:.4f} bits per character   {total.bits_per_byte:.4f} per byte"
        yield f"{bits}   {total.characters:,} characters   {total.checkpoint}\n"


def as_tsv(per: str | None, totals: Sequence[Total], rows: Iterable[Row]) -> Iterator[str]:
    """A header and the rows, or the checkpoints if there are no rows; numbers in full precision."""
    if per is None:
        yield _tabbed([*FIGURES, "characters", "checkpoint"])
        for total in totals:
            yield _tabbed([*_figures(total), total.characters, terminal.escaped(total.checkpoint)])
        return
    yield _tabbed(map(terminal.escaped, _header(per, totals)))
    for row in rows:
        yield _tabbed([*_figures(row), *_places(row, per)])
    if per == "file":
        figures = [figure for total in totals for figure in _figures(total)]
        yield _tabbed([*figures, totals[0].characters, "total"])


def as_json(per: str | None, totals: Sequence[Total], rows: Iterable[Row]) -> Iterator[str]:
    """One object; each row is an object on a line of its own."""
    shown = [asdict(total) | dict(zip(FIGURES, _figures(total), strict=True)) for total in totals]
    yield f'{{"per": {_json(per)},\n"totals": {_json(shown)},\n"rows": ['
    for n, row in enumerate(rows):
        piece = {} if per == "file" else {"line": row.line, "position": row.position, "text": row.text}
        figures = {"characters": len(row.text)} | {name: getattr(row, name) for name in FIGURES}
        yield ("," if n else "") + "\n" + _json({"file": row.file, **piece, **figures})
    yield "]}\n"


FORMATS = {"text": as_text, "tsv": as_tsv, "json": as_json}


def _header(per: str, totals: Sequence[Total]) -> list[str]:
    suffixes = [f":{total.checkpoint}" for total in totals] if len(totals) > 1 else [""]
    figures = [f"{figure}{suffix}" for suffix in suffixes for figure in FIGURES]
    return [*figures, "characters", *(["file"] if per == "file" else ["line", "position", "file", "text"])]


def _figures(costs: Row | Total) -> list[float]:
    """Of a row, those of one checkpoint after the other."""
    return np.stack([getattr(costs, name) for name in FIGURES], axis=-1).ravel().tolist()


def _places(row: Row, per: str, shown: Callable[[str], str] = terminal.escaped) -> list[str]:
    size, file = str(len(row.text)), terminal.escaped(row.file)
    return [size, file] if per == "file" else [size, str(row.line), str(row.position), file, shown(row.text)]


def _tabbed(cells: Iterable[object]) -> str:
    return "\t".join(map(str, cells)) + "\n"


def main() -> None:
    with terminal.output():
        for piece in score(command_line.ask("score", ScoreSettings, terminal.as_started(__doc__))):
            terminal.show(piece)
