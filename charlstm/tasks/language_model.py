"""`task=lm`: the plan of a language model of a corpus. What becomes of it is in `language_model_run.py`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from charlstm.config.compose import literal
from charlstm.config.settings import Kernel, TrainSettings
from charlstm.runs.initial import read_text
from charlstm.runs.plan import Plan
from charlstm.runs.resume import Saved, resumed
from charlstm.scoring import baselines
from charlstm.state import Decided, LanguageModelState, Machine
from charlstm.text.corpus import Corpus
from charlstm.training import machine, memory, processes, recipe

if TYPE_CHECKING:
    import torch

UPDATES_PER_EVALUATION = 25  # at least
BASELINE_SECONDS = 3e-6  # of a symbol that they read, about
UNITS = {"char": "characters", "byte": "bytes"}

SPEED = ["threads", "precision", "device", "model", "train.batch", "train.accumulate", "train.window"]
SPEED += ["train.optimizer", "train.dropout", "train.keep"]
"""Keys that a step's time depends on, beside the text."""


def plan(settings: TrainSettings, saved: Saved | None) -> "LanguageModelPlan":
    """What it takes to train on the corpus. Raises ValueError if corpus, model and settings do not fit
    together."""
    train = settings.train
    if train.layout != "streams" or train.loss != "cross_entropy":
        raise ValueError(
            f"train.layout = {train.layout}, train.loss = {train.loss}: task=lm trains parallel streams on "
            "cross-entropy; leave both keys out"
        )
    recipe.refuse_undecided(train, "lm")
    settings, corpus, initial = read_text(settings, settings.data, saved)
    corpus.fit_split(settings.data.split)
    by_corpus = recipe.by_corpus(settings, len(corpus.train), len(corpus.vocabulary))
    settings = recipe.with_values(settings, by_corpus)
    settings.model.fit_vocabulary(len(corpus.vocabulary))
    config = recipe.for_corpus(settings.train, len(corpus.train))
    who, parts = f"{processes.size()} processes", processes.size() * config.accumulate
    if config.accumulate > 1:
        who = f"train.accumulate = {config.accumulate}" + (f" and {who}" if processes.size() > 1 else "")
    if config.keep and parts > 1:
        raise ValueError(f"train.keep = {config.keep}: does not go together with {who}; leave it out")
    if config.batch % parts:
        raise ValueError(
            f"train.batch = {config.batch}: {who} cannot share its streams evenly; "
            f"choose a multiple of {parts}"
        )
    return LanguageModelPlan(
        settings=settings,
        config=config,
        vocabulary=corpus.vocabulary,
        data=corpus.data,
        text_length=len(corpus.train),
        window=config.window,
        resumed=resumed(settings, saved, corpus.vocabulary, corpus),
        corpus=corpus,
        by_corpus=by_corpus,
        initial=initial,
    )


@dataclass(frozen=True, kw_only=True)
class LanguageModelPlan(Plan):
    """A plan of a language model. What an earlier run decided is taken over with it as far as the keys that
    matter are as they were: the same steps in the same precision on as many threads give the same weights."""

    corpus: Corpus
    by_corpus: dict[str, Any]  # what was decided by the text's length, by key

    @cached_property
    def decided(self) -> Decided:
        """As asked for, as an earlier run at this speed chose where that is not emulated here, or what is
        fastest here. Needs torch, and two seconds about, or as a GPU starts some more."""
        asked, at_speed = self.settings.precision, self._decided_before(*SPEED)
        has = self.kernels if asked == "auto" else (asked,)
        if at_speed is None or at_speed.precision not in has:
            at_speed = self._fastest(has)
        config, run = self.config, self.resumed
        made = run.state.numbers.step if run and self.clock.budget else 0
        ahead = self._ahead() if run and not self.clock.budget and config.steps is None else 0
        steps = recipe.steps_of(config, len(self.corpus.train), self.clock, at_speed.seconds_per_step)
        steps = max(steps + made + ahead, 1)
        before = self._decided_before() if run and run.same_parts else None
        sample = before.sample if before else recipe.sampled(config, steps, self.settings.eval.times)
        return replace(at_speed, steps=steps, ahead=ahead, sample=sample)

    def _decided_before(self, *keys: str) -> Decided | None:
        """What the run that is resumed decided, if these keys and the device are the same; else None."""
        if self.resumed is None or not self.resumed.unchanged(*keys):
            return None
        state = self.resumed.state
        assert isinstance(state.task, LanguageModelState)
        return state.task.decided if state.provenance.device == str(self.device) else None

    def _ahead(self) -> int:
        """How many more steps the resumed run has made than its epochs would take now."""
        assert self.resumed is not None
        before = self._decided_before("train.steps", "train.budget")
        if before and self.resumed.same_place:
            return before.ahead
        done = self.resumed.state.numbers
        window = done.window if self.resumed.same_place else 0
        return done.step - done.epoch * recipe.steps_per_epoch(self.config, len(self.corpus.train)) - window

    def _fastest(self, kernels: Sequence[Kernel]) -> Decided:
        """The precision and the threads that make a step shortest, and the seconds that it takes; of one."""
        from charlstm.training import speed

        is_gpu, threads = self.device.type == "cuda", self.settings.threads
        end = time.perf_counter() + (speed.GPU_SECONDS if is_gpu else speed.PROBE_SECONDS)
        counts = sorted({1, 1 if is_gpu else machine.available_cores()}) if threads == "auto" else [threads]
        if is_gpu and "float16" in kernels:  # in which cuDNN's layers compute if asked for bfloat16, too
            kernels = [kernel for kernel in kernels if kernel != "bfloat16"]
        choices = [speed.Choice(precision, count) for precision in kernels for count in counts]
        probed = self.first_model(Machine(device=str(self.device), **choices[-1]._asdict()))
        config = replace(self.config, batch=self.config.batch // processes.size())
        best, seconds = speed.fastest(probed, self.corpus.train, self.start_token, config, choices, end)
        seconds /= 1 - self.config.keep  # with the streams of the old text
        return Decided(precision=best.precision, threads=best.threads, seconds_per_step=seconds, steps=1)

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The precisions that the device has in hardware."""
        return machine.kernels(machine.capabilities(self.device))

    @cached_property
    def device(self) -> "torch.device":
        return machine.choose_device(self.settings.device)

    @cached_property
    def machine(self) -> Machine:
        device, precision, threads = str(self.device), self.decided.precision, self.decided.threads
        return Machine(device=device, precision=precision, threads=threads, processes=processes.size())

    @property
    def chosen(self) -> dict[str, object]:
        decided = self.decided
        chosen = {"precision": decided.precision, "threads": decided.threads, "train.steps": decided.steps}
        return self.by_corpus | chosen | {"train.budget": "null"}

    @property
    def every(self) -> int:
        """Steps between two figures, however fast the machine is: a power of two."""
        most = self.decided.steps // self.settings.eval.times // UPDATES_PER_EVALUATION
        return 1 << max(most.bit_length() - 1, 0)

    def is_scored(self, step: int) -> bool:
        """Whether the valid part is scored after this step: after `eval.times` of them in all, among them the
        last, or after each if there are fewer."""
        steps = self.decided.steps
        before = (step - 1) // self.every * self.every
        is_one = step % self.every == 0 or step == steps
        return is_one and self.evaluations_due(step, steps) > self.evaluations_due(before, steps)

    def evaluations_due(self, step: int, steps: int) -> int:
        """How many evaluations are due after so many steps of so many."""
        per_pass = recipe.steps_per_epoch(self.config, len(self.corpus.train))
        return recipe.evaluations_due(step, steps, self.settings.eval.times, per_pass)

    @property
    def sample(self) -> int:
        """Of how many symbols of the valid part, its first, the scores while training are."""
        valid = len(self.corpus.valid)
        return valid if self.decided.sample is None else min(self.decided.sample, valid)

    @cached_property
    def most_scored(self) -> int:
        """Of how many symbols of each part, its first, the final scores are at most: with a budget as many
        as can be read four times in a quarter of it."""
        ids = self.corpus.valid if len(self.corpus.valid) else self.corpus.test
        if not self.clock.budget or not len(ids):
            return len(self.corpus.ids)
        from charlstm.scoring import held_out

        request = self.first_model(self.machine), ids, self.vocabulary.start, self.clock.now
        held_out.rehearsed(*request, read=10)  # which warms up
        seconds = held_out.rehearsed(*request, read=150)
        most = self.clock.budget / 4 / 4 * len(ids) / max(seconds, 1e-6)
        return max(int(most), recipe.LEAST_SCORED)

    @property
    def with_baselines(self) -> bool:
        """Whether simpler models are scored, too: not if they took more than a tenth of a budget."""
        held_out = len(self.corpus.test) or len(self.corpus.valid)
        read = min(len(self.corpus.train), baselines.TRAIN) + min(held_out, baselines.HELD_OUT)
        affordable = self.clock.budget is None or BASELINE_SECONDS * read <= self.clock.budget / 10
        return self.settings.eval.baselines and affordable

    @property
    def start_token(self) -> int | None:
        """What streams begin with; records bring start tokens of their own."""
        return self.vocabulary.start if self.settings.data.records == "none" else None

    def describe_task(self) -> Iterator[str]:
        config, asked = self.config, self.settings.train
        yield from self.corpus.describe()
        yield from self.corpus.advice()
        chosen = {key: value for key, value in self.by_corpus.items() if value is not None}
        if keys := " ".join(f"{key}={literal(value)}" for key, value in chosen.items()):
            yield f"Chosen by the text's length, each unless it is given: {keys}"
        if config != asked:
            yield (
                f"The training part is small: train.batch = {config.batch} and "
                f"train.window = {config.window} in place of {asked.batch} and {asked.window}."
            )
        if self.resumed is None or not self.resumed.unchanged(*SPEED):
            yield "Measuring some steps, for about 2 s: what is faster here, and how long they take"
        on, decided = self.machine, self.decided
        if on.precision not in self.kernels:
            yield f"precision = {on.precision}: this machine emulates it, which float32 is often faster than"
        yield f"{self.model}; {on.device}, {on.precision}, {on.shown_threads}"
        chars, units = config.batch * config.window, UNITS[self.vocabulary.unit]
        needed = memory.training_bytes(self.settings.model, config, len(self.vocabulary), config.window)
        yield (
            f"{'' if self.clock.budget is None else 'about '}{decided.steps:,} steps of {chars:,} {units}, "
            f"{decided.steps * chars / len(self.corpus.train):.1f} epochs, "
            f"at {chars / decided.seconds_per_step:,.0f} {units}/s: {self._how_long()}; "
            f"about {needed / 2**20:,.0f} MiB besides PyTorch itself"
        )
        yield from self._describe_scores()

    def _how_long(self) -> str:
        if self.clock.budget is not None:
            return f"train.budget = {self.settings.train.budget}, from the command's start to its end"
        minutes = self.decided.steps * self.decided.seconds_per_step / 60
        return f"about {minutes:.1f} minutes, evaluations not counted"

    def _describe_scores(self) -> Iterator[str]:
        """What is left out to save time."""
        valid, most = len(self.corpus.valid), self.most_scored
        if self.sample < valid:
            yield f"While training, the first {self.sample:,} of the valid part's {valid:,} symbols count."
        if most < max(valid, len(self.corpus.test)):
            yield f"At the end, the first {most:,} symbols of each part are scored; all take a larger budget."
        if self.settings.eval.baselines and not self.with_baselines:
            yield "No simple models and compressors: they take a larger train.budget."
