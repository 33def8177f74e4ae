"""One run in its directory: the loop that all tasks share, from the lock to `result.json`."""

import dataclasses
import itertools
import logging
import math
import shutil
import signal
from abc import ABC, abstractmethod
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.cells.gates import layer_of
from charlstm.checkpoint import BEST, LAST, Checkpoint, CheckpointError
from charlstm.config.convert import values_of
from charlstm.progress_bar import Bar
from charlstm.runs import directory, snapshot
from charlstm.runs.initial import COMPARED
from charlstm.runs.plan import Plan
from charlstm.runs.report import Outcome, write_result
from charlstm.runs.saving import Saving, attempt
from charlstm.runs.signals import Stopped, StopSignals
from charlstm.runs.tracker import Tracker
from charlstm.state import Course, Provenance, TrainingState
from charlstm.text.vocabulary import Ids
from charlstm.training import machine, memory
from charlstm.training.loop import DivergedError, Training
from charlstm.training.progress import Figures, Progress, finite
from charlstm.training.schedule import Settling

log = logging.getLogger("charlstm")

ENDING = 0.7  # seconds: closing files, the last lines, the end of a process that has torch
DRAWING = 0.5  # of these for TensorBoard's last pictures
SAVED = 100e6  # bytes a second

# What TensorBoard's table of runs has of settings, by the beginning of their keys, and of figures.
SHOWN_SETTINGS = ("task", "data.path", "data.text", "data.unit", "data.records", "model.", "train.", "seed")
LAST_FIGURES = ["bits_per_char", "bits_per_byte", "accuracy", "valid_bpc", "test_bpc", "recalled", "free_run"]
LAST_FIGURES += ["longest", "bits_per_hidden_unit", "params", "steps", "train_seconds"]

EXCERPT = 48  # ids, about, that pictures show the model reading

Weights = dict[str, NDArray[np.float32]]  # by the names of the model's parameters


class Run(ABC):
    """One run of a plan in the directory `path`; the task says what becomes of its figures."""

    stands: Any  # what of the task must be known to resume it, besides the best weights: a `TaskState`
    prompt = ""  # what `sample.py` needs for the model to write
    more: tuple[str, ...] | None = None  # the keys to resume it with, where that would be worth while

    def __init__(self, plan: Plan, path: Path, training: Training) -> None:
        self.plan, self.path, self.training = plan, path, training
        self.settings, self.vocabulary, self.resumed = plan.settings, plan.vocabulary, plan.resumed
        self.signals = StopSignals(training.processes is None)
        self.progress: Progress | None = None  # the latest figures
        self.best: Weights = {}  # so far, of a task that has such
        self._pending: Progress | None = None
        self._finished = False
        self._unsaved_best: str | None = None

    @abstractmethod
    def handle(self, progress: Progress) -> bool:
        """Show and score what the figures say; returns whether the task has come to its end."""

    @abstractmethod
    def conclude(self) -> Figures:
        """After training: score and say what came of it; returns the final figures."""

    def put_back(self, state: Any) -> None:
        """Take over what an earlier run left in `stands`; the best weights are there already."""
        self.stands = state

    def standing(self) -> tuple[float, float | None]:
        """How much is done, 0 to 1, and the seconds that are left, as `Bar` has them."""
        return self.training.share, self.training.seconds_left

    def go(self) -> Outcome:
        """From the beginning, or where an earlier run stopped, to the end."""
        with directory.owned(self.path), self.signals:
            try:
                # in a directory where a run was killed before it was first saved there are curves of it
                first = self._resume() if self.resumed is not None else 0
                self._saving = Saving(self.training, self.path, self.settings, self.resumed)
                with Tracker(self.path, self.standing, first, self.settings.tensorboard) as self.tracker:
                    self._train()
                if self.signals.received is None:
                    self.progress = self.progress or self.training.take_figures()
                    with Bar(log.info, None, "scoring") as self.wait:
                        figures = self.conclude()
                    return self._finish(figures)
            except Stopped:
                pass
            except (DivergedError, FloatingPointError) as error:
                return self._diverged(error)
            except ConnectionError as error:
                log.error(f"error: {error}. What was saved last is there.")
                return Outcome(1, False, self.path / LAST if (self.path / LAST).exists() else None, ())
            return self._stopped()

    @abstractmethod
    def closing_seconds(self) -> float:
        """What comes after the last step takes about so long, but for saving."""

    def writing_seconds(self, characters: int) -> float:
        """What writing takes, about, on a usual machine that does something else, too."""
        return characters * (3e-5 + 8e-10 * self.plan.parameters)

    def saving_seconds(self) -> float:
        """What saving the last state and the best weights takes, about."""
        return 8 * 4 * self.plan.parameters / SAVED  # bytes: with moments and averages, in two files

    def keep_time(self) -> None:
        """With a budget, reserve the time that the end of the run will take."""
        if self.plan.clock.budget is not None:
            compared = self.writing_seconds(COMPARED) if self.plan.initial else 0.0
            drawing = DRAWING * self.settings.tensorboard
            self.plan.clock.reserve = ENDING + drawing + compared + self.saving_seconds()
            self.plan.clock.reserve += self.closing_seconds()

    def weights(self, averaged: bool) -> Weights:
        """A copy of those that are trained, or of their average."""
        optimizer, average = self.training.optimizer, self.training.average
        tensors = average.averages if average is not None and averaged else optimizer.parameters
        named = zip(optimizer.names, tensors, strict=True)
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in named}

    def figures(self, own: Figures) -> Figures:
        """What `result.json` and the checkpoint keep: the task's own figures among those of all tasks."""
        assert self.progress is not None
        common = {"params": self.plan.parameters, **vars(self.plan.machine)}
        return {**self.progress.figures(self.vocabulary.unit), "task": self.settings.task, **own, **common}

    def slow_curves(self) -> dict[str, float]:
        """What TensorBoard draws now and then: the norm of each layer's weights, and the memory in MiB."""
        squares = defaultdict[str, float](float)
        for name, weight in self.training.model.weights().items():
            # in float64: how float32 is summed up depends on where it lies in memory
            squares[layer_of(name)] += float(np.square(weight, dtype=np.float64).sum())
        norms = {f"weight_norm/{layer}": math.sqrt(square) for layer, square in squares.items()}
        return norms | {"train/peak_memory_MiB": memory.peak() / 2**20}

    def draw_inside(self, step: int, ids: Ids) -> None:
        """For TensorBoard, rarely: the weights, and what the model computes while it reads `ids (T,)`, always
        the same: a start token, and at most `EXCERPT` others."""

        def draw(writer: Any) -> None:
            from charlstm.runs import inside  # with Pillow

            weights = self.training.model.weights()
            inside.draw(writer, step, self.settings.model, weights, self.vocabulary, ids)
            inside.save_vectors(self.path, weights, self.vocabulary)

        self.tracker.draw(draw)

    def keep_best(self, weights: Weights, figures: Figures) -> None:
        """Make `best.safetensors`, or note why that is not possible."""
        trained, path = self._model_file(weights, figures), self.path / BEST
        self._unsaved_best = attempt(path, trained, checkpoint.save, trained, path)

    def _train(self) -> None:
        """Train to the end, or until a signal; where numbers go wrong, go back and train again."""
        self.keep_time()
        self.training.plan_steps()
        while True:
            try:
                self._loop()
                return
            except DivergedError as error:
                self._go_back(error)

    def _loop(self) -> None:
        """For each figure: show and score it, stop, or save. One that was not dealt with to its end is saved
        with the state, and comes first when the run is resumed."""
        training, signals = self.training, self.signals
        for progress in itertools.chain([self._pending], training.figures(self._wants_pause)):
            self._pending = progress
            if progress is not None:
                try:
                    self._handle(progress)
                except Stopped:
                    break
            if self._finished or training.step >= training.steps or signals.received is not None:
                break
            if signals.save_wanted or self._saving.is_due():
                self._save()
        self._save()

    def _handle(self, progress: Progress) -> None:
        if progress.skipped:
            log.warning(
                f"At step {progress.step}: the loss or a gradient was no finite number in {progress.skipped} "
                "of the last steps, which were left out."
            )
        self.progress = progress
        try:
            self._finished = self.handle(progress) or self._finished
        except FloatingPointError as error:  # of a model that was to write
            raise DivergedError(f"{error} at step {progress.step}") from None
        self._pending = None
        if self.training.step < self.training.steps:
            self.keep_time()

    def _wants_pause(self) -> bool:
        self.tracker.advance()
        signals = self.signals
        if self.training.processes is not None and self.training.processes.wants_to_stop:
            signals.received = signals.received or signal.SIGTERM
        return signals.received is not None or signals.save_wanted or self._saving.is_due()

    def _save(self) -> None:
        state = self._saving.take()
        self.signals.save_wanted = False
        self.tracker.flush()  # whoever resumes from here draws only what comes later
        self._saving.write(self._as_checkpoint(state))

    def _go_back(self, error: DivergedError) -> None:
        self._pending = None
        try:
            self._saving.go_back(error)
        except DivergedError:
            self._save()
            raise
        self.tracker.go_back(self.training.step)

    def _resume(self) -> int:
        """Put everything back as it was saved; returns the first step from which on there are no curves."""
        resumed = self.resumed
        assert resumed is not None
        state, arrays = resumed.state, resumed.trained.arrays
        taken = snapshot.Snapshot(resumed.trained.weights, arrays, state.numbers)
        snapshot.put_back(taken, self.training, resumed.same_place)
        self._pending = state.driver.pending
        self._finished = state.driver.finished and resumed.same_training  # what ended it may do so no more
        self.progress = self._pending or state.progress
        self.best = {name[5:]: array for name, array in arrays.items() if name.startswith("best/")}
        self.put_back(state.task)
        if not resumed.unchanged("train.lr"):
            self.training.lr_factor, self.training.settling = 1.0, Settling()
        before = resumed.path.parent  # whose curves are taken over, where they can be had
        events = before.glob("events.out.tfevents.*") if before.resolve() != self.path.resolve() else ()
        for file in sorted(events):
            try:
                shutil.copyfile(file, self.path / file.name)
            except OSError as error:
                log.warning(f"{file}: not taken over: {error.strerror}")
        return self.training.step + (self._pending is None)

    def _as_checkpoint(self, state: snapshot.Snapshot) -> Checkpoint:
        best = {f"best/{name}": array for name, array in self.best.items()}
        figures = self.progress.figures(self.vocabulary.unit) if self.progress else {}
        return dataclasses.replace(
            self._model_file(state.weights, figures),
            arrays={**state.arrays, **best},
            training=TrainingState(
                numbers=state.numbers,
                driver=Course(
                    pending=self._pending,
                    finished=self._finished,
                    returns=self._saving.returns,
                    spent=self.plan.clock.spent(),
                ),
                progress=self.progress,
                task=self.stands,
                settings=self.settings,
                data=self.plan.data,
                folder=str(Path.cwd()),
                provenance=Provenance(**machine.versions(), **vars(self.plan.machine)),
            ),
        )

    def _model_file(self, weights: Weights, figures: Figures) -> Checkpoint:
        """A checkpoint that can only be used."""
        provenance = {**machine.versions(), "seed": self.settings.seed}
        if (origin := self.plan.initial.origin if self.plan.initial else self.settings.init) is not None:
            provenance["init"] = origin
        return Checkpoint(
            config=self.settings.model,
            vocabulary=self.vocabulary,
            task=self.settings.task,
            text_length=self.plan.text_length,
            records=self.settings.data.records,
            figures=finite(figures),
            provenance=provenance,
            weights=weights,
        )

    def _finish(self, figures: Figures) -> Outcome:
        if lost := [name for name, value in figures.items() if finite({name: value}) != {name: value}]:
            log.warning(f"Not finite, and null in result.json: {', '.join(lost)}.")
        figures = finite(figures)
        last = {name: figures[name] for name in LAST_FIGURES if figures.get(name) is not None}
        decided = dataclasses.replace(self.settings, train=self.plan.config)
        told_apart = (*SHOWN_SETTINGS, f"{decided.task}.")  # copy.symbols
        shown = {key: value for key, value in values_of(decided).items() if key.startswith(told_apart)}
        self.tracker.conclude(self.training.step, shown | vars(self.plan.machine), last)
        figures["checkpoint"] = str(self.path / BEST)
        if self.resumed is not None:
            figures["resumed_from"] = str(self.resumed.path)
        unsaved = self._saving.unsaved or self._unsaved_best
        try:
            write_result(self.path, figures)
        except OSError as error:
            unsaved = unsaved or f"{self.path / 'result.json'}: not saved: {error.strerror}"
        if unsaved:
            log.error(f"error: {unsaved}")
        code = 1 if unsaved else self.signals.exit_code()
        best = None if self._unsaved_best else self.path / BEST
        # asked to stop when all was done, this run is whole, but what would come after it is not wanted
        stopped, steps = self.signals.received is not None, self.training.step
        return Outcome(code, stopped, best, self.more, self.prompt, steps)

    def _unsaved(self) -> str | None:
        """Why there is no last state of this run that can be read; None: there is."""
        try:
            checkpoint.load(self.path / LAST)
        except CheckpointError as error:
            return self._saving.unsaved or str(error)
        return self._saving.unsaved

    def _stopped(self) -> Outcome:
        name = signal.Signals(self.signals.received or signal.SIGTERM).name
        said = f"Stopped by {name} after step {self.training.step:,}"
        if unsaved := self._unsaved():
            log.error(f"{said}; error: {unsaved}")
            return Outcome(1, stopped=True)
        log.info(f"{said}; everything is saved. So far: {self.tracker.figures}.")
        return Outcome(self.signals.exit_code(), True, self.path / LAST, (), self.prompt)

    def _diverged(self, error: ArithmeticError) -> Outcome:
        if unsaved := self._unsaved():
            log.error(f"error: {error}. The last good state could not be saved: {unsaved}")
            return Outcome(1)
        log.error(f"error: {error}. The last good state is saved.")
        slower = f"train.lr={self.training.config.peak_lr / 10:g}"
        return Outcome(1, False, self.path / LAST, (slower,), self.prompt)
