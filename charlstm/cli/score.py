"""Say how well a trained model predicts a text, in bits per character.

    python -m charlstm score ckpt=outputs/... path=book.txt              of the whole text
    python -m charlstm score ckpt=runs/a,runs/b text="how long" per=word  of two models, word by word
    python -m charlstm score ckpt=outputs/... path=- per=line sort=true   the worst lines first

Each file is read from the start token with a zero state, and every character is scored once, given all that
come before it. The end token is not counted. All keys, with their defaults:
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.cli import command_line, terminal
from charlstm.config.tool_settings import ScoreSettings
from charlstm.progress_bar import progress_bar
from charlstm.scoring import surprisal
from charlstm.scoring.report import FORMATS
from charlstm.text import decoding, source


def score(settings: ScoreSettings) -> Iterator[str]:
    """The answer in pieces; raises ValueError for a wrong request."""
    names = checkpoint_names(settings.ckpt or "")
    if not names:
        raise ValueError("ckpt: missing; name a checkpoint or run directory, such as ckpt=outputs/...")
    if settings.sort and settings.per is None:
        raise ValueError("sort = true: there are no rows to sort; add per=line, or char, word or file")
    files = read_files(settings.text, settings.path, settings.encoding)
    scored = _measure(names, files)
    totals = [surprisal.total(name, of_files) for name, of_files in zip(names, scored, strict=True)]
    rows: Iterable[surprisal.Row] = surprisal.rows(files, scored, settings.per) if settings.per else []
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


def read_files(text: str | None, path: str | None, encoding: str) -> dict[str, str]:
    """The texts of a request by name: `text` itself, a file, a folder's *.txt files, `-` standard input.

    Raises:
        ValueError: there is none, one is empty, cannot be read or is not text in `encoding`.
    """
    if (text is None) == (not path):
        raise ValueError(
            "path: give it or text, one of the two: path=FILE, path=FOLDER (its .txt files), "
            "path=- (standard input), or text=..."
        )
    if text is not None:
        decoding.check_unicode(text, "text", "path")
        return {"text": _not_empty(text, "text")}
    assert path is not None
    paths = {path: path if path == "-" else str(source.locate(path, "path"))}
    if path != "-" and Path(paths[path]).is_dir():
        paths = {str(Path(path, file.name)): str(file) for file in sorted(Path(paths[path]).glob("*.txt"))}
        if not paths:
            raise ValueError(f"path = {path}: a folder without .txt files; name a file")
    files = {}
    for name, found in paths.items():
        blob = source.contents(found, f"path = {name}")
        files[name] = _not_empty(
            decoding.decoded(blob, f"path = {name}", encoding, "encoding"), f"path = {name}"
        )
    return files


def _not_empty(text: str, name: str) -> str:
    if not text:
        raise ValueError(f"{name}: the text is empty; it needs at least one character")
    return text


def _measure(names: list[str], files: Mapping[str, str]) -> list[dict[str, NDArray[np.float64]]]:
    """For each checkpoint the bits of the characters of each file."""
    models = []
    for name in names:  # all that can be wrong is, before the work begins
        trained = checkpoint.load(Path(name))
        try:
            ids = {file: trained.vocabulary.encode(text, source=file) for file, text in files.items()}
        except ValueError as error:
            raise ValueError(f"{error} of {name}") from None
        models.append((name, trained.model(), trained.vocabulary, ids))
    scored = []
    with progress_bar(sum(len(i) for *_, ids in models for i in ids.values())) as bar:
        for name, model, vocabulary, ids in models:
            try:
                bits = {f: surprisal.bits(model, vocabulary, i, advance=bar.update) for f, i in ids.items()}
                if vocabulary.unit == "byte":
                    bits = {file: surprisal.of_characters(b, files[file]) for file, b in bits.items()}
                scored.append(bits)
            except FloatingPointError as error:
                raise ValueError(f"{name}: cannot score this text: {error}") from None
    return scored


def main() -> None:
    """Score as the command line asks."""
    with terminal.output():
        for piece in score(command_line.ask("score", ScoreSettings, __doc__ or "")):
            print(piece, end="")
