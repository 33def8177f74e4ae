"""One run of `task=lm`: a corpus -> a complete run directory, its scores and what they are worth.

The counterpart of `run_memorize.py`.
"""

import copy
import logging
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.checkpoint import BEST
from charlstm.config.settings import TrainSettings
from charlstm.model.scores import NATS_PER_BIT
from charlstm.model.torch_model import Model
from charlstm.progress_bar import progress_bar
from charlstm.runs import resume
from charlstm.runs.report import say_next_steps
from charlstm.runs.resume import Resumed
from charlstm.runs.run import Session, Weights
from charlstm.runs.tracker import Tracker
from charlstm.sampling.strategy import Strategy
from charlstm.sampling.writer import Passage, Writer, mask, stream
from charlstm.scoring import baselines, held_out
from charlstm.tasks.plan import Job
from charlstm.text.corpus import Corpus
from charlstm.training import streams
from charlstm.training.loop import DivergedError
from charlstm.training.optimizer import Average
from charlstm.training.progress import Progress

log = logging.getLogger("charlstm")

SAMPLE_CHARACTERS = 400


@dataclass
class Best:
    """The best weights so far.

    Attributes:
        nats: on the valid part, per scored symbol.
        step: that they were found at.
        averaged: whether they are averages.
        weights: by name.
    """

    nats: float
    step: int
    averaged: bool
    weights: dict[str, NDArray[np.float32]]


def train(settings: TrainSettings, dataset: Corpus, path: Path) -> int:
    """Run `settings` and leave everything in the directory `path`; returns the exit code."""
    resumed = resume.resumed(settings, dataset.vocabulary.characters, asdict(dataset.data))
    return LanguageModel(Job(settings, dataset, resumed), resumed, path).run()


class LanguageModel(Session):
    """The run: figures of every few steps, a score of the valid part now and then, the best weights kept."""

    unit = "step"

    def __init__(self, job: Job, resumed: Resumed | None, path: Path) -> None:
        for line in job.describe():
            log.info(line)
        self.job = job
        # scores are those of a copy: whatever becomes of a score, training does not notice
        self.scored = copy.deepcopy(job.model)
        config = job.config
        average = Average(job.model.parameters(), config.averaging * job.steps) if config.averaging else None
        super().__init__(
            job.settings,
            path,
            vocabulary=job.vocabulary,
            text_length=len(job.dataset.train),
            data=asdict(job.dataset.data),
            training=streams.of_corpus(
                job.model,
                job.dataset.train,
                job.start,
                config,
                steps=job.steps,
                every=job.every,
                average=average,
                autocast=job.autocast,
                seed=job.settings.seed,
            ),
            machine={"device": str(job.device), "precision": job.precision, "threads": job.threads},
            resumed=resumed,
        )
        self.found, self.since_best = Best(math.inf, 0, False, {}), 0

    def done(self) -> int:
        return self.training.step

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        best = vars(self.found) | {"nats": self.found.nats if self.found.weights else None}
        best.pop("weights")
        weights = {f"best/{name}": array for name, array in self.found.weights.items()}
        return {"best": best, "since_best": self.since_best, "decided": self.job.decided()}, weights

    def put_back(self, state: dict[str, Any], arrays: dict[str, Any]) -> None:
        weights = {name[5:]: array for name, array in arrays.items() if name.startswith("best/")}
        assert self.resumed is not None
        if weights and self.resumed.same_parts:
            self.since_best = state["since_best"]
            self.found = Best(**state["best"], weights=weights)
            self.keep_best(self._figures())

    def handle(self, progress: Progress, tracker: Tracker) -> bool:
        is_last = progress.step == self.job.steps
        is_scored = progress.step % self.job.evaluate_every == 0 or is_last
        if is_scored:
            with self.signals.breaking_off():
                found = self._evaluate(progress)
                if not math.isfinite(found.nats):
                    raise DivergedError(f"the loss on the valid part is {found.nats} at step {progress.step}")
                # one of a symbol that the valid part has not leaves no trace in its loss
                if not all(np.isfinite(weight).all() for weight in found.weights.values()):
                    raise DivergedError(f"a weight is not finite at step {progress.step}")
                text = written(self.job, self.training.model) if self.settings.tensorboard else ""
        tracker.curves(progress.step, progress.curves())
        if is_scored:
            self._compare(found)
            tracker.curves(progress.step, {"valid/bits_per_char": found.nats / NATS_PER_BIT})
            tracker.text(progress.step, "written", text)
        valid = f", valid {self.found.nats / NATS_PER_BIT:.3f}" if self.found.weights else ""
        speed = f"{progress.chars_per_second:,.0f} chars/s"
        tracker.advance(progress.step, f"{progress.bits_per_char:.3f} bits/char{valid}, {speed}")
        patience = self.job.config.patience
        return patience is not None and self.since_best >= patience

    def _compare(self, found: Best) -> None:
        """Keep what is better than all before."""
        self.since_best += 1
        if found.nats < self.found.nats:
            self.found, self.since_best = found, 0
            self.keep_best(self._figures())
            self.signals.save_wanted = True

    def _evaluate(self, progress: Progress) -> Best:
        """The score of the weights or of their average, whichever is better on the valid part.

        Where there is none, the average is taken as it is, under the loss of the training.
        """
        valid, start = self.job.dataset.valid, self.vocabulary.start

        def score(weights: Iterable[Tensor], averaged: bool) -> Best:
            with torch.no_grad():
                for mine, weight in zip(self.scored.parameters(), weights, strict=True):
                    mine.copy_(weight)
            nats = held_out.carried(self.scored, valid, start).nats if len(valid) else progress.loss
            weights_now = {name: array.copy() for name, array in self.scored.weights().items()}
            return Best(nats, progress.step, averaged, weights_now)

        plain = score(self.training.model.parameters(), False)
        if self.training.average is None:
            return plain
        averaged = score(self.training.average.averages, True)
        return min(averaged, plain, key=lambda best: best.nats)

    def _figures(self) -> dict[str, Any]:
        """What `result.json` and the checkpoint keep."""
        assert self.progress is not None
        has_valid = len(self.job.dataset.valid) > 0
        return self.progress.figures() | {
            "task": self.settings.task,
            "valid_nats": self.found.nats if has_valid else None,
            "valid_bpc": self.found.nats / NATS_PER_BIT if has_valid else None,
            "best_step": self.found.step,
            "averaged": self.found.averaged,
            "params": self.training.model.parameter_count(),
            **self.machine,
        }

    def best_weights(self) -> Weights:
        return self.found.weights

    def conclude(self) -> dict[str, Any]:
        weights = {name: torch.from_numpy(w) for name, w in self.found.weights.items()}
        self.scored.load_state_dict(weights)
        with self.signals.breaking_off():
            figures = self._figures() | _final_scores(self.job, self.scored)
        self.keep_best(figures)
        _say_scores(self.job, self.scored, figures)
        say_next_steps(self.path / BEST)
        return figures


def _final_scores(job: Job, model: Model) -> dict[str, Any]:
    """The scores of the best weights on all held-out parts, and those of simpler models."""
    data, start = job.dataset, job.vocabulary.start
    figures: dict[str, Any] = {}
    if len(data.test):
        figures["test_nats"] = held_out.carried(model, data.test, start).nats
        figures["test_bpc"] = figures["test_nats"] / NATS_PER_BIT
    if len(data.valid) > 1:
        figures["valid_windows_nats"] = held_out.fresh_windows(model, data.valid, start).nats
    last = data.test if len(data.test) else data.valid
    if job.settings.eval.dynamic and len(last):
        with progress_bar(len(last), "dynamic evaluation") as bar:
            score = held_out.dynamic(model, data.train, last, start, advance=bar.update)
        figures["dynamic_nats"], figures["dynamic_of"] = score.nats, "test" if len(data.test) else "valid"
    if job.settings.eval.baselines and len(last):
        figures["baselines_bpc"] = baselines.table(
            data.train, last, len(job.vocabulary.characters), job.as_bytes, start
        )
    return figures


def _say_scores(job: Job, model: Model, figures: dict[str, Any]) -> None:
    """Say what came of it: a sample, and the scores beside those of simpler models."""
    log.info("")
    log.info(written(job, model))
    log.info("")
    rows = [
        ("valid part, state carried", figures["valid_nats"]),
        ("valid part, windows of 256 from an empty context", figures.get("valid_windows_nats")),
        ("test part, state carried", figures.get("test_nats")),
        (f"{figures.get('dynamic_of')} part, dynamic evaluation", figures.get("dynamic_nats")),
    ]
    part = "test" if len(job.dataset.test) else "valid"
    rows += [
        (f"{part} part, {name}", bits * NATS_PER_BIT)
        for name, bits in figures.get("baselines_bpc", {}).items()
    ]
    log.info(f"{'bits':>8} {'nats':>8}  per character")
    for name, nats in rows:
        if nats is not None:
            log.info(f"{nats / NATS_PER_BIT:8.4f} {nats:8.4f}  {name}")
    log.info("")
    seconds, speed = figures["train_seconds"], figures["chars_per_second"]
    which = "their average" if figures["averaged"] else "the weights"
    log.info(
        f"{figures['steps']:,} steps in {seconds:.0f} s at {speed:,.0f} characters/s; "
        f"best at step {figures['best_step']:,} ({which})."
    )


def written(job: Job, model: Model) -> str:
    """What a model writes from the start token, at temperature 0.8; bytes that are no text as U+FFFD."""
    strategy = Strategy(temperature=0.8, mask=mask(job.vocabulary))
    writer = Writer(model.in_numpy(), job.vocabulary, strategy, [job.settings.seed])
    text = "".join(stream(writer, job.vocabulary, Passage(SAMPLE_CHARACTERS)))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
