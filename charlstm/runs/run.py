"""What runs of all tasks share: a directory of their own, signals, an earlier run to go on from, the end."""

import dataclasses
import logging
import signal
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.checkpoint import BEST, LAST, Checkpoint
from charlstm.config.settings import TrainSettings
from charlstm.config.values import as_mapping
from charlstm.model.torch_model import Model
from charlstm.runs import directory, snapshot
from charlstm.runs.report import continue_curves, say_next_steps, shown, versions, write_result
from charlstm.runs.resume import Resumed
from charlstm.runs.saving import Driver, attempt
from charlstm.runs.signals import Stopped, StopSignals
from charlstm.runs.snapshot import Snapshot
from charlstm.runs.tracker import Tracker
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import machine, memory
from charlstm.training.loop import DivergedError, Training
from charlstm.training.progress import Progress
from charlstm.training.schedule import Settling

log = logging.getLogger("charlstm")

Weights = dict[str, NDArray[np.float32]]
"""Arrays by the names of the model's parameters."""


class Session(ABC):
    """One run of a task in its directory; the task says what becomes of its figures.

    Args:
        settings: all of them.
        path: the run directory.
        vocabulary: of the text.
        text_length: characters of the text that is trained on.
        data: size and SHA-256 of the text.
        training: at its beginning.
        machine: threads, precision and device.
        resumed: the run to go on from.
    """

    unit = "epoch"
    prompt = ""  # what `sample.py` needs for the model to write

    def __init__(
        self,
        settings: TrainSettings,
        path: Path,
        *,
        vocabulary: Vocabulary,
        text_length: int,
        data: dict[str, Any],
        training: Training,
        machine: dict[str, Any],
        resumed: Resumed | None,
    ) -> None:
        self.settings, self.path, self.resumed = settings, path, resumed
        self.vocabulary, self.text_length, self.data = vocabulary, text_length, data
        self.training, self.machine = training, machine
        self.signals = StopSignals()
        self.progress: Progress | None = None
        self.unsaved_best: str | None = None

    @abstractmethod
    def handle(self, progress: Progress, tracker: Tracker) -> bool:
        """Do what is to be done with figures; returns whether training has reached its end."""

    @abstractmethod
    def conclude(self) -> dict[str, Any]:
        """After training: score and say what came of it; returns the final figures."""

    @abstractmethod
    def best_weights(self) -> Weights:
        """Those of the model that the run is for."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What of the task must be known to go on: as JSON knows it, and arrays."""

    @abstractmethod
    def put_back(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Go on from such a state."""

    def done(self) -> int:
        """How many units of the progress bar are done."""
        return self.training.epoch

    def window(self) -> int:
        """How many steps gradients flow back through."""
        return self.training.config.longest_window(self.text_length)

    def run(self) -> int:
        """From the beginning, or where an earlier run stopped, to the end; returns the exit code."""
        unsaved = None
        with directory.owned(self.path), self.signals:
            try:
                unsaved = self._train()
                if self.signals.received is None:
                    figures = self.conclude()
                    # asked to stop when all was done: this run is whole, but what would come after it is not
                    # wanted
                    return self._finish(figures, unsaved) or self.signals.exit_code()
            except Stopped:
                pass
            except (DivergedError, FloatingPointError) as error:
                log.error(
                    f"error: {error}. The last good state is saved; to go on from it: python train.py "
                    f"resume={shown(self.path)} train.lr={self.training.config.peak_lr / 10:g}"
                )
                return 1
            except (MemoryError, RuntimeError) as error:
                if not machine.is_out_of_memory(error):
                    raise
                log.error(f"error: {self._out_of_memory()}")
                return 1
            name = signal.Signals(self.signals.received or signal.SIGTERM).name
            if unsaved is None:
                log.info(f"Stopped by {name} after step {self.training.step:,}; everything is saved.")
                say_next_steps(self.path / LAST, go_on=True, prompt=self.prompt)
                return self.signals.exit_code()
            log.error(f"Stopped by {name} after step {self.training.step:,}; error: {unsaved}")
            sys.exit(1)  # returned, it would not keep the other runs of a sweep from being begun

    def _train(self) -> str | None:
        """Returns why the last state could not be saved, if so."""

        def as_checkpoint(state: Snapshot, driver_state: dict[str, Any]) -> Checkpoint:
            tracker.flush()  # whoever goes on from here draws only what comes later
            return self._as_checkpoint(state, driver_state)

        driver = Driver(
            self.training,
            self.path,
            save=self.settings.save,
            on_nonfinite=self.settings.train.on_nonfinite,
            signals=self.signals,
            as_checkpoint=as_checkpoint,
            went_back=lambda step: tracker.go_back(step, self.done()),
        )
        # in a directory where a run was killed before it was first saved there are curves of it
        from_step = self._go_on(driver) if self.resumed is not None else 0
        total = self.training.steps if self.unit == "step" else self.settings.train.epochs
        curves = self.settings.tensorboard
        with Tracker(self.path, total, self.unit, self.done(), from_step, curves) as tracker:

            def handle(progress: Progress) -> bool:
                self.progress = progress
                try:
                    return self.handle(progress, tracker)
                except FloatingPointError as error:  # of a model that was to write
                    raise DivergedError(f"{error} at step {progress.step}") from None

            driver.drive(handle)
        return driver.unsaved

    def _go_on(self, driver: Driver) -> int:
        """Put everything back as it was saved; returns the first step from which on there are no curves."""
        resumed = self.resumed
        assert resumed is not None
        trained, training = resumed.trained, resumed.training
        state = Snapshot(trained.weights, trained.arrays, training["numbers"])
        snapshot.put_back(state, self.training, resumed.same_place)
        driver.put_back(training["driver"])
        self.progress = driver.pending or (Progress(**training["progress"]) if training["progress"] else None)
        self.put_back(training["task"], trained.arrays)
        if not resumed.same_training:  # what ended it may do so no more
            driver.finished, driver.returns = False, 0
        if not resumed.unchanged("train.lr"):
            self.training.lr_factor, self.training.settling = 1.0, Settling()
        continue_curves(resumed.path.parent, self.path)
        log.info(f"Going on from step {self.training.step:,} of {resumed.path}.")
        for difference in resumed.differences(versions() | self.machine):
            log.info(f"  {difference}")
        return self.training.step + (driver.pending is None)

    def _as_checkpoint(self, state: Snapshot, driver: dict[str, Any]) -> Checkpoint:
        task, arrays = self.state()
        return dataclasses.replace(
            self._model_file(state.weights, self.progress.figures() if self.progress else {}),
            arrays=state.arrays | arrays,
            training={
                "numbers": state.numbers,
                "driver": driver,
                "progress": vars(self.progress) if self.progress else None,
                "task": task,
                "settings": as_mapping(self.settings),
                "data": self.data,
                "folder": str(Path.cwd()),
                "provenance": versions() | self.machine,
            },
        )

    def _model_file(self, weights: Weights, figures: dict[str, Any]) -> Checkpoint:
        """A checkpoint that can only be used."""
        return Checkpoint(
            config=self.settings.model,
            vocabulary=self.vocabulary,
            task=self.settings.task,
            text_length=self.text_length,
            figures=figures,
            provenance=versions() | {"seed": self.settings.seed},
            weights=weights,
            records=self.settings.data.records,
        )

    def _finish(self, figures: dict[str, Any], unsaved: str | None) -> int:
        figures |= {"checkpoint": str(self.path / BEST)}
        if self.resumed is not None:
            figures |= {"resumed_from": str(self.resumed.path)}
        unsaved = unsaved or self.unsaved_best
        try:
            write_result(self.path, figures)
        except OSError as error:
            unsaved = unsaved or f"{self.path / 'result.json'}: not saved: {error.strerror}"
        if unsaved:
            log.error(f"error: {unsaved}")
        return 1 if unsaved else 0

    def keep_best(self, figures: dict[str, Any]) -> None:
        """Make `best.safetensors`, or note why that is not possible."""
        trained, path = self._model_file(self.best_weights(), figures), self.path / BEST
        self.unsaved_best = attempt(lambda: checkpoint.save(trained, path), path, trained)

    def _out_of_memory(self) -> str:
        settings, V = self.settings, len(self.vocabulary)
        config = self.training.config
        advice = memory.advice(settings.model, config, V, self.window(), memory.physical() // 2)
        return f"out of memory at step {self.training.step + 1}; {advice}. What was saved before is untouched"


def beginning(
    settings: TrainSettings, vocabulary_size: int, streams: int, resumed: Resumed | None
) -> tuple[Model, dict[str, Any]]:
    """A model with its first weights, and what it is trained on: device, precision, threads, as before if
    that run was resumed.

    Args:
        vocabulary_size: V.
        streams: B.
    """
    device = machine.choose_device(settings.device)
    threads = machine.choose_threads(settings.threads, settings.model.hidden, streams)
    if resumed is not None and resumed.unchanged("threads"):
        threads = resumed.training["provenance"]["threads"]
    machine.prepare(settings.seed, threads)
    model = Model(settings.model, vocabulary_size, settings.train.dropout).to(device)
    model.add_forget_bias(settings.train.forget_bias)
    return model, {"device": str(device), "precision": "float32", "threads": threads}
