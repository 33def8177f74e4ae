"""What a language model is worth at its end: scores beside those of simpler models, and the same in words."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from charlstm.model.torch_model import Model
from charlstm.runs.initial import COMPARED
from charlstm.runs.plan import Plan
from charlstm.scoring import baselines, held_out
from charlstm.scoring.surprisal import NATS_PER_BIT
from charlstm.tasks.language_model import LanguageModelPlan
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Extent, Ids
from charlstm.training.progress import Figures

log = logging.getLogger("charlstm")


def score_figures(name: str, nats: float | None, extent: Extent) -> Figures:
    """A score of so many nats per symbol: also in bits per character, and per byte of UTF-8."""
    bpc, bpb = (None, None) if nats is None else extent.each(nats / NATS_PER_BIT * extent.symbols)
    return {f"{name}_nats": nats, f"{name}_bpc": bpc, f"{name}_bpb": bpb}


def valid_extent(plan: LanguageModelPlan, symbols: int) -> Extent:
    """What the first symbols of the valid part stand for."""
    begin = len(plan.corpus.train)
    return plan.corpus.extent(begin, begin + symbols)


def _last_part(plan: LanguageModelPlan) -> tuple[str, Ids, int]:
    """What the final scores are of, test or else valid: name, ids that are scored, and where they begin."""
    data = plan.corpus
    part, ids = ("test", data.test) if len(data.test) else ("valid", data.valid)
    return part, ids[: plan.most_scored], len(data.ids) - len(ids)


def of_weights(plan: LanguageModelPlan, model: Model) -> Figures:
    """The scores of the best weights on the held-out parts."""
    data, start, V = plan.corpus, plan.vocabulary.start, len(plan.vocabulary)
    figures: Figures = {}
    part, last, begin = _last_part(plan)
    if not len(last):
        return figures

    def scored(name: str, ids: Ids, begin: int) -> held_out.Score:
        score = held_out.carried(model, ids, start, lambda: plan.clock.left() < 0)
        if score.read < len(ids):
            log.warning(
                f"Time was short: the score of the {name} part is of its first {score.read:,} symbols."
            )
        figures.update(score_figures(name, score.nats, data.extent(begin, begin + score.read)))
        if score.read < len(getattr(data, name)):
            figures[f"{name}_symbols"] = score.symbols
        return score

    valid = data.valid[: plan.most_scored]
    is_known = len(valid) == plan.sample and plan.clock.budget is None
    if part == "test" and len(valid) and not is_known:
        scored("valid", valid, len(data.train))
    score = scored(part, last, begin)
    if score.worst > math.log(V):  # more than if all ids were equally likely
        log.warning(
            f"From symbol {score.place:,} of the {part} part on the model is lost: a symbol costs "
            f"{score.worst / NATS_PER_BIT:.1f} bits there, and {math.log2(V):.1f} if it is guessed. Longer "
            "training may help, or another seed."
        )
    if len(valid) > 1:
        nats = held_out.fresh_windows(model, valid, start).nats
        figures |= score_figures("valid_windows", nats, valid_extent(plan, len(valid)))
    return figures


def simpler_models(plan: LanguageModelPlan) -> Figures:
    """What simpler models and compressors make of the last part."""
    data, train = plan.corpus, len(plan.corpus.train)
    _, last, begin = _last_part(plan)
    if not len(last):
        return {}
    end = begin + min(baselines.HELD_OUT, len(last))
    ngrams = baselines.ngrams(data.train, data.ids[begin:end], data.alphabet, plan.vocabulary.start)
    extent = data.extent(begin, end)
    bits = {name: per_symbol * extent.symbols for name, per_symbol in ngrams.items()}
    text = data.original(max(train - baselines.TRAIN, 0), train)
    bits |= baselines.compressed(text, data.original(begin, end))
    each = {name: extent.each(total) for name, total in bits.items()}
    bpc, bpb = ({name: one[k] for name, one in each.items()} for k in (0, 1))
    return {"baselines_bpc": bpc, "baselines_bpb": bpb}


def before_and_after(plan: Plan, corpus: Corpus, model: Model) -> Figures:
    """With `init`, the bits per character of the corpus and of the old text, by the first symbols of the part
    that decides: of the model that the run began with, and of this one."""
    if plan.initial is None:
        return {}
    first, figures = copy.deepcopy(model), Figures()
    first.load_arrays(plan.initial.weights)
    for name, text in {"new": corpus, "old": plan.initial.old}.items():
        if text is not None:
            part = next(part for part in (text.test, text.valid, text.train) if len(part) > 1)
            ids, begin = part[:COMPARED], len(text.ids) - len(part)
            extent, start = text.extent(begin, begin + len(ids)), text.vocabulary.start
            for when, one in {"before": first, "after": model}.items():
                nats = held_out.carried(one, ids, start, once=True).nats
                figures[f"{name}_bpc_{when}"] = extent.each(nats / NATS_PER_BIT * extent.symbols)[0]
    return figures


def say_before_and_after(figures: Figures) -> None:
    """The table of these, with a line for each text."""
    if "new_bpc_before" in figures:
        log.info(f"\n{'bits/char':>9} {'before':>9} {'after':>9}")
        for name in ("new", "old"):
            before, after = (figures.get(f"{name}_bpc_{when}") for when in ("before", "after"))
            if before is not None and after is not None:
                log.info(f"{name + ' text':>9} {before:9.4f} {after:9.4f}")


def verdict(figures: Figures, since_best: int, rise: float) -> str:
    """The score of the part that decides, beside the best simpler model, and what becomes of it, by the
    figures of `result.json`, the evaluations since the best one, and the last as a multiple of the best."""
    part, others = part_of(figures), figures.get("baselines_bpc", {})
    bits = figures[f"{part}_bpc"]
    if bits is None:
        return "No part was held out, so nothing says what it is worth; data.split keeps one back."
    said = f"{part.capitalize()} {bits:.2f} bits per character, perplexity {_perplexity(bits):.3g}"
    if others:
        best = min(others, key=lambda name: others[name])
        share = bits / others[best] - 1
        how = f"{abs(share):.0%} {'worse' if share > 0 else 'better'} than"
        said += f"; {'as good as' if abs(share) < 0.005 else how} {best}"
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
        after = " after the training part" if name in baselines.COMPRESSORS else ""
        costs[f"{names[part]}, {name}{after}"] = [bits, figures["baselines_bpb"][name]]
    known: dict[str, list[Any]] = {said: both for said, both in costs.items() if both[0] is not None}
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
