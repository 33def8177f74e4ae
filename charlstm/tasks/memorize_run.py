"""One run of `task=memorize`: the figures of each epoch, and the proof that the text is known by heart."""

import logging
import math
from dataclasses import replace
from pathlib import Path

from charlstm.model.torch_model import Model
from charlstm.runs.run import EXCERPT, Run
from charlstm.sampling import writer
from charlstm.state import MemorizeState, Proven
from charlstm.tasks.final_scores import before_and_after, say_before_and_after
from charlstm.tasks.memorize import MemorizePlan
from charlstm.text.vocabulary import Ids, Vocabulary
from charlstm.training.loop import of_text
from charlstm.training.progress import Figures, Progress

log = logging.getLogger("charlstm")

PRINTED_CHARACTERS = 2000
SAMPLED_CHARACTERS = 200  # while training: writing takes longer than reading

# A free run stops at its first error, so trying one is cheap; but it is pointless while, fed with the true
# text, the model does not get this share of the characters right, or, with train.loss=hardest, all of them.
WORTH_A_FREE_RUN = 0.9

# Characters that free runs may write: so many in any case, and as many for each character that is trained on.
FREE_CHARACTERS, FREE_SHARE = 20_000, 0.02

UNPROVEN = Proven(known=False, longest=0, written=0)


class Memorize(Run):
    """The run: figures of each epoch, and a free run after those that make one worth trying."""

    stands: MemorizeState

    def __init__(self, plan: MemorizePlan, path: Path) -> None:
        beside = plan.kept(framed=True)
        training = of_text(plan.first_model(), plan.ids, plan.config, plan.clock, beside, plan.settings.seed)
        super().__init__(plan, path, training)
        self.ids, self.corpus = plan.ids, plan.corpus
        self.stands = MemorizeState(recalled_at_epoch=None, proof=UNPROVEN)

    def put_back(self, state: MemorizeState) -> None:
        assert self.resumed is not None
        training = self.training
        # cut in other windows than before, the epochs to come take another number of steps
        training.ahead = training.step - training.epoch * len(training.windows(0)) - training.window
        training.most_steps += training.ahead
        training.steps = training.most_steps
        if self.resumed.same_parts:  # another text is not known by heart
            self.stands = state

    def handle(self, progress: Progress) -> bool:
        config = self.settings.train
        with self.signals.breaking_off():  # what is broken off will be tried again
            model, proven = self.training.model, self.stands.proof
            if progress.accuracy == 1 or self.training.config.loss != "hardest":
                progress, proven = tried(progress, proven, model, self.vocabulary, self.ids)
            is_last = progress.recalled or self.training.step == self.training.steps
            sampled = progress.epoch % config.sample_every == 0 or is_last
            written = self._written(SAMPLED_CHARACTERS) if sampled and self.settings.tensorboard else None
        first = progress.epoch if progress.recalled else self.stands.recalled_at_epoch
        self.stands = MemorizeState(recalled_at_epoch=first, proof=proven)
        longest, whole = proven.longest, self.plan.text_length
        known = f"free run {longest:,}/{whole:,}" if longest else f"{progress.accuracy:.0%} right"
        self.tracker.advance(progress.shown(known))
        if progress.epoch % config.log_every == 0 or progress.recalled:
            self.tracker.curves(progress.step, progress.curves())
        if written is not None:
            self.tracker.curves(progress.step, self.slow_curves())
            self.tracker.text(progress.step, "written", marked(written, self.vocabulary.decode(self.ids)))
        if is_last:
            self.draw_inside(progress.step, self.ids[: EXCERPT + 1])
        return proven.known and config.stop_at_recall

    def standing(self) -> tuple[float, float | None]:
        if self.plan.clock.budget is None and self.settings.train.stop_at_recall:
            return (
                self.stands.proof.longest / self.plan.text_length,
                math.inf,
            )  # nobody knows when it will be known
        return super().standing()

    def closing_seconds(self) -> float:
        # two samples, and two free runs
        free_runs = 2 * self.stands.proof.longest
        return self.writing_seconds(PRINTED_CHARACTERS + SAMPLED_CHARACTERS + free_runs)

    def conclude(self) -> Figures:
        with self.signals.breaking_off():
            right = writer.recall(self.training.model.in_numpy(), self.vocabulary, self.ids)
            written = self._written(PRINTED_CHARACTERS)
            scores = before_and_after(self.plan, self.corpus, self.training.model)
        known, first = right == len(self.ids) - 1, self.stands.recalled_at_epoch
        figures = self.figures({"recalled_at_epoch": first, "recalled": known, "free_run": right} | scores)
        self.keep_best(self.training.model.weights(), figures)
        if not known and self.settings.train.budget is None:
            self.more = (f"train.epochs={2 * figures['epochs']}",)
        cut = "..." if len(self.ids) > PRINTED_CHARACTERS else ""
        log.info(f"\n{written}{cut}\n")
        log.info(self._verdict(figures, right), extra={"bold": True})
        say_before_and_after(figures)
        return figures

    def _written(self, most: int) -> str:
        return writer.likeliest(self.training.model.in_numpy(), self.vocabulary, min(len(self.ids), most))

    def _verdict(self, figures: Figures, right: int) -> str:
        spent = f"{figures['epochs']} epochs and {figures['train_seconds']:.1f} s"
        if figures["recalled"]:
            first = figures["recalled_at_epoch"]
            earlier = f" (for the first time after {first})" if first and first < figures["epochs"] else ""
            return (
                f"Exact: written back from the start token alone, end token included, after {spent}{earlier}."
            )
        return (
            f"Not by heart after {spent}: of its own writing, {right:,} of {self.plan.text_length + 1:,} "
            "characters (the end token counts as one) are right before the first error. Try more "
            "train.epochs, a larger model.hidden or another seed."
        )


def marked(written: str, text: str) -> dict[str, str]:
    """What a free run wrote of a text, under how far it is right; the first wrong one is in brackets."""
    both = zip(written, text, strict=False)
    right = next((k for k, (one, other) in enumerate(both) if one != other), min(len(written), len(text)))
    if right < len(written):
        wrong = f"{written[:right]}⟦{written[right]}⟧{written[right + 1 :]}"
        return {f"{right:,} characters right, then ⟦one⟧ wrong": wrong}
    ends = right < min(len(text), SAMPLED_CHARACTERS)
    return {f"{right:,} characters, all right{', then it ends too soon' * ends}": written}


def tried(
    progress: Progress, before: Proven, model: Model, vocabulary: Vocabulary, text: Ids
) -> tuple[Progress, Proven]:
    """Whether a text, ids `(N,)` between the start and the end token, is known by heart: fed only its own
    output from the start token, the model writes it. Returns the figures, with those of a free run if one is
    worth trying, and what is proven. Its cost is counted in characters: every machine tries the same."""
    affordable = FREE_CHARACTERS + progress.chars_seen * FREE_SHARE
    if before.known or progress.accuracy < WORTH_A_FREE_RUN or before.written > affordable:
        return progress, before
    right = writer.recall(model.in_numpy(), vocabulary, text)
    known = right == len(text) - 1
    proven = Proven(known=known, longest=max(before.longest, right), written=before.written + right + 1)
    return replace(progress, free_run=right, recalled=known), proven
