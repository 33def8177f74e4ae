"""One run of `task=memorize`: a text -> a complete run directory, and the proof that it is known by heart.

The counterpart of `run_lm.py`.
"""

import copy
import logging
from pathlib import Path
from typing import Any

from charlstm import corpus, resume, sampling, trainer
from charlstm.checkpoint import BEST
from charlstm.model import Model
from charlstm.progress import Progress
from charlstm.runtime import Stopped
from charlstm.session import Session, Weights, beginning, shown_machine
from charlstm.settings import Duration, TrainSettings
from charlstm.tracking import Tracker, say_next_steps
from charlstm.vocabulary import Vocabulary

log = logging.getLogger("charlstm")

PRINTED_CHARACTERS = 2000
SAMPLED_CHARACTERS = 200  # while training: writing takes longer than reading


def train(settings: TrainSettings, text: str, vocabulary: Vocabulary, path: Path) -> int:
    """Run `settings` and leave everything in the directory `path`; returns the exit code."""
    return Memorize(settings, text, vocabulary, path).run()


class Memorize(Session):
    """The run: figures of each epoch, and a free run after those that make one worth trying."""

    def __init__(self, settings: TrainSettings, text: str, vocabulary: Vocabulary, path: Path) -> None:
        data = corpus.fingerprint(text)
        resumed = resume.resumed(settings, vocabulary.characters, data)
        self.ids = vocabulary.encode_framed(text)
        config = settings.train.for_text(len(self.ids), settings.model.hidden)
        model, machine = beginning(settings, len(vocabulary), config.batch, resumed)
        log.info(f"{describe(settings, text, model)}; {shown_machine(machine)}")
        super().__init__(
            settings,
            path,
            vocabulary=vocabulary,
            text_length=len(text),
            data=data,
            training=trainer.of_text(model, self.ids, config),
            machine=machine,
            resumed=resumed,
        )
        self.proof = trainer.Proof(model, vocabulary, self.ids)
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
            right = sampling.recall(self.training.model.in_numpy(), self.vocabulary, self.ids)
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
        return sampling.likeliest(model, self.vocabulary, min(len(self.ids), most))

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


def describe(settings: TrainSettings, text: str, model: Model) -> str:
    """What will be learnt, and by what."""
    return f"{corpus.describe(settings.data, text)}; {model.describe()}"
