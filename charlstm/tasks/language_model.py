"""`task=lm`: the plan of a language model of a corpus. What becomes of it is in `language_model_run.py`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from charlstm.config.settings import Kernel, TrainSettings
from charlstm.runs.plan import Plan
from charlstm.runs.resume import Saved, resumed
from charlstm.state import Decided, LanguageModelState, Machine
from charlstm.text import corpus as corpora
from charlstm.text.corpus import Corpus
from charlstm.training import machine, memory, recipe

if TYPE_CHECKING:
    import torch

    from charlstm.training import speed

UPDATES_PER_EVALUATION = 25  # at least
UNITS = {"char": "characters", "byte": "bytes"}

SPEED = ("threads", "precision", "device", "model", "train.batch", "train.window", "train.dropout")
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
    recipe.refuse_undecided(train)
    corpus = corpora.read(settings.data)
    corpus.fit_split(settings.data.split)
    settings.model.fit_vocabulary(len(corpus.vocabulary))
    config = recipe.for_corpus(train, len(corpus.train))
    return LanguageModelPlan(
        settings=settings,
        config=config,
        vocabulary=corpus.vocabulary,
        data=corpus.data,
        text_length=len(corpus.train),
        window=config.window,
        resumed=resumed(settings, saved, corpus.vocabulary, corpus),
        corpus=corpus,
    )


@dataclass(frozen=True, kw_only=True)
class LanguageModelPlan(Plan):
    """A plan of a language model.

    What an earlier run decided is taken over with it as far as the keys that matter are as they were: the
    same steps in the same precision on as many threads give the same weights.
    """

    corpus: Corpus

    @cached_property
    def decided(self) -> Decided:
        """Steps, precision and threads: as asked for, or what is fastest here. Needs torch, and two seconds
        at most. A precision that an earlier run chose is chosen anew where it would be emulated."""
        asked, has = self.settings.precision, self.kernels
        before = self._decided_before("precision", "device")
        if asked != "auto":
            has = (asked,)
        elif before and before.precision in has:
            has = (before.precision,)
        same_speed = self._decided_before(*SPEED)
        if same_speed and same_speed.precision in has:
            precision, threads = same_speed.precision, same_speed.threads
            seconds = same_speed.seconds_per_step
        else:
            same_speed = None
            (precision, threads), seconds = self._fastest(has)
        steps, ahead = recipe.steps_of(self.config, len(self.corpus.train), seconds), 0
        if self.resumed is not None and self.config.steps is None:
            ahead = self._ahead(seconds, same_speed is not None)
        return Decided(
            precision=precision,
            threads=threads,
            seconds_per_step=seconds,
            steps=max(steps + ahead, 1),
            ahead=ahead,
        )

    def _decided_before(self, *keys: str) -> Decided | None:
        """What the run that is resumed decided, if these keys and the device are the same; else None."""
        if self.resumed is None or not self.resumed.unchanged(*keys):
            return None
        state = self.resumed.state
        assert isinstance(state.task, LanguageModelState)
        return state.task.decided if state.provenance.device == str(self.device) else None

    def _ahead(self, seconds_per_step: float, same_speed: bool) -> int:
        """How many more steps the resumed run has made than its epochs, or its time, would take now."""
        assert self.resumed is not None
        is_timed = self.config.budget is not None
        before = self._decided_before("train.steps", "train.budget")
        if before and self.resumed.same_place and (same_speed or not is_timed):
            return before.ahead
        done = self.resumed.state.numbers
        if is_timed:
            return done.step - int(done.seconds / seconds_per_step)
        window = done.window if self.resumed.same_place else 0
        return done.step - done.epoch * recipe.steps_per_epoch(self.config, len(self.corpus.train)) - window

    def _fastest(self, kernels: Sequence[Kernel]) -> "tuple[speed.Choice, float]":
        """The precision and the threads that make a step shortest, and the seconds that it takes."""
        from charlstm.training import speed

        end = time.perf_counter() + speed.PROBE_SECONDS
        threads = self.settings.threads
        counts = sorted({1, machine.available_cores()}) if threads == "auto" else [threads]
        choices = [speed.Choice(precision, count) for precision in kernels for count in counts]
        probed = self.first_model(Machine(device=str(self.device), **choices[-1]._asdict()))
        return speed.fastest(probed, self.corpus.train, self.start_token, self.config, choices, end)

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The precisions that the device has in hardware."""
        return machine.kernels(machine.capabilities(self.device))

    @cached_property
    def device(self) -> "torch.device":
        """The one that was asked for, or the best that there is."""
        return machine.choose_device(self.settings.device)

    @cached_property
    def machine(self) -> Machine:
        decided = self.decided
        return Machine(device=str(self.device), precision=decided.precision, threads=decided.threads)

    @property
    def chosen(self) -> dict[str, object]:
        decided = self.decided
        chosen = {"precision": decided.precision, "threads": decided.threads, "train.steps": decided.steps}
        return chosen | {"train.budget": "null"}

    @property
    def every(self) -> int:
        """Steps between two figures, however fast the machine is: a power of two. The valid part is scored
        after some of them."""
        most = self.decided.steps // self.settings.eval.times // UPDATES_PER_EVALUATION
        return 1 << max(most.bit_length() - 1, 0)

    def is_scored(self, step: int) -> bool:
        """Whether the valid part is scored after this step: `eval.times` of them, spread evenly, the last one
        at the end; every step if there are fewer."""
        steps, times = self.decided.steps, self.settings.eval.times
        before = (step - 1) // self.every * self.every
        is_one = step % self.every == 0 or step == steps
        return is_one and step * times // steps > before * times // steps

    @property
    def start_token(self) -> int | None:
        """What streams begin with; records bring start tokens of their own."""
        return self.vocabulary.start if self.settings.data.records == "none" else None

    def describe_task(self) -> Iterator[str]:
        config, asked = self.config, self.settings.train
        yield from self.corpus.describe()
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
            f"{decided.steps:,} steps of {chars:,} {units}, "
            f"{decided.steps * chars / len(self.corpus.train):.1f} epochs, "
            f"at {chars / decided.seconds_per_step:,.0f} {units}/s: "
            f"about {decided.steps * decided.seconds_per_step / 60:.1f} minutes, evaluations not counted; "
            f"about {needed / 2**20:,.0f} MiB besides PyTorch itself"
        )
        # about a third of training on it, twice with averages
        share = 2 / 3 if config.averaging else 1 / 3
        seconds = share * len(self.corpus.valid) * decided.seconds_per_step / chars
        times = self.settings.eval.times
        if seconds * times > decided.steps * decided.seconds_per_step:
            yield (
                f"Scoring the valid part takes about {seconds:.0f} s, {times} times: more than the training. "
                "A smaller share in data.split or fewer eval.times would save that."
            )
