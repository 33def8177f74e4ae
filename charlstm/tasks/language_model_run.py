"""One run of `task=lm`: the weights that score best on the valid part, and what they are worth at the end."""

import copy
import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from charlstm.model.torch_model import Model
from charlstm.progress_bar import progress_bar
from charlstm.runs.run import Run, Weights
from charlstm.sampling.strategy import Strategy
from charlstm.sampling.writer import Passage, Writer, mask, stream
from charlstm.scoring import baselines, held_out
from charlstm.scoring.surprisal import NATS_PER_BIT
from charlstm.state import BestScore, LanguageModelState, TaskState
from charlstm.tasks.language_model import UNITS, LanguageModelPlan
from charlstm.text.vocabulary import Extent
from charlstm.training import machine
from charlstm.training.loop import DivergedError, of_corpus
from charlstm.training.optimizer import Average
from charlstm.training.progress import Figures, Progress

log = logging.getLogger("charlstm")

SAMPLE_CHARACTERS = 400


class LanguageModel(Run):
    """The run: figures of every few steps, a score of the valid part now and then, the best weights kept."""

    plan: LanguageModelPlan

    def __init__(self, plan: LanguageModelPlan, path: Path) -> None:
        config, steps = plan.config, plan.decided.steps
        model = plan.first_model()
        # scores are those of a copy: whatever becomes of a score, training does not notice
        self.scored = copy.deepcopy(model)
        training = of_corpus(
            model,
            plan.corpus.train,
            plan.start_token,
            config,
            steps=steps,
            every=plan.every,
            average=Average(model.parameters(), config.averaging * steps) if config.averaging else None,
            autocast=machine.autocast(plan.machine.precision),
            seed=plan.settings.seed,
        )
        training.ahead = plan.decided.ahead
        super().__init__(plan, path, training)
        self.found, self.since_best = BestScore(nats=None, step=0, averaged=False), 0

    def state(self) -> LanguageModelState:
        return LanguageModelState(best=self.found, since_best=self.since_best, decided=self.plan.decided)

    def put_back(self, state: TaskState) -> None:
        assert isinstance(state, LanguageModelState)
        assert self.resumed is not None
        if self.best and state.best.nats is not None and self.resumed.same_parts:
            self.found, self.since_best = state.best, state.since_best
            self.keep_best(self._figures())
        else:  # of other parts the score is another, which is known at the first evaluation or the end
            self.found = replace(state.best, nats=None)

    def handle(self, progress: Progress) -> bool:
        is_scored = self.plan.is_scored(progress.step)
        if is_scored:
            self.tracker.busy("evaluating")
            with self.signals.breaking_off():
                nats, averaged, weights = self._evaluate(progress)
                if not math.isfinite(nats):
                    raise DivergedError(f"the loss on the valid part is {nats} at step {progress.step}")
                # one of a symbol that the valid part has not leaves no trace in its loss
                if not all(np.isfinite(weight).all() for weight in weights.values()):
                    raise DivergedError(f"a weight is not finite at step {progress.step}")
                text = written(self.plan, self.training.model) if self.settings.tensorboard else ""
        unit = self.vocabulary.unit
        self.tracker.curves(progress.step, progress.curves(unit))
        if is_scored:
            self.since_best += 1
            if self.found.nats is None or nats < self.found.nats:
                self.found = BestScore(nats=nats, step=progress.step, averaged=averaged)
                self.best, self.since_best = weights, 0
                self.keep_best(self._figures())
                self.signals.save_wanted = True
            self.tracker.curves(progress.step, {f"valid/bits_per_{unit}": nats / NATS_PER_BIT})
            self.tracker.text(progress.step, "written", text)
        best = self.found.nats
        valid = "" if best is None else f"valid {best / NATS_PER_BIT:.3f}"
        self.tracker.advance(progress.shown(valid, unit))
        patience = self.plan.config.patience
        return patience is not None and self.since_best >= patience

    def _evaluate(self, progress: Progress) -> tuple[float, bool, Weights]:
        """The weights or their average, whichever is better on the valid part: the score in nats per symbol,
        whether it is the average's, and a copy of them.

        Where there is none, the average is taken as it is, under the loss of the training.
        """

        def score(weights: Iterable[Tensor], averaged: bool) -> tuple[float, bool, Weights]:
            with torch.no_grad():
                for mine, weight in zip(self.scored.parameters(), weights, strict=True):
                    mine.copy_(weight)
            copied = {name: array.copy() for name, array in self.scored.weights().items()}
            return self._nats(progress), averaged, copied

        plain = score(self.training.model.parameters(), False)
        if self.training.average is None:
            return plain
        averaged = score(self.training.average.averages, True)
        return min(averaged, plain, key=lambda scored: scored[0])

    def _nats(self, progress: Progress) -> float:
        """The score of `scored` on the valid part or, where there is none, the loss of the training."""
        valid = self.plan.corpus.valid
        if not len(valid):
            return progress.loss
        return held_out.carried(self.scored, valid, self.vocabulary.start).nats

    def _figures(self) -> Figures:
        nats = self.found.nats if len(self.plan.corpus.valid) else None
        own = {**_scored("valid", nats, self.valid), "best_step": self.found.step}
        return self.figures({**own, "averaged": self.found.averaged})

    @cached_property
    def valid(self) -> Extent:
        """What the valid part holds."""
        begin = len(self.plan.corpus.train)
        return self.plan.corpus.extent(begin, begin + len(self.plan.corpus.valid))

    def conclude(self) -> Figures:
        assert self.progress is not None
        with self.signals.breaking_off():
            if not self.best:  # it ended before its first evaluation
                _, averaged, self.best = self._evaluate(self.progress)
                self.found = BestScore(nats=None, step=self.training.step, averaged=averaged)
            self.scored.load_state_dict({name: torch.from_numpy(w) for name, w in self.best.items()})
            if self.found.nats is None:
                self.found = replace(self.found, nats=self._nats(self.progress))
            figures = self._figures() | _final_scores(self.plan, self.scored, self.valid)
        self.keep_best(figures)
        _say_scores(self.plan, self.scored, figures)
        return figures


def _scored(name: str, nats: float | None, extent: Extent) -> Figures:
    """A score of so many nats per symbol: also in bits per character, and per byte of UTF-8."""
    bpc, bpb = (None, None) if nats is None else extent.each(nats / NATS_PER_BIT * extent.symbols)
    return {f"{name}_nats": nats, f"{name}_bpc": bpc, f"{name}_bpb": bpb}


def _final_scores(plan: LanguageModelPlan, model: Model, valid: Extent) -> Figures:
    """The scores of the best weights on all held-out parts, and those of simpler models."""
    data, start, V = plan.corpus, plan.vocabulary.start, len(plan.vocabulary)
    figures: Figures = {}
    part, last, extent = "valid", data.valid, valid
    if len(data.test):
        part, last, extent = "test", data.test, data.extent(len(data.ids) - len(data.test), len(data.ids))
    if not len(last):
        return figures
    score = held_out.carried(model, last, start)
    if part == "test":
        figures |= _scored(part, score.nats, extent)
    if score.worst > math.log(V):  # more than if all ids were equally likely
        log.warning(
            f"From symbol {score.place:,} of the {part} part on the model is lost: a symbol costs "
            f"{score.worst / NATS_PER_BIT:.1f} bits there, and {math.log2(V):.1f} if it is guessed. Longer "
            "training may help, or another seed."
        )
    if len(data.valid) > 1:
        nats = held_out.fresh_windows(model, data.valid, start).nats
        figures |= _scored("valid_windows", nats, valid)
    if plan.settings.eval.dynamic:
        with progress_bar(len(last), "dynamic evaluation", "char") as bar:
            score = held_out.dynamic(model, data.train, last, start, advance=bar.update)
        figures |= _scored("dynamic", score.nats, extent)
        figures["dynamic_of"] = part
    if plan.settings.eval.baselines:
        figures |= _baselines(plan, len(last))
    return figures


def _baselines(plan: LanguageModelPlan, symbols: int) -> Figures:
    """What simpler models and compressors make of the last so many symbols of the corpus."""
    data, begin, train = plan.corpus, len(plan.corpus.ids) - symbols, len(plan.corpus.train)
    end = min(begin + baselines.HELD_OUT, len(data.ids))
    ngrams = baselines.ngrams(data.train, data.ids[begin:end], data.alphabet, plan.vocabulary.start)
    extent = data.extent(begin, end)
    bits = {name: per_symbol * extent.symbols for name, per_symbol in ngrams.items()}
    try:
        text = data.original(max(train - baselines.TRAIN, 0), train)
        bits |= baselines.compressed(text, data.original(begin, end))
    except (ValueError, OSError) as error:
        log.warning(f"There is nothing to compress: {error}")
    each = {name: extent.each(total) for name, total in bits.items()}
    bpc, bpb = ({name: one[k] for name, one in each.items()} for k in (0, 1))
    return {"baselines_bpc": bpc, "baselines_bpb": bpb}


def _say_scores(plan: LanguageModelPlan, model: Model, figures: Figures) -> None:
    """Say what came of it: a sample, and the scores beside those of simpler models."""
    log.info("")
    log.info(written(plan, model))
    log.info("")
    rows = {
        "valid": "valid part, state carried",
        "valid_windows": "valid part, windows of 256 from an empty context",
        "test": "test part, state carried",
        "dynamic": f"{figures.get('dynamic_of')} part, dynamic evaluation",
    }
    costs = {said: [figures.get(f"{name}_{unit}") for unit in ("bpc", "bpb")] for name, said in rows.items()}
    part = "test" if len(plan.corpus.test) else "valid"
    for name, bits in figures.get("baselines_bpc", {}).items():
        after = " after the training part" if name in baselines.COMPRESSORS else ""
        costs[f"{part} part, {name}{after}"] = [bits, figures["baselines_bpb"][name]]
    log.info(f"{'bits/char':>9} {'bits/byte':>9} {'nats/char':>9} {'perplexity':>10}")
    for said, (bits, per_byte) in costs.items():
        if bits is not None:
            shown = "-" if per_byte is None else f"{per_byte:.4f}"
            perplexity = 2**bits if bits < 1000 else math.inf
            log.info(f"{bits:9.4f} {shown:>9} {bits * NATS_PER_BIT:9.4f} {perplexity:10.4g}  {said}")
    log.info("")
    seconds, speed = figures["train_seconds"], figures["chars_per_second"]
    which = "their average" if figures["averaged"] else "the weights"
    log.info(
        f"{figures['steps']:,} steps in {seconds:.0f} s at {speed:,.0f} {UNITS[plan.vocabulary.unit]}/s; "
        f"best at step {figures['best_step']:,} ({which})."
    )


def written(plan: LanguageModelPlan, model: Model) -> str:
    """What a model writes from the start token, at temperature 0.8; bytes that are no text as U+FFFD."""
    ends = plan.settings.data.records != "none"
    strategy = Strategy(temperature=0.8, mask=mask(plan.vocabulary, ends=ends))
    writer = Writer(model.in_numpy(), plan.vocabulary, strategy, [plan.settings.seed])
    try:
        text = "".join(stream(writer, plan.vocabulary, Passage(SAMPLE_CHARACTERS)))
    except FloatingPointError as error:  # which takes nothing from the scores
        return f"Nothing can be written: {error}."
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
