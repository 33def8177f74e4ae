"""What `python -m charlstm.limit` found, as one picture."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from charlstm.capacity import Limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED = {
    5.0: "5: RNNs (Collins et al. 2016)",
    3.6: "3.6: transformers (Morris et al. 2025)",
    2.0: "2: facts in transformers (Allen-Zhu, Li 2024)",
}
"""Bits per parameter that others measured."""

AXES = {"hidden": "hidden units", "layers": "layers", "cell": "cell"}
MOST_NAMED = 12  # curves that a legend can name


def draw(found: Sequence[Limit]) -> "Figure":
    """Bits per parameter against the text's length, and against whatever differs between the models: hidden
    units, layers, cell.

    Args:
        found: one model or more, each with at least one trial.
    """
    # imported here: it takes half a second that a wrong request need not wait for
    from matplotlib.figure import Figure

    compared = [axis for axis in AXES if len({getattr(limit.shown.shape, axis) for limit in found}) > 1]
    columns = min(1 + len(compared), 2)
    rows = -(-(1 + len(compared)) // columns)
    figure = Figure(figsize=(7.5 * columns, 5 * rows), dpi=120, layout="constrained")
    panels = [figure.add_subplot(rows, columns, 1 + k) for k in range(1 + len(compared))]
    _by_length(panels[0], found)
    for panel, axis in zip(panels[1:], compared, strict=True):
        _by(panel, axis, found)
    top = max([*PUBLISHED, *(limit.soft_bits_per_parameter for limit in found)])
    for panel in panels:
        _finish(panel, top)
    return figure


def pixels(figure: "Figure") -> NDArray[np.uint8]:
    """A picture as red, green and blue `(height, width, 3)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def _by_length(panel: "Axes", found: Sequence[Limit]) -> None:
    for k, limit in enumerate(found):
        lengths = [trial.length for trial in limit.trials]
        soft = [trial.soft_bits_per_parameter for trial in limit.trials]
        shape = limit.shown.shape
        name = f"{shape.cell}, {shape.layers} x {shape.hidden}" if len(found) <= MOST_NAMED else None
        (line,) = panel.plot(lengths, soft, "--", color=f"C{k % 10}", linewidth=1)
        recalled = [trial for trial in limit.trials if trial.recalled]
        failed = [trial for trial in limit.trials if not trial.recalled]
        panel.plot(
            [t.length for t in recalled],
            [t.bits_per_parameter for t in recalled],
            "o-",
            color=line.get_color(),
            label=name,
        )
        panel.plot(
            [t.length for t in failed],
            [t.soft_bits_per_parameter for t in failed],
            "x",
            color=line.get_color(),
        )
    panel.set(xscale="log", xlabel="characters of the text", title="Each trial")


def _by(panel: "Axes", axis: str, found: Sequence[Limit]) -> None:
    """The limits against one of `AXES`, a curve for models that differ in nothing else."""
    values = sorted({getattr(limit.shown.shape, axis) for limit in found})
    curves = list(_groups(axis, found))
    for k, (name, group) in enumerate(curves):
        group.sort(key=lambda limit: getattr(limit.shown.shape, axis))
        places = [values.index(getattr(limit.shown.shape, axis)) for limit in group]
        named = name if len(curves) <= MOST_NAMED else None
        color = f"C{k % 10}"
        panel.plot(places, [g.bits_per_parameter for g in group], "o-", color=color, label=named)
        panel.plot(places, [g.soft_bits_per_parameter for g in group], "x--", color=color, linewidth=1)
    panel.set_xticks(range(len(values)), [str(value) for value in values])
    panel.margins(x=0.1)
    panel.set(xlabel=AXES[axis], title=f"Each model, by {AXES[axis]}")


def _groups(axis: str, found: Sequence[Limit]) -> Iterator[tuple[str, list[Limit]]]:
    """The models by what they are but for `axis`, with its name."""
    groups: dict[str, list[Limit]] = {}
    for limit in found:
        shape = limit.shown.shape
        parts = {"cell": shape.cell, "layers": f"{shape.layers} layers", "hidden": f"{shape.hidden} units"}
        del parts[axis]
        groups.setdefault(", ".join(parts.values()), []).append(limit)
    yield from groups.items()


def _finish(panel: "Axes", top: float) -> None:
    """What all panels have: the published marks, the range, the legend."""
    for bits, name in PUBLISHED.items():
        panel.axhline(bits, color="0.6", linewidth=1, zorder=0)
        panel.text(
            0.01, bits, name, color="0.4", fontsize=8, va="bottom", transform=panel.get_yaxis_transform()
        )
    panel.set_ylim(0, top * 1.08)
    panel.set_ylabel("bits per parameter")
    panel.plot([], [], "o-", color="0.3", label="exact recall")
    panel.plot([], [], "x--", color="0.3", linewidth=1, label="soft capacity")
    panel.legend(fontsize=8, loc="upper right")
    panel.grid(axis="y", alpha=0.2)
