"""What `python -m charlstm limit` says and leaves: a table, a record, a picture, the next steps."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from charlstm import files
from charlstm.config.convert import values_of
from charlstm.config.tool_settings import LimitSettings
from charlstm.limits import capacity, plot
from charlstm.limits.capacity import Trial
from charlstm.runs.report import quoted, shown, write_result
from charlstm.training import machine

RECORD, TABLE, PICTURE = "limit.json", "limit.tsv", "limit.png"

# heading, width and format of each column for people
COLUMNS = {
    "cell": ("cell", 8, ""),
    "layers": ("layers", 6, "d"),
    "hidden": ("hidden", 6, "d"),
    "length": ("length", 9, ",d"),
    "seed": ("seed", 4, "d"),
    "parameters": ("parameters", 11, ",d"),
    "bits_per_parameter": ("bits/param.", 11, ".3f"),
    "soft_bits_per_parameter": ("soft", 6, ".3f"),
    "exposures": ("exposures", 9, ",d"),
    "seconds": ("seconds", 9, ",.1f"),
    "recalled": ("recalled", 8, ""),
    "weight_bits": ("bits/weight", 11, ""),
}


def header() -> str:
    return "  ".join(f"{name:>{width}}" for name, width, _ in COLUMNS.values())


def row(figures: Mapping[str, Any]) -> str:
    """A trial, or a model's limit, under the `header`."""
    values = {**figures, "recalled": "yes" if figures["recalled"] else "no"}
    values["weight_bits"] = figures["weight_bits"] or "-"
    return "  ".join(f"{values[key]:>{width}{form}}" for key, (_, width, form) in COLUMNS.items())


def save_record(out: Path, settings: LimitSettings, trials: Sequence[Trial], finished: bool = False) -> None:
    """Write all that is known to `limit.json`, for programs and a search that goes on. Raises OSError."""
    found = capacity.limits(trials)
    host = {"platform": platform.platform(), "cores": machine.available_cores()}
    record = {
        "finished": finished,
        "settings": recorded(settings),
        "alphabet": capacity.CHARACTERS[: settings.symbols],
        "machine": {**machine.versions(), **host},
        "limits": [limit.figures() for limit in found],
        "growth": {cell: asdict(growth) for cell, growth in capacity.growth(found).items()},
        "trials": [trial.figures() for trial in trials],
    }
    write_result(out, record, RECORD)


def recorded(settings: LimitSettings) -> dict[str, Any]:
    """What a search depends on, by its keys, as JSON knows it: all but `out`."""
    return {key: value for key, value in values_of(settings).items() if key != "out"}


def save_pictures(out: Path, trials: Sequence[Trial]) -> None:
    """Write `limit.tsv`, the same for TensorBoard and, where it can be drawn, `limit.png`. Raises OSError."""
    rows = [trial.figures() for trial in trials]
    with files.whole(out / TABLE) as file:
        for cells in [list(rows[0]), *(list(figures.values()) for figures in rows)]:
            file.write("\t".join(map(str, cells)).encode() + b"\n")
    figure = plot.draw(capacity.limits(trials)) if plot.available() else None
    if figure is not None:
        with files.whole(out / PICTURE) as file:
            figure.savefig(file, format="png")
    _save_events(out, trials, figure)


def _save_events(out: Path, trials: Sequence[Trial], figure: Any) -> None:
    """Curves against the text's length, one for each model, and of the limits against hidden units."""
    from torch.utils.tensorboard import SummaryWriter

    # what an earlier, interrupted search drew here is dropped
    with SummaryWriter(out, purge_step=0) as writer:
        # all models in one chart
        charts = ("bits_per_parameter", "soft_bits_per_parameter", "limit_by_hidden", "soft_limit_by_hidden")
        writer.add_custom_scalars({"limit": {name: ["Multiline", [f"^{name}/"]] for name in charts}})
        for limit in capacity.limits(trials):
            shape = limit.shown.shape
            for trial in limit.trials:
                exact, soft, length = trial.bits_per_parameter, trial.soft_bits_per_parameter, trial.length
                writer.add_scalar(f"bits_per_parameter/{shape}", exact, length)
                writer.add_scalar(f"soft_bits_per_parameter/{shape}", soft, length)
            name = f"{shape.cell}_{shape.layers}"
            writer.add_scalar(f"limit_by_hidden/{name}", limit.shown.bits_per_parameter, shape.hidden)
            writer.add_scalar(f"soft_limit_by_hidden/{name}", limit.soft_bits_per_parameter, shape.hidden)
        if figure is not None:
            writer.add_figure("limit", figure, close=False)


def conclusion(out: Path, trials: Sequence[Trial], program: Callable[[str], str]) -> Iterator[str]:
    """The table of the limits, what they say together, what to do next; `program` says how that is typed."""
    found = capacity.limits(trials)
    yield from ["", "The longest text of each model; soft: the most over all its texts.", "", header()]
    yield from (row(limit.figures()) for limit in found)
    yield ""
    for limit in found:
        name, failed = str(limit.shown.shape), limit.failures
        each = [length for length in limit.by_seed.values() if length]  # of all, unless it was stopped
        if len(each) > 1:
            yield f"{name}: the longest text of each of {len(each)} seeds: {min(each):,} to {max(each):,}."
        if not limit.is_monotone:
            yield (
                f"{name}: not monotone: {failed[0].length:,} characters were recalled with no seed, "
                f"{limit.shown.length:,} were; there is no sharp limit between them."
            )
    for cell, growth in capacity.growth(found).items():
        yield (
            f"{cell}: each parameter more brings {growth.free:.3f} bits more by heart (least squares over "
            f"{growth.models} models; of a line through the origin, {growth.through_origin:.3f})."
        )
    yield f"picture     {shown(out / PICTURE) if plot.available() else plot.NEEDED}"
    yield f"curves      {program('tensorboard')} --logdir {quoted(shown(out))}"
    longest = max((limit.longest for limit in found if limit.longest), key=lambda t: t.length, default=None)
    if longest is not None:
        yield f"write       {program('sample')} ckpt={quoted(shown(Path(longest.directory)))}"
