"""What `python -m charlstm limit` found, as one picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from charlstm.limits.capacity import Limit, grouped

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
Points = tuple[Sequence[float], Sequence[float]]
MOST_NAMED = 12  # curves that a legend can name

NEEDED = (
    'needs matplotlib: pip install "charlstm[plot]", then ask again with the same out: no trial is done twice'
)


def available() -> bool:
    """Whether pictures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(found: Sequence[Limit]) -> "Figure":
    """Bits per parameter of one model or more, each with at least one trial, against the text's length, and
    against whatever differs between them: hidden units, layers, cell."""
    # imported here: it takes half a second that a wrong request need not wait for
    from matplotlib.figure import Figure

    compared = [axis for axis in AXES if len({getattr(limit.shown.shape, axis) for limit in found}) > 1]
    count = 1 + len(compared)
    rows, columns = (2, 2) if count == 4 else (1, count)
    figure = Figure(figsize=((7 if count < 3 else 6) * columns, 5 * rows), dpi=120, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    _by_length(panels[0], found)
    for panel, axis in zip(panels[1:], compared, strict=True):
        _by(panel, axis, found)
    trials = [trial for limit in found for trial in limit.trials]
    values = [value for t in trials for value in (t.bits_per_parameter, t.soft_bits_per_parameter)]
    bits = [value for value in [*values, *PUBLISHED] if value > 0]
    for panel in panels:
        _finish(panel, min(bits) / 1.3, max(bits) * 1.3)
    return figure


def pixels(figure: "Figure") -> NDArray[np.uint8]:
    """A picture as red, green and blue `(height, width, 3)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def _by_length(panel: "Axes", found: Sequence[Limit]) -> None:
    for k, limit in enumerate(found):
        named = str(limit.shown.shape).replace("_", " ") if len(found) <= MOST_NAMED else None
        recalled = [trial for trial in limit.trials if trial.recalled]
        exact = [t.length for t in recalled], [t.bits_per_parameter for t in recalled]
        soft = [t.length for t in limit.trials], [t.soft_bits_per_parameter for t in limit.trials]
        _curves(panel, k, named, exact, soft)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.set(xlabel="characters of the text", title="Each text")


def _by(panel: "Axes", axis: str, found: Sequence[Limit]) -> None:
    """The limits against one of `AXES`, a curve for models that differ in nothing else."""

    def others(limit: Limit) -> str:
        shape = limit.shown.shape
        parts = {"cell": shape.cell, "layers": f"layers {shape.layers}", "hidden": f"hidden {shape.hidden}"}
        return ", ".join(part for name, part in parts.items() if name != axis)

    values = sorted({getattr(limit.shown.shape, axis) for limit in found})
    curves = grouped(found, others)
    for k, (name, group) in enumerate(curves.items()):
        group.sort(key=lambda limit: getattr(limit.shown.shape, axis))
        places = [values.index(getattr(limit.shown.shape, axis)) for limit in group]
        exact, soft = zip(*((g.bits_per_parameter, g.soft_bits_per_parameter) for g in group), strict=True)
        _curves(panel, k, name if len(curves) <= MOST_NAMED else None, (places, exact), (places, soft))
        least = [g.bits_per_parameter * min(g.by_seed.values()) / max(g.shown.length, 1) for g in group]
        panel.vlines(places, least, exact, color=f"C{k % 10}")  # from the worst seed to the best
    panel.set_xticks(range(len(values)), [str(value) for value in values])
    panel.margins(x=0.1)
    panel.set(xlabel=AXES[axis], title=f"Each model's limit, by {AXES[axis]}")


def _curves(panel: "Axes", k: int, name: str | None, exact: Points, soft: Points) -> None:
    panel.plot(*exact, "o-", color=f"C{k % 10}", label=name, markersize=5)
    panel.plot(*soft, "x--", color=f"C{k % 10}", linewidth=1, markersize=5)


def _finish(panel: "Axes", lowest: float, highest: float) -> None:
    """What all panels have: the published marks, the scale, the legend."""
    # first, for it may be that no curve has anything that logarithms can show
    panel.set_ylim(lowest, highest)
    panel.set_yscale("log", nonpositive="mask")
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if lowest <= tick <= highest]
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_ylabel("bits per parameter")
    for bits, name in PUBLISHED.items():
        panel.axhline(bits, color="0.6", linewidth=1, zorder=0)
        place = panel.get_yaxis_transform()
        panel.text(0.01, bits, name, color="0.4", fontsize=8, va="bottom", transform=place)
    panel.plot([], [], "o-", color="0.3", label="recalled exactly", markersize=5)
    panel.plot([], [], "x--", color="0.3", linewidth=1, label="soft capacity", markersize=5)
    panel.legend(fontsize=8, loc="lower right", ncols=2)
    panel.grid(axis="y", alpha=0.2)
