"""One run of `task=copy`: how many random symbols the state of a network can hold, found by longer and longer
sequences that it learns to write back."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from charlstm.checkpoint import BEST
from charlstm.config.settings import TrainSettings
from charlstm.config.values import Duration
from charlstm.model.numpy_model import NumpyModel
from charlstm.model.torch_model import Model
from charlstm.runs import resume
from charlstm.runs.report import say_next_steps, shown_machine
from charlstm.runs.run import Session, Weights, beginning
from charlstm.runs.tracker import Tracker
from charlstm.tasks import copy_sequences
from charlstm.tasks.copy_sequences import EXAMINATION, PROOF, SEQUENCES, TRAINING
from charlstm.tasks.memorize import WORTH_A_FREE_RUN
from charlstm.text.corpus import Fingerprint
from charlstm.training.loop import Training
from charlstm.training.optimizer import Average
from charlstm.training.progress import Progress
from charlstm.training.windows import Window

log = logging.getLogger("charlstm")

# Steps over which the weights that are examined are averaged: single steps shake what is nearly right.
AVERAGED = 100


def train(settings: TrainSettings, path: Path) -> int:
    """Run `settings` and leave everything in the directory `path`; returns the exit code."""
    return Copy(settings, path).run()


class Copy(Session):
    """The run. An epoch is one batch of new sequences, all of the length that is being learnt.

    Attributes:
        length: of the sequences that are trained on.
        longest: that an examination was passed with.
        share: of the symbols right in the latest examination.
        best: the weights that passed it.
    """

    def __init__(self, settings: TrainSettings, path: Path) -> None:
        vocabulary = copy_sequences.vocabulary(settings.copy.symbols)
        data = asdict(Fingerprint.of_text(vocabulary.characters))
        resumed = resume.resumed(settings, vocabulary.characters, data)
        config = settings.train
        model, machine = beginning(settings, len(vocabulary), config.batch, resumed)
        log.info(f"{describe(settings, model)}; {shown_machine(machine)}")
        self.length, self.longest, self.share = 1, 0, 0.0
        self.best: Weights = {}
        super().__init__(
            settings,
            path,
            vocabulary=vocabulary,
            text_length=0,
            data=data,
            training=Training(
                model,
                self._windows,
                config,
                steps=config.epochs,
                every=config.log_every,
                average=Average(model.parameters(), AVERAGED),
            ),
            machine=machine,
            resumed=resumed,
        )

    def _windows(self, epoch: int) -> list[Window]:
        seeds = (self.settings.seed, TRAINING, epoch)
        return [copy_sequences.window(self.vocabulary, self.length, self.settings.train.batch, seeds)]

    def window(self) -> int:
        return copy_sequences.steps(self.length)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        names = ("length", "longest", "share")
        weights = {f"best/{name}": array for name, array in self.best.items()}
        return {name: getattr(self, name) for name in names}, weights

    def put_back(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.best = {name[5:]: array for name, array in arrays.items() if name.startswith("best/")}
        if self.best:
            self.keep_best(self._figures())

    def handle(self, progress: Progress, tracker: Tracker) -> bool:
        budget = self.settings.train.budget
        is_over = budget is not None and progress.seconds >= Duration.seconds(budget)
        if progress.accuracy >= WORTH_A_FREE_RUN:  # fed with the true symbols, which is the easier task
            self._examine(progress)
        tracker.curves(
            progress.step,
            progress.curves()
            | {
                "copy/length": self.length,
                "copy/longest": self.longest,
                "copy/right": self.share,
                "copy/bits_per_hidden_unit": self._bits_per_unit(),
            },
        )
        shown = f"longest {self.longest:,}, {self.share:.1%} right of {self.length:,}, {progress.shown()}"
        tracker.advance(progress.epoch, shown)
        return is_over

    def _examine(self, progress: Progress) -> None:
        """Go on to the first length that the model does not pass."""
        weights, seeds = self._averaged(), (self.settings.seed, EXAMINATION, progress.epoch)
        model = NumpyModel(self.settings.model, weights)
        with self.signals.breaking_off():
            *passed, failed = copy_sequences.climb(model, self.vocabulary, self.length, seeds)
        self.length, self.share = failed
        if passed:
            self.longest, _ = passed[-1]
            self.best = weights
            self.keep_best(self._figures())
            self.signals.save_wanted = True

    def _bits_per_unit(self) -> float:
        return copy_sequences.bits_per_hidden_unit(
            self.longest, self.settings.copy.symbols, self.settings.model
        )

    def _figures(self) -> dict[str, Any]:
        """What `result.json` and the checkpoint keep."""
        assert self.progress is not None
        return self.progress.figures() | {
            "task": self.settings.task,
            "longest": self.longest,
            "symbols": self.settings.copy.symbols,
            "bits": copy_sequences.bits(self.longest, self.settings.copy.symbols),
            "bits_per_hidden_unit": self._bits_per_unit(),
            "params": self.training.model.parameter_count(),
            **self.machine,
        }

    def best_weights(self) -> Weights:
        return self.best or self._averaged()

    def _averaged(self) -> Weights:
        """A copy of the weights' average."""
        average = self.training.average
        assert average is not None
        names = (name for name, _ in self.training.model.named_parameters())
        return {n: a.cpu().numpy().copy() for n, a in zip(names, average.averages, strict=True)}

    def conclude(self) -> dict[str, Any]:
        # what passed one of many examinations may have passed by luck: what is said comes from a larger one
        # of its own, whose share of symbols right is known to some 0.05 %
        length, seeds = max(self.longest, 1), (self.settings.seed, PROOF)
        ids = copy_sequences.sequences(self.vocabulary, length, 10 * SEQUENCES, seeds)
        with self.signals.breaking_off():
            share = copy_sequences.right(
                NumpyModel(self.settings.model, self.best_weights()), self.vocabulary, ids
            )
        figures = self._figures() | {"accuracy": share}
        self.keep_best(figures)
        log.info(self._verdict(figures))
        say_next_steps(self.path / BEST, prompt=self.prompt)
        return figures

    @property
    def prompt(self) -> str:  # type: ignore[override]
        """Symbols to write back."""
        length = max(self.longest, 1)
        ids = copy_sequences.sequences(self.vocabulary, length, 1, (self.settings.seed, PROOF))
        return self.vocabulary.decode(ids[: length + 2, 0])

    def _verdict(self, figures: dict[str, Any]) -> str:
        symbols, share = figures["symbols"], figures["accuracy"]
        spent = f"{figures['epochs']:,} batches and {figures['train_seconds']:.1f} s"
        more = "Longer ones take more train.budget or a larger model.hidden."
        if not self.longest:
            return f"Nothing is copied after {spent}: {share:.1%} of single symbols come back right. {more}"
        return (
            f"Copied: {self.longest:,} random symbols out of {symbols}, read and then written back, "
            f"{share:.1%} of them right, after {spent}. "
            f"That is {figures['bits']:.0f} bits, {figures['bits_per_hidden_unit']:.2f} per hidden unit; "
            f"Collins et al. (2016) found room for about one real number. {more}"
        )


def describe(settings: TrainSettings, model: Model) -> str:
    """What will be learnt, and by what."""
    return f"sequences of {settings.copy.symbols} random symbols, to be written back; {model.describe()}"
