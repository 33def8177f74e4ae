"""One run of `task=copy`: longer and longer sequences of random symbols, read and then written back."""

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from charlstm.model.numpy_model import NumpyModel
from charlstm.runs.run import EXCERPT, Run, Weights
from charlstm.state import CopyState
from charlstm.tasks import copying
from charlstm.tasks.copying import EXAMINATION, PASSED, PROOF, TRAINING, CopyPlan
from charlstm.tasks.memorize_run import WORTH_A_FREE_RUN
from charlstm.training.loop import Training
from charlstm.training.optimizer import Average
from charlstm.training.progress import Figures, Progress
from charlstm.training.windows import Window

log = logging.getLogger("charlstm")

# Steps over which the weights that are examined are averaged: single steps shake what is nearly right.
AVERAGED = 100


class Copy(Run):
    """The run. An epoch is one batch of new sequences, all of the length in hand."""

    stands: CopyState

    def __init__(self, plan: CopyPlan, path: Path) -> None:
        model, config = plan.first_model(), plan.config
        self.stands = CopyState(length=1, longest=0, share=0.0)
        average = Average(model.parameters(), AVERAGED)
        steps, every = config.epochs, config.log_every
        training = Training(
            model, self._windows, config, steps=steps, every=every, average=average, clock=plan.clock
        )
        super().__init__(plan, path, training)

    def _windows(self, epoch: int) -> list[Window]:
        seeds = (self.settings.seed, TRAINING, epoch)
        return [copying.window(self.vocabulary, self.stands.length, self.settings.train.batch, seeds)]

    def put_back(self, state: CopyState) -> None:
        super().put_back(state)
        if self.best:
            self._keep()

    def handle(self, progress: Progress) -> bool:
        if progress.accuracy >= WORTH_A_FREE_RUN:  # fed with the true symbols, which is the easier task
            self.tracker.busy("examining")
            self._examine(progress)
        now, bits = self.stands, self._figures()["bits_per_hidden_unit"]
        curves = {"copy/length": now.length, "copy/longest": now.longest, "copy/right": now.share}
        curves["copy/bits_per_hidden_unit"] = bits
        self.tracker.curves(progress.step, {**progress.curves(), **curves, **self.slow_curves()})
        if self.training.step >= self.training.steps:
            length = min(max(now.longest, 1), EXCERPT // 2)
            ids = copying.sequences(self.vocabulary, length, 1, (self.settings.seed, PROOF))
            self.draw_inside(progress.step, ids[:, 0])
        self.tracker.advance(progress.shown(f"longest {now.longest:,}, {now.share:.0%} of {now.length:,}"))
        return False

    def closing_seconds(self) -> float:
        # one more examination of the length in hand and the next one, twice each, and the proof
        steps = 4 * copying.SEQUENCES / copying.PROVEN_ON * copying.steps(self.stands.length)
        return self.proof_step * (steps + copying.steps(max(self.stands.longest, 1)))

    @cached_property
    def proof_step(self) -> float:
        """Seconds that a step of all the sequences of a proof takes."""
        begin = self.plan.clock.now()
        model = NumpyModel(self.settings.model, self.weights(averaged=True))
        ids = copying.sequences(self.vocabulary, 1, copying.PROVEN_ON, (0, 0))
        copying.right(model, self.vocabulary, ids)
        return (self.plan.clock.now() - begin) / copying.steps(1)

    def _examine(self, progress: Progress) -> None:
        """Go on to the first length that the model does not pass."""
        weights, seeds = self.weights(averaged=True), (self.settings.seed, EXAMINATION, progress.epoch)
        model = NumpyModel(self.settings.model, weights)
        with self.signals.breaking_off():
            *passed, failed = copying.climb(model, self.vocabulary, self.stands.length, seeds)
        self.stands = replace(self.stands, length=failed[0], share=failed[1])
        if passed:
            old, before = self._passed(self.stands.longest), self.stands.longest
            self.stands = replace(self.stands, longest=passed[-1][0], before=before)
            self.best = weights
            if before:  # in case that this examination was passed by luck
                self.best |= {f"before/{name}": weight for name, weight in old.items()}
            self._keep()
            self.signals.save_wanted = True

    def _keep(self) -> None:
        self.keep_best(self._passed(self.stands.longest), self._figures())

    def _figures(self, share: float = PASSED) -> Figures:
        """With this share of the symbols right; before the proof, with no more than what it will ask for."""
        longest, symbols, model = self.stands.longest, self.settings.copy.symbols, self.settings.model
        bits = copying.bits(longest, symbols, share)
        own = {"longest": longest, "symbols": symbols, "bits": bits}
        return self.figures({**own, "bits_per_hidden_unit": bits / (model.layers * model.width)})

    def _passed(self, length: int) -> Weights:
        """The weights that passed this length, of the two that are kept; the present ones, if none did."""
        kept = self.best or self.weights(averaged=True)
        start = "before/" if 0 < length <= self.stands.before else ""
        return {name: kept[start + name] for name in self.training.optimizer.names}

    def conclude(self) -> Figures:
        # what passed one of many examinations may have passed by luck
        config, seed, length = self.settings.model, self.settings.seed, max(self.stands.longest, 1)
        with self.signals.breaking_off():
            longest, share = copying.prove(
                lambda tried: NumpyModel(config, self._passed(tried)), self.vocabulary, length, seed
            )
        self.stands = replace(self.stands, longest=longest)
        figures = self._figures(share) | {"accuracy": share}
        self.keep_best(self._passed(longest), figures)
        log.info(self._verdict(figures))
        return figures

    @property
    def prompt(self) -> str:  # type: ignore[override]
        length = max(self.stands.longest, 1)
        ids = copying.sequences(self.vocabulary, length, 1, (self.settings.seed, PROOF))
        return self.vocabulary.decode(ids[: length + 2, 0])

    def _verdict(self, figures: Figures) -> str:
        symbols, share = figures["symbols"], figures["accuracy"]
        spent = f"{figures['epochs']:,} batches and {figures['train_seconds']:.1f} s"
        more = "Longer ones take more train.budget or a larger model.hidden."
        if not self.stands.longest:
            return f"Nothing is copied after {spent}: {share:.1%} of single symbols come back right. {more}"
        return (
            f"Copied: {self.stands.longest:,} random symbols out of {symbols}, read and then written back, "
            f"{share:.1%} of them right, after {spent}. "
            f"That is {figures['bits']:.0f} bits, {figures['bits_per_hidden_unit']:.2f} per hidden unit; "
            f"Collins et al. (2016) found room for about one real number. {more}"
        )
