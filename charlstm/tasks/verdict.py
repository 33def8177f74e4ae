"""What a language model is worth, in words: its place among simpler models, and what may help."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from charlstm.scoring.baselines import COMPRESSORS
from charlstm.scoring.surprisal import NATS_PER_BIT
from charlstm.training.progress import Figures


def verdict(figures: Figures, since_best: int, rise: float) -> str:
    """The score of the part that decides, beside the best simpler model, and what becomes of it.

    Args:
        figures: those of `result.json`.
        since_best: evaluations of the valid part after the best one.
        rise: the last of them, as a multiple of the best.
    """
    part, others = part_of(figures), figures.get("baselines_bpc", {})
    bits = figures[f"{part}_bpc"]
    if bits is None:
        return "No part was held out, so nothing says what it is worth; data.split keeps one back."
    said = f"{part.capitalize()} {bits:.2f} bits per character, perplexity {_perplexity(bits):.3g}"
    if others:
        best = min(others, key=lambda name: others[name])
        share = bits / others[best] - 1
        how = (
            "as good as"
            if abs(share) < 0.005
            else f"{abs(share):.0%} {'worse' if share > 0 else 'better'} than"
        )
        said += f"; {how} {best}"
    if since_best > 1 and rise > 1.005:
        return (
            f"{said}. It overfits: the valid part has got worse since step {figures['best_step']:,}. More "
            "text, more train.dropout or a smaller model would help; longer training would not."
        )
    return f"{said}, {'no longer falling' if since_best else 'still falling: go on with it'}."


def table(figures: Figures, names: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """The scores, a line each, best first, and whether it is of this model; then others of its own. `names`
    are those of the parts, or of as much of them as was scored."""
    part = part_of(figures)
    own = {f"{names[part]}, state carried": part}
    valid = names["valid"]
    rest = {f"{valid}, state carried": "valid", f"{valid}, windows of 256": "valid_windows"}
    costs: dict[str, list[Any]] = {
        said: [figures.get(f"{name}_{unit}") for unit in ("bpc", "bpb")]
        for said, name in (own | rest).items()
    }
    for name, bits in figures.get("baselines_bpc", {}).items():
        after = " after the training part" if name in COMPRESSORS else ""
        costs[f"{names[part]}, {name}{after}"] = [bits, figures["baselines_bpb"][name]]
    known = {said: both for said, both in costs.items() if both[0] is not None}
    yield f"{'bits/char':>9} {'bits/byte':>9} {'nats/char':>9} {'perplexity':>10}", False
    for said in sorted(known, key=lambda said: (said in rest.keys() - own, known[said][0])):
        bits, size = known[said]
        nats, perplexity = bits * NATS_PER_BIT, _perplexity(bits)
        yield f"{bits:9.4f} {size:9.4f} {nats:9.4f} {perplexity:10.4g}  {said}", said in own


def part_of(figures: Figures) -> str:
    """The part that decides: test or, where there is none, valid."""
    return "valid" if figures.get("test_bpc") is None else "test"


def _perplexity(bits: float) -> float:
    return 2**bits if bits < 1000 else math.inf
