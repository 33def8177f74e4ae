"""What `python -m charlstm limit` found, as one picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from charlstm.limits.capacity import Limit, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED = {  # bits per parameter that others measured
    5.0: "5: RNNs\n(Collins et al. 2016)",
    3.6: "3.6: transformers\n(Morris et al. 2025)",
    2.0: "2: facts in transformers\n(Allen-Zhu, Li 2024)",
}

AXES = {"hidden": "hidden units", "layers": "layers", "cell": "cell"}
Points = tuple[Sequence[float], Sequence[float]]
BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
MARKS = "●─ recalled exactly, ×┄ soft capacity"

NEEDED = (
    'needs matplotlib: pip install "charlstm[plot]", then ask again with the same out: no trial is done twice'
)


def available() -> bool:
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
    # 800 pixels wide, as pages show it
    figure = Figure(figsize=(8, 3.6 * (1 + len(compared))), dpi=100, layout="constrained")
    panels = figure.subplots(1 + len(compared), squeeze=False).ravel()
    _by_length(panels[0], found)
    for panel, axis in zip(panels[1:], compared, strict=True):
        _by(panel, axis, found, [other for other in compared if other != axis])
    drawn = [(t.bits_per_parameter, t.soft_bits_per_parameter) for limit in found for t in limit.trials]
    bits = [value for value in [*sum(drawn, ()), *PUBLISHED] if value > 0]
    for panel in panels:
        _finish(panel, min(bits) / 1.3, max(bits) * 1.3)
        _name(panel, above=panel is panels[0])
    return figure


def _by_length(panel: "Axes", found: Sequence[Limit]) -> None:
    for k, limit in enumerate(found):
        name = str(limit.shown.shape).replace("_", " ").replace("x", " x ")
        recalled = [trial for trial in limit.trials if trial.recalled]
        exact = [t.length for t in recalled], [t.bits_per_parameter for t in recalled]
        soft = [t.length for t in limit.trials], [t.soft_bits_per_parameter for t in limit.trials]
        _curves(panel, k, name, exact, soft)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.set(xlabel="characters of the text", title=f"Each text: {MARKS}")


def _by(panel: "Axes", axis: str, found: Sequence[Limit], others: Sequence[str]) -> None:
    """The limits against one of `AXES`, a curve for models that do not differ in the others."""
    values = sorted({getattr(limit.shown.shape, axis) for limit in found})
    curves = grouped(found, lambda limit: ", ".join(f"{o} {getattr(limit.shown.shape, o)}" for o in others))
    for k, (name, group) in enumerate(curves.items()):
        group.sort(key=lambda limit: getattr(limit.shown.shape, axis))
        places = [values.index(getattr(limit.shown.shape, axis)) for limit in group]
        exact = [limit.shown.bits_per_parameter for limit in group]
        _curves(panel, k, name, (places, exact), (places, [g.soft_bits_per_parameter for g in group]))
        least = [g.shown.bits_per_parameter * min(g.by_seed.values()) / g.shown.length for g in group]
        panel.vlines(places, least, exact, color=f"C{k % 10}")  # from the worst seed to the best
    panel.set_xticks(range(len(values)), [str(value) for value in values])
    panel.set(xlabel=AXES[axis], title=f"Each model's limit, by {AXES[axis]}: {MARKS}", xmargin=0.3)


def _curves(panel: "Axes", k: int, name: str, exact: Points, soft: Points) -> None:
    panel.plot(*exact, "o-", color=f"C{k % 10}", label=name, markersize=5)
    panel.plot(*soft, "x--", color=f"C{k % 10}", linewidth=1, markersize=5)


def _finish(panel: "Axes", lowest: float, highest: float) -> None:
    """What all panels have: the published marks and the scale."""
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
        panel.text(1.01, bits, name, color="0.4", fontsize=8, va="center", transform=place)
    panel.grid(axis="y", alpha=0.2)


def _name(panel: "Axes", above: bool) -> None:
    """Name each curve where it ends: in the first gap above, or to the right, where nothing is drawn."""
    curves = [(line, np.reshape(np.asarray(line.get_xydata(), float), (-1, 2))) for line in panel.lines]
    ends = [(line, panel.transData.transform(points[points[:, 1] > 0])) for line, points in curves]
    taken = [place for _, places in ends for place in places if above]
    for line, places in ends:
        if len(places) and not (name := str(line.get_label())).startswith("_"):
            x, y = places[-1] + (0 if above else 8, 0)
            while any(abs(x - there[0]) < 50 and abs(y - there[1]) < 14 for there in taken):
                y += 1
            taken.append(np.array([x, y]))
            x, y = panel.transData.inverted().transform((x, y))
            side = "center" if above else "left"
            panel.text(x, y, name, color=line.get_color(), fontsize=9, ha=side, va="center", bbox=BLANK)
