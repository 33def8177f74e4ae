"""Look inside a model while it reads a text: what surprises it, and which of its units follow what.

    charlstm look ckpt=outputs/... text="how long"         the text by its surprise
    charlstm look ckpt=outputs/... unit=12 gate=forget     by a gate of a unit, while it reads its own text
    charlstm look ckpt=outputs/... at=40                   by what the guess of its character 40 depends on

On a terminal the text is coloured, orange for what is large, blue for what is negative; elsewhere, and with
NO_COLOR, it is a table. Below stand the units that follow what a reader does. All keys, with their defaults:
"""

import os
from collections.abc import Iterator

import numpy as np

from charlstm import api
from charlstm.cli import command_line, terminal
from charlstm.cli.score import read_files
from charlstm.config.tool_settings import LookSettings, PageSettings
from charlstm.scoring import units

NAMES = {"cell": "c", "hidden": "h", "input": "i", "forget": "f", "output": "o", "reset": "r", "update": "z"}
WARM, COOL = (0, 230, 222, 215, 208, 202), (0, 195, 153, 111, 75, 69)  # of a terminal's 256 colours; 0: none


def look(settings: LookSettings, is_coloured: bool) -> Iterator[str]:
    """The answer in pieces; raises ValueError for a wrong request."""
    if not settings.ckpt:
        raise ValueError("ckpt: missing; name a checkpoint or run directory, such as ckpt=outputs/...")
    model = api.load(settings.ckpt)
    config, text = model.config, excerpt(settings, model)
    values, name, largest = model.bits(text), "bits", 8.0
    terms = units.by_character(model.trace(text), text)
    if settings.unit is not None:
        name = settings.gate or ("cell" if "c" in terms else "hidden")
        if (letter := NAMES.get(name, "g" if "c" in terms else "n")) not in terms:
            raise ValueError(f"gate = {name}: an {config.cell} has none")
        if settings.unit >= config.width or settings.layer >= config.layers:
            asked = f"unit = {settings.unit}, layer = {settings.layer}"
            raise ValueError(f"{asked}: of {config.layers} x {config.hidden}, counted from 0, there is none")
        values = terms[letter][:, settings.layer, settings.unit].astype(np.float64)
        largest = float(np.abs(values).max()) or 1.0
    if settings.at is not None:
        if settings.unit is not None:
            raise ValueError("at, unit: the text is coloured by one of them; leave the other out")
        name, values = "gradient", np.append(model.connectivity(text, settings.at), 0.0)
        text, largest = text[: settings.at + 1], float(values.max()) or 1.0
    if not is_coloured:
        yield f"position  {name:>8}  text\n"
    for k, (character, value) in enumerate(zip(text, values.tolist(), strict=True)):
        row = f"{k:8}  {value:8.3f}  {terminal.escaped(character)}\n"
        yield _coloured(character, value / largest) if is_coloured else row
    if settings.at is not None:
        return
    yield ("\n\n" if is_coloured else "\n") + "correlation  layer  unit  state   follows\n"
    for one in units.telling(config.cell, terms, text):
        yield f"{one.correlation:11.2f}  {one.layer:5}  {one.unit:4}  {one.state:6}  {one.feature}\n"


def excerpt(settings: LookSettings | PageSettings, model: api.Model) -> str:
    """The text that is asked for, else what the model writes; ValueError if it cannot be had."""
    if settings.text is None and settings.path is None:
        return model.sample(length=settings.length, seed=0)
    texts = read_files(settings.text, settings.path, settings.encoding, model.vocabulary.unit == "byte")
    return next(iter(texts.values()))[: settings.length]


def _coloured(character: str, share: float) -> str:
    shade = (WARM if share > 0 else COOL)[min(5, round(5 * abs(share)))]
    shown = "↵" if character == "\n" else terminal.visible(character)
    coloured = f"\x1b[48;5;{shade}m\x1b[38;5;16m{shown}\x1b[0m" if shade else shown
    return f"{coloured}\n" if character == "\n" else coloured


def main() -> None:
    with terminal.output() as is_watched:
        settings = command_line.ask("look", LookSettings, terminal.as_started(__doc__))
        for piece in look(settings, is_watched and not os.environ.get("NO_COLOR")):
            print(piece, end="")
