"""One run of `task=memorize`: a text -> a complete run directory, and the proof that it is known by heart.

The counterpart of `run_lm.py`.
"""

import copy
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from charlstm.checkpoint import BEST
from charlstm.config.settings import TrainSettings
from charlstm.config.values import Duration
from charlstm.model.torch_model import Model
from charlstm.runs import resume
from charlstm.runs.report import say_next_steps, shown_machine
from charlstm.runs.run import Session, Weights, beginning
from charlstm.runs.signals import Stopped
from charlstm.runs.tracker import Tracker
from charlstm.sampling import writer
from charlstm.text.corpus import Corpus, framed
from charlstm.text.vocabulary import Ids, Vocabulary
from charlstm.training import loop
from charlstm.training.progress import Progress

log = logging.getLogger("charlstm")

PRINTED_CHARACTERS = 2000
SAMPLED_CHARACTERS = 200  # while training: writing takes longer than reading


def train(settings: TrainSettings, corpus: Corpus, path: Path) -> int:
    """Run `settings` and leave everything in the directory `path`; returns the exit code."""
    return Memorize(settings, corpus, path).run()


class Memorize(Session):
    """The run: figures of each epoch, and a free run after those that make one worth trying."""

    def __init__(self, settings: TrainSettings, corpus: Corpus, path: Path) -> None:
        data, vocabulary = asdict(corpus.data), corpus.vocabulary
        resumed = resume.resumed(settings, vocabulary.characters, data)
        self.ids = framed(corpus)
        config = settings.train.for_text(len(self.ids), settings.model.hidden)
        model, machine = beginning(settings, len(vocabulary), config.batch, resumed)
        log.info(f"{describe(corpus, model)}; {shown_machine(machine)}")
        super().__init__(
            settings,
            path,
            vocabulary=vocabulary,
            text_length=len(corpus.ids),
            data=data,
            training=loop.of_text(model, self.ids, config),
            machine=machine,
            resumed=resumed,
        )
        self.proof = Proof(model, vocabulary, self.ids)
        self.recalled_at_epoch: int | None = None

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        names = ("known", "longest", "written")
        proof = {name: getattr(self.proof, name) for name in names}
        return {"recalled_at_epoch": self.recalled_at_epoch, "proof": proof}, {}

    def put_back(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        del arrays
        assert self.resumed is not None
        if self.resumed.same_parts:  # another text is not known by heart
            self.recalled_at_epoch = state["recalled_at_epoch"]
            for name, value in state["proof"].items():
                setattr(self.proof, name, value)

    def handle(self, progress: Progress, tracker: Tracker) -> bool:
        config = self.settings.train
        is_over = config.budget is not None and progress.seconds >= Duration.seconds(config.budget)
        before = copy.copy(self.proof)
        try:
            with self.signals.breaking_off():
                progress = self.proof.tried(progress)
                is_last = progress.recalled or is_over or self.training.step == self.training.steps
                sampled = progress.epoch % config.sample_every == 0 or is_last
                written = self._written(SAMPLED_CHARACTERS) if sampled and self.settings.tensorboard else None
        except Stopped:
            self.proof = before  # it will be tried again
            raise
        if progress.recalled:
            self.recalled_at_epoch = progress.epoch
        tracker.advance(progress.epoch, self._shown(progress))
        if progress.epoch % config.log_every == 0 or progress.recalled:
            tracker.curves(progress.step, progress.curves())
        if written is not None:
            tracker.text(progress.step, "written", written)
        return is_over or (self.proof.known and config.stop_at_recall)

    def _shown(self, progress: Progress) -> str:
        """What stands beside the progress bar."""
        longest = f", free run {self.proof.longest:,} of {self.text_length:,}" if self.proof.longest else ""
        return progress.shown() + longest

    def best_weights(self) -> Weights:
        return self.training.model.weights()

    def conclude(self) -> dict[str, Any]:
        assert self.progress is not None
        with self.signals.breaking_off():
            right = writer.recall(self.training.model.in_numpy(), self.vocabulary, self.ids)
            written = self._written(PRINTED_CHARACTERS)
        figures = self.progress.figures() | {
            "recalled_at_epoch": self.recalled_at_epoch,
            "task": self.settings.task,
            "recalled": right == len(self.ids) - 1,
            "free_run": right,
            "params": self.training.model.parameter_count(),
            **self.machine,
        }
        self.keep_best(figures)
        cut = "..." if len(self.ids) > PRINTED_CHARACTERS else ""
        log.info(f"\n{written}{cut}\n")
        log.info(self._verdict(figures, right))
        say_next_steps(self.path / BEST)
        return figures

    def _written(self, most: int) -> str:
        """What the model writes from the start token, taking the likeliest character each time."""
        model = self.training.model.in_numpy()
        return writer.likeliest(model, self.vocabulary, min(len(self.ids), most))

    def _verdict(self, figures: dict[str, Any], right: int) -> str:
        spent = f"{figures['epochs']} epochs and {figures['train_seconds']:.1f} s"
        if figures["recalled"]:
            first = figures["recalled_at_epoch"]
            earlier = f" (for the first time after {first})" if first and first < figures["epochs"] else ""
            return (
                f"Exact: written back from the start token alone, end token included, after {spent}{earlier}."
            )
        return (
            f"Not by heart after {spent}: of its own writing, {right:,} of {self.text_length + 1:,} "
            "characters (the end token counts as one) are right before the first error. Try more "
            "train.epochs, a larger model.hidden or another seed."
        )


def describe(corpus: Corpus, model: Model) -> str:
    """What will be learnt, and by what."""
    return f"{corpus.describe_text()}; {model.describe()}"


class Proof:
    """Whether a text is known by heart: fed only its own output from the start token, the model writes it.

    Free runs are tried as long as they cost little beside the training, counted in characters, so that every
    machine tries the same.

    Args:
        text: ids `(N,)`, between the start and the end token.

    Attributes:
        known: whether a free run was exact.
        longest: characters before the first error of the best free run so far.
        written: by all free runs.
    """

    def __init__(self, model: Model, vocabulary: Vocabulary, text: Ids) -> None:
        self.model, self.vocabulary, self.text = model, vocabulary, text
        self.known, self.longest, self.written = False, 0, 0

    def tried(self, progress: Progress) -> Progress:
        """The same figures, with those of a free run if it is worth trying; `recalled` is true but once."""
        affordable = FREE_CHARACTERS + progress.chars_seen * FREE_SHARE
        if self.known or progress.accuracy < WORTH_A_FREE_RUN or self.written > affordable:
            return progress
        right = writer.recall(self.model.in_numpy(), self.vocabulary, self.text)
        self.known = right == len(self.text) - 1
        self.longest, self.written = max(self.longest, right), self.written + right + 1
        return replace(progress, free_run=right, recalled=self.known)


# A free run stops at its first error, so trying one is cheap; but it is pointless while, fed with the true
# text, the model still gets this share of the characters wrong.
WORTH_A_FREE_RUN = 0.9


# Characters that free runs may write: so many in any case, and as many for each character that is trained on.
FREE_CHARACTERS, FREE_SHARE = 20_000, 0.02
