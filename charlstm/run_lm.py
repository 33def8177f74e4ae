"""One run of `task=lm`: a corpus -> a complete run directory, its scores and what they are worth.

The counterpart of `run.py`, which calls it.
"""

import logging
import math
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm import baselines, checkpoint, evaluation, lm, runtime
from charlstm.checkpoint import Checkpoint
from charlstm.dataset import Dataset
from charlstm.job import Job
from charlstm.objective import NATS_PER_BIT
from charlstm.optimizer import Average
from charlstm.sampling import Passage, Writer, mask, stream
from charlstm.settings import TrainSettings
from charlstm.strategy import Strategy
from charlstm.tracking import Tracker, progress_bar, say_next_steps, write_result
from charlstm.trainer import DivergedError, Progress

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


def train(settings: TrainSettings, dataset: Dataset, provenance: dict[str, Any], directory: Path) -> int:
    """Run `settings` and leave everything in `directory`; returns the exit code."""
    job = Job(settings, dataset)
    for line in job.describe():
        log.info(line)
    path = directory / "best.safetensors"
    with runtime.StopSignals() as stop:
        try:
            best, last = _fit(job, directory, provenance, stop)
        except DivergedError as error:
            log.error(f"error: {error}")
            return 1
        figures = _figures(job, best, last)
        job.model.load_state_dict({name: torch.from_numpy(w) for name, w in best.weights.items()})
        figures |= _final_scores(job, stop)
        _save(job, best, figures, provenance, path)
        write_result(directory, figures | {"checkpoint": str(path)})
        if stop.received:
            log.info(f"Stopped by {signal.Signals(stop.received).name}: what was learnt so far is saved.")
        _conclude(job, figures)
        say_next_steps(path)
    return stop.exit_code()


def _fit(
    job: Job, directory: Path, provenance: dict[str, Any], stop: runtime.StopSignals
) -> tuple[Best, Progress]:
    """Train with curves, samples and a progress bar; the best weights so far are always in the checkpoint."""
    config = job.config
    average = Average(job.model.parameters(), config.averaging * job.steps) if config.averaging else None
    best, since_best = Best(math.inf, 0, False, {}), 0
    steps = lm.fit(
        job.model,
        job.dataset.train,
        job.start,
        config,
        steps=job.steps,
        every=job.every,
        average=average,
        autocast=job.autocast,
        seed=job.settings.seed,
    )
    with Tracker(directory, total=job.steps, unit="step") as tracker:
        for progress in steps:
            tracker.curves(progress.step, progress.curves())
            valid = f", valid {best.nats / NATS_PER_BIT:.3f}" if best.step else ""
            speed = f"{progress.chars_per_second:,.0f} chars/s"
            tracker.advance(f"{progress.bits_per_char:.3f} bits/char{valid}, {speed}", job.every)
            is_last = progress.step == job.steps or stop.received is not None
            if progress.step % job.evaluate_every == 0 or is_last:
                found = _evaluate(job, average, progress)
                if not math.isfinite(found.nats):
                    raise DivergedError(
                        f"the loss on the valid part is {found.nats} at step {progress.step}; "
                        "try a smaller train.lr"
                    )
                since_best = 0 if found.nats < best.nats else since_best + 1
                if found.nats < best.nats:
                    best = found
                    _save(
                        job, best, _figures(job, best, progress), provenance, directory / "best.safetensors"
                    )
                tracker.curves(progress.step, {"valid/bits_per_char": found.nats / NATS_PER_BIT})
                tracker.text(progress.step, "written", written(job))
            if is_last or (config.patience is not None and since_best >= config.patience):
                break
    return best, progress


def _evaluate(job: Job, average: Average | None, progress: Progress) -> Best:
    """The score of the weights or of their average, whichever is better on the valid part.

    Where there is none, the average is taken as it is, under the loss of the training.
    """
    valid, start = job.dataset.valid, job.vocabulary.start

    def score(averaged: bool) -> Best:
        nats = evaluation.carried(job.model, valid, start).nats if len(valid) else progress.loss
        return Best(nats, progress.step, averaged, {k: w.copy() for k, w in job.model.weights().items()})

    if average is None:
        return score(False)
    plain = score(False)
    average.swap()
    averaged = score(True)
    average.swap()
    return min(averaged, plain, key=lambda best: best.nats)


def _figures(job: Job, best: Best, last: Progress) -> dict[str, Any]:
    """What `result.json` and the checkpoint keep."""
    has_valid = len(job.dataset.valid) > 0
    return last.figures() | {
        "task": job.settings.task,
        "valid_nats": best.nats if has_valid else None,
        "valid_bpc": best.nats / NATS_PER_BIT if has_valid else None,
        "best_step": best.step,
        "averaged": best.averaged,
        "params": job.model.parameter_count(),
        "device": str(job.device),
        "precision": job.precision,
        "threads": job.threads,
    }


def _save(job: Job, best: Best, figures: dict[str, Any], provenance: dict[str, Any], path: Path) -> None:
    trained = Checkpoint(
        config=job.settings.model,
        vocabulary=job.vocabulary,
        task=job.settings.task,
        text_length=len(job.dataset.train),
        figures=figures,
        provenance=provenance,
        weights=best.weights,
    )
    checkpoint.save(trained, path)


def _final_scores(job: Job, stop: runtime.StopSignals) -> dict[str, Any]:
    """The scores of the best weights on all held-out parts, and those of simpler models."""
    data, start = job.dataset, job.vocabulary.start
    figures: dict[str, Any] = {}
    if len(data.test):
        figures["test_nats"] = evaluation.carried(job.model, data.test, start).nats
        figures["test_bpc"] = figures["test_nats"] / NATS_PER_BIT
    if len(data.valid) > 1:
        figures["valid_windows_nats"] = evaluation.fresh_windows(job.model, data.valid, start).nats
    held_out = data.test if len(data.test) else data.valid
    if job.settings.eval.dynamic and len(held_out) and not stop.received:
        with progress_bar(len(held_out), "dynamic evaluation") as bar:
            score = evaluation.dynamic(job.model, data.train, held_out, start, advance=bar.update)
        figures["dynamic_nats"], figures["dynamic_of"] = score.nats, "test" if len(data.test) else "valid"
    if job.settings.eval.baselines and len(held_out) and not stop.received:
        figures["baselines_bpc"] = baselines.table(
            data.train, held_out, len(job.vocabulary.characters), job.as_bytes, start
        )
    return figures


def _conclude(job: Job, figures: dict[str, Any]) -> None:
    """Say what came of it: a sample, and the scores beside those of simpler models."""
    log.info("")
    log.info(written(job))
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


def written(job: Job) -> str:
    """What the model writes from the start token, at temperature 0.8; bytes that are no text as U+FFFD."""
    strategy = Strategy(temperature=0.8, mask=mask(job.vocabulary))
    writer = Writer(job.model.in_numpy(), job.vocabulary, strategy, [job.settings.seed])
    text = "".join(stream(writer, job.vocabulary, Passage(SAMPLE_CHARACTERS)))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
