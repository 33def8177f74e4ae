"""One run of `task=lm`: the weights that score best on the valid part, and what they are worth at the end."""

import copy
import logging
import math
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from charlstm.model.torch_model import Model
from charlstm.progress_bar import TOLD
from charlstm.runs.run import EXCERPT, Run, Weights
from charlstm.sampling.strategy import Strategy
from charlstm.sampling.writer import Passage, Writer, mask, stream
from charlstm.scoring import held_out
from charlstm.scoring.surprisal import NATS_PER_BIT
from charlstm.state import BestScore, LanguageModelState
from charlstm.tasks import final_scores, worker
from charlstm.tasks.language_model import UNITS, LanguageModelPlan
from charlstm.text.vocabulary import Extent
from charlstm.training.loop import DivergedError
from charlstm.training.progress import Figures, Progress

log = logging.getLogger("charlstm")

TEMPERATURES, LOGGED = (0.5, 0.8, 1.0), 0.8  # of what it writes at its end; of what it writes on the way
SAMPLE_CHARACTERS = 200  # in TensorBoard, at each
SHORT, SHORT_LINES = 160, 6  # in the log
LINES = ("uniform", "unigram", "5-gram", "xz")  # of the simpler models, in TensorBoard
REREAD = 1.5  # as often a part is read for its score, about: the beginnings of its streams once more
FRESH = 0.8  # of that time takes a symbol of the windows that begin anew


class Scored(NamedTuple):
    """A score of the valid part in nats per symbol, whether it is of averaged weights, and a copy of them."""

    nats: float
    averaged: bool
    weights: Weights


class LanguageModel(Run):
    """The run: figures of every few steps, a score of the valid part now and then, the best weights kept."""

    plan: LanguageModelPlan
    stands: LanguageModelState

    def __init__(self, plan: LanguageModelPlan, path: Path) -> None:
        training = worker.training_of(plan)
        # scores are those of a copy: whatever becomes of a score, training does not notice
        self.scored = copy.deepcopy(training.model)
        several = training.processes
        self.read = self.scored if several is None else cast(Model, worker.Shared(self.scored, several))
        super().__init__(plan, path, training)
        none = BestScore(nats=None, step=0, averaged=False)
        self.stands = LanguageModelState(best=none, since_best=0, decided=plan.decided)
        # how many evaluations were due at the latest; with a budget: the seconds that all took, and the
        # latest, and those of a symbol of the final scores
        self.due, self.spent, self.latest, self.per_symbol = 0, 0.0, 0.0, 0.0
        self.last: float | None = None  # score
        self._sampled = time.monotonic()

    def put_back(self, state: LanguageModelState) -> None:
        assert self.resumed is not None
        if self.best and state.best.nats is not None and self.resumed.same_parts:
            self.stands = replace(state, decided=self.plan.decided)
            self.keep_best(self.best, self._figures())
        else:  # of other parts the score is another, which is known at the first evaluation or the end
            self.stands = replace(self.stands, best=replace(state.best, nats=None))

    def handle(self, progress: Progress) -> bool:
        if self.plan.clock.budget is not None or self.settings.tensorboard:
            self.tracker.busy("simple models")
            with self.signals.breaking_off():
                # at the first figures: nobody has to know what they will take, and they are beside all scores
                self.baselines  # noqa: B018
        is_scored, begin = self._is_scored(progress.step), self.plan.clock.spent()
        if is_scored:
            self.tracker.busy("evaluating")
            with self.signals.breaking_off():
                scores = self._evaluate(progress)
                nats, averaged, weights = scores[0]
                if not math.isfinite(nats):
                    raise DivergedError(f"the loss on the valid part is {nats} at step {progress.step}")
                # one of a symbol that the valid part has not leaves no trace in its loss
                if not all(np.isfinite(weight).all() for weight in weights.values()):
                    raise DivergedError(f"a weight is not finite at step {progress.step}")
                is_shown = time.monotonic() - self._sampled > TOLD  # in a short run those at its end suffice
                temperatures = TEMPERATURES if self.settings.tensorboard else (LOGGED,) if is_shown else ()
                texts = {t: written(self.plan, self.training.model, t) for t in temperatures}
        unit = self.vocabulary.unit
        self.tracker.curves(progress.step, progress.curves(unit))
        if is_scored:
            self.last, before = nats, self.stands.best.nats
            self.stands = replace(self.stands, since_best=self.stands.since_best + 1)
            if is_shown:
                self._sampled = time.monotonic()
                log.info(f"step {progress.step:,} writes: {' '.join(texts[LOGGED][:SHORT].split())}")
            if before is None or nats < before:
                found = BestScore(nats=nats, step=progress.step, averaged=averaged)
                self.best, self.stands = weights, replace(self.stands, best=found, since_best=0)
                self.keep_best(weights, self._figures())
                self.signals.save_wanted = True
            if self.settings.tensorboard:
                self._draw_scored(progress.step, scores, texts)
            if self.plan.clock.budget is not None:
                self.latest = self.plan.clock.spent() - begin
                self.spent += self.latest
                self._rehearse()
        best = self.stands.best.nats
        valid = "" if best is None else f"valid {best / NATS_PER_BIT:.3f}"
        self.tracker.advance(progress.shown(valid, unit))
        patience = self.plan.config.patience
        return patience is not None and self.stands.since_best >= patience

    def _draw_scored(self, step: int, scores: list[Scored], texts: dict[float, str]) -> None:
        """Scores of the valid part, those of simpler models on the last part, as lines beside them, and what
        the model writes; at the first evaluation, the second, the fourth, ..., and at the end its inside."""
        unit, of = self.vocabulary.unit, {"char": "baselines_bpc", "byte": "baselines_bpb"}
        bits = {name: self.baselines.get(of[unit], {}).get(name) for name in LINES}
        bits |= {"valid_averaged" if one.averaged else "valid": one.nats / NATS_PER_BIT for one in scores}
        drawn = {f"bits_per_{unit}/{name}": value for name, value in bits.items()}
        self.tracker.curves(step, drawn | self.slow_curves())
        self.tracker.text(step, "written", {f"temperature {t}": text for t, text in texts.items()})
        if self.training.step >= self.training.steps or self.due & (self.due - 1) == 0:
            corpus = self.plan.corpus
            ids = (corpus.valid if len(corpus.valid) else corpus.train)[:EXCERPT]
            ids = np.concatenate([[self.vocabulary.start], ids]).astype(self.vocabulary.dtype)
            self.draw_inside(step, ids)

    def _is_scored(self, step: int) -> bool:
        """Whether the valid part is scored after this step. With a budget, those are left out that
        would make them take more than a tenth of it."""
        training, clock = self.training, self.plan.clock
        due = self.plan.evaluations_due(min(step, training.steps), training.steps)
        is_cheap = self.spent + self.latest <= clock.spent() / 10
        is_scored = training.step >= training.steps or (due > self.due and is_cheap)
        if clock.budget is None:
            is_scored = self.plan.is_scored(step)
        self.due = due if is_scored else self.due
        return is_scored

    def _rehearse(self) -> None:
        """Find out what scores take at present."""
        corpus, now, start = self.plan.corpus, self.plan.clock.now, self.vocabulary.start
        ids = (corpus.valid if len(corpus.valid) else corpus.test)[: self.plan.most_scored]
        found = held_out.rehearsed(self.read, ids, start, now) / max(len(ids), 1)
        self.per_symbol = (self.per_symbol + found) / 2 if self.per_symbol else found

    def closing_seconds(self) -> float:
        if not self.per_symbol:
            self._rehearse()
            sample, now = self.plan.corpus.valid[: self.plan.sample], self.plan.clock.now
            self.latest = 2 * held_out.rehearsed(self.read, sample, self.vocabulary.start, now)
            self.latest += self.writing_seconds(SAMPLE_CHARACTERS * len(TEMPERATURES))
        # the last evaluation, the final scores, those of fresh windows among them, and the sample
        fresh = min(len(self.plan.corpus.valid), self.plan.most_scored)
        scores = self.per_symbol * (REREAD * self._held_out() + FRESH * fresh)
        return self.latest + scores + self.writing_seconds(SHORT * len(TEMPERATURES))

    def _held_out(self) -> int:
        """How many symbols the final scores are of."""
        corpus, most = self.plan.corpus, self.plan.most_scored
        return min(len(corpus.test), most) + min(len(corpus.valid), most)

    def _evaluate(self, progress: Progress) -> list[Scored]:
        """The weights and their average, the better one on the valid part first; where there is none, the
        average is taken as it is, under the loss of the training."""

        def score(averaged: bool) -> Scored:
            weights = self.weights(averaged)
            self.scored.load_arrays(weights)
            return Scored(self._nats(progress), averaged, weights)

        plain = score(averaged=False)
        if self.training.average is None:
            return [plain]
        return sorted([score(averaged=True), plain], key=lambda scored: scored.nats)

    def _nats(self, progress: Progress) -> float:
        """The score of `scored` on the valid part's first symbols; without one, the loss of the training."""
        valid = self.plan.corpus.valid[: self.plan.sample]
        if not len(valid):
            return progress.loss
        is_timed = self.plan.clock.budget is not None
        return held_out.carried(self.read, valid, self.vocabulary.start, once=is_timed).nats

    def _figures(self) -> Figures:
        best = self.stands.best
        own = final_scores.score_figures("valid", best.nats if self.plan.sample else None, self.sampled)
        return self.figures({**own, "best_step": best.step, "averaged": best.averaged})

    @cached_property
    def sampled(self) -> Extent:
        return final_scores.valid_extent(self.plan, self.plan.sample)

    @cached_property
    def baselines(self) -> Figures:
        return final_scores.simpler_models(self.plan) if self.plan.with_baselines else {}

    def conclude(self) -> Figures:
        assert self.progress is not None
        with self.signals.breaking_off():
            found = self.stands.best
            if not self.best:  # it ended before its first evaluation
                _, averaged, self.best = self._evaluate(self.progress)[0]
                found = BestScore(nats=None, step=self.training.step, averaged=averaged)
            self.scored.load_arrays(self.best)
            if found.nats is None:
                found = replace(found, nats=self._nats(self.progress))
            self.stands = replace(self.stands, best=found)
            # what is kept from here on is what comes after the scores; the state is saved already
            self.plan.clock.reserve -= self.latest + self.per_symbol * REREAD * self._held_out()
            self.plan.clock.reserve -= 7 / 8 * self.saving_seconds()
            figures = self._figures() | final_scores.of_weights(self.plan, self.read)
            self.wait.what = "n-grams and compressors, to compare with"
            figures |= self.baselines
            figures |= final_scores.before_and_after(self.plan, self.plan.corpus, self.scored)
            written_at = {t: written(self.plan, self.scored, t, SHORT) for t in TEMPERATURES}
        self.keep_best(self.best, figures)
        for temperature, text in written_at.items():
            lines = text.split("\n")[:SHORT_LINES]
            log.info("\n".join([f"\ntemperature {temperature}:", *lines]))
        self._say_scores(figures)
        final_scores.say_before_and_after(figures)
        return figures

    def _say_scores(self, figures: Figures) -> None:
        best, since_best = self.stands.best.nats, self.stands.since_best
        rise = self.last / best if self.last and best else 1.0
        log.info(f"\n{final_scores.verdict(figures, since_best, rise)}\n", extra={"bold": True})
        most = self.plan.most_scored
        names = {
            part: f"first {most:,} symbols of the {part} part"
            if len(getattr(self.plan.corpus, part)) > most
            else f"{part} part"
            for part in ("valid", "test")
        }
        for line, is_own in final_scores.table(figures, names):
            log.info(line, extra={"bold": is_own})
        seconds, speed = figures["train_seconds"], figures["chars_per_second"]
        which = "their average" if figures["averaged"] else "the weights"
        log.info(
            f"\n{figures['steps']:,} steps in {seconds:.0f} s at {speed:,.0f} "
            f"{UNITS[self.vocabulary.unit]}/s; best at step {figures['best_step']:,} ({which})."
        )
        if not since_best:
            self.more = (f"train.steps={2 * self.training.step}",)


def written(
    plan: LanguageModelPlan, model: Model, temperature: float, characters: int = SAMPLE_CHARACTERS
) -> str:
    """What a model writes from the start token, of records as many as there is room for; bytes that are no
    text as U+FFFD."""
    ends = plan.settings.data.records != "none"
    strategy = Strategy(temperature=temperature, mask=mask(plan.vocabulary, ends=ends))
    network, texts, left = model.in_numpy(), list[str](), characters
    try:
        while left > 0:
            writer = Writer(network, plan.vocabulary, strategy, [plan.settings.seed + len(texts)])
            texts.append("".join(stream(writer, plan.vocabulary, Passage(left))))
            left -= len(texts[-1]) + 1
    except FloatingPointError as error:  # which takes nothing from the scores
        return f"Nothing can be written: {error}."
    return "\n".join(texts).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
