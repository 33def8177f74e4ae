"""List the runs that were saved, with what came of them, the newest last.

    charlstm runs              those in outputs/, multirun/ and runs/
    charlstm runs path=runs    those in another folder, at any depth

The last one is what ckpt=latest and resume=latest name. All keys, with their defaults:
"""

import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from charlstm import checkpoint
from charlstm.cli import command_line, terminal
from charlstm.config.tool_settings import RunsSettings
from charlstm.runs.directory import RUNS, owned, saved_in

REACHED = {  # figures by their names, the most telling first
    "recalled": "exact",
    "free_run": "{:,} characters right",
    "longest": "copies {:,} symbols",
    "test_bpc": "test {:.3f} bits/char",
    "valid_bpc": "valid {:.3f} bits/char",
    "bits_per_char": "train {:.3f} bits/char",
    "bits_per_byte": "train {:.3f} bits/byte",
    "loss": "loss {:.4f}",
}


def main() -> None:
    with terminal.output():
        settings = command_line.ask("runs", RunsSettings, terminal.as_started(__doc__))
        folders = list(map(Path, settings.path.split(","))) if settings.path else RUNS
        for run in saved_in(folders, f"path = {settings.path or 'null'}"):
            terminal.show(described(run), flush=True)


def described(run: Path) -> str:
    """What is in a run directory, in two lines."""
    last, result = run / checkpoint.LAST, run / "result.json"
    state = last if last.exists() else run / checkpoint.BEST
    head = f"{run}  {datetime.fromtimestamp(state.stat().st_mtime):%Y-%m-%d %H:%M}"
    try:
        trained = checkpoint.load(state)
        figures = trained.figures | (json.loads(result.read_bytes()) if result.exists() else {})
    except ValueError as error:
        return f"{head}\n    {error}\n"
    reached = [shown.format(figures[key]) for key, shown in REACHED.items() if figures.get(key)]
    data = trained.training.settings.data if trained.training else None
    text = "" if data is None else repr(data.text) if data.text is not None else Path(data.path or "").name
    model, size = trained.config, sum(weight.size for weight in trained.weights.values())
    network = f"{model.cell} of {model.layers} x {model.hidden}, {size:,} parameters"
    origin = trained.provenance.get("init")
    what = [trained.task, f"{text:.20}", network, origin and f"from {origin:.60}"]
    what.append("done" if result.exists() else "running" if _is_owned(run) else "resumable")
    return f"{'  '.join([head, *reached[:1]])}\n    {', '.join(filter(None, what))}\n"


def _is_owned(run: Path) -> bool:
    with suppress(OSError):  # it cannot be read
        try:
            with owned(run):
                pass
        except ValueError:
            return True
    return False
