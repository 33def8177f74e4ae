"""One run: settings -> a complete run directory (configuration, log, curves, checkpoint, `result.json`).

The heavy rooms are imported where they are needed: a wrong request is answered before torch, which takes
seconds, and mostly before NumPy too.
"""

import logging
import platform
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm import __version__, corpus, dataset, runtime
from charlstm.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from charlstm.checkpoint import Checkpoint
    from charlstm.model import Model
    from charlstm.numpy_model import NumpyModel
    from charlstm.vocabulary import Ids, Vocabulary

log = logging.getLogger("charlstm")

PRINTED_CHARACTERS = 2000


def check(settings: TrainSettings) -> None:
    """Look at all of a request that can be wrong before a run directory is made. Imports no torch, unless
    CUDA, bfloat16 or `check=true` is asked for.

    Raises:
        ValueError: text, alphabet, model and layout do not fit together.
        SystemExit: after the report that `check=true` asks for.
    """
    if settings.task == "lm":
        settings.train.fit_lm()
        settings.model.fit_vocabulary(len(dataset.build(settings.data).vocabulary))
    else:
        prepare(settings)
    if settings.device == "cuda":
        runtime.choose_device("cuda")
    if settings.task == "lm" and settings.precision == "bfloat16":
        runtime.choose_precision("bfloat16", runtime.choose_device(settings.device))
    if settings.check:
        for line in _forecast(settings):
            print(line)
        sys.exit(0)


def train(settings: TrainSettings, directory: Path) -> int:
    """Run `settings` and leave everything in `directory`; returns the exit code."""
    if settings.task == "lm":
        from charlstm import run_lm

        return run_lm.train(settings, dataset.build(settings.data), _provenance(settings), directory)
    return memorize(settings, directory)


def _forecast(settings: TrainSettings) -> "Iterator[str]":
    """What a run would do, a line each."""
    if settings.task == "lm":
        from charlstm.job import Job

        yield from Job(settings, dataset.build(settings.data)).describe()
    else:
        from charlstm.model import Model

        text, vocabulary = prepare(settings)
        yield _describe(settings, text, Model(settings.model, len(vocabulary)))
        yield f"at most {settings.train.epochs:,} epochs"
    yield "Nothing was trained; leave out check=true to do it."


def prepare(settings: TrainSettings) -> "tuple[str, Vocabulary]":
    """The text to learn by heart and its vocabulary.

    Raises:
        ValueError: text, alphabet, model and layout do not fit together.
    """
    settings.train.fit_memorize()
    text, alphabet = corpus.read_text(settings.data), settings.data.alphabet

    from charlstm.vocabulary import Vocabulary

    vocabulary = Vocabulary.of_text(text) if alphabet is None else Vocabulary(alphabet)
    vocabulary.encode(text, source=corpus.source_name(settings.data))
    settings.model.fit_vocabulary(len(vocabulary))
    settings.train.fit_text(len(text) + 2, len(vocabulary))
    return text, vocabulary


def memorize(settings: TrainSettings, directory: Path) -> int:
    """A run of `task=memorize`; returns the exit code."""
    from charlstm import checkpoint, sampling
    from charlstm.model import Model
    from charlstm.tracking import say_next_steps, write_result
    from charlstm.trainer import DivergedError

    text, vocabulary = prepare(settings)
    ids = vocabulary.encode_framed(text)
    device = runtime.choose_device(settings.device)
    threads = runtime.choose_threads(settings.threads, settings.model.hidden, settings.train.batch)
    runtime.prepare(settings.seed, threads)
    model = Model(settings.model, len(vocabulary), settings.train.dropout).to(device)
    model.add_forget_bias(settings.train.forget_bias)
    log.info(f"{_describe(settings, text, model)}; {device}, {threads} thread{'s' * (threads > 1)}")

    with runtime.StopSignals() as stop:
        try:
            figures = _fit(model, vocabulary, ids, settings, directory, stop)
        except DivergedError as error:
            log.error(f"error: {error}")
            return 1
        right = sampling.recall(model.in_numpy(), vocabulary, ids)
        figures |= {
            "task": settings.task,
            "recalled": right == len(ids) - 1,
            "params": model.parameter_count(),
            "device": str(device),
            "precision": "float32",
            "threads": threads,
        }
        path = directory / "best.safetensors"
        trained = checkpoint.Checkpoint(
            config=settings.model,
            vocabulary=vocabulary,
            task=settings.task,
            text_length=len(text),
            figures=figures,
            provenance=_provenance(settings),
            weights=model.weights(),
        )
        checkpoint.save(trained, path)
        write_result(directory, figures | {"checkpoint": str(path)})
        if stop.received:
            log.info(f"Stopped by {signal.Signals(stop.received).name}: what was learnt so far is saved.")
        _conclude(trained, right)
        say_next_steps(path)
    return stop.exit_code()


def _describe(settings: TrainSettings, text: str, model: "Model") -> str:
    return (
        f"{corpus.describe(settings.data, text)}; "
        f"{settings.model.cell} of {settings.model.layers} x {settings.model.hidden}, "
        f"{model.parameter_count():,} parameters"
    )


def _fit(
    model: "Model",
    vocabulary: "Vocabulary",
    ids: "Ids",
    settings: TrainSettings,
    directory: Path,
    stop: runtime.StopSignals,
) -> dict[str, Any]:
    """Train with curves and a progress bar; returns the last figures."""
    from charlstm import trainer
    from charlstm.tracking import Tracker

    recalled_at_epoch = None
    with Tracker(directory, total=settings.train.epochs) as tracker:
        for progress in trainer.memorize(model, vocabulary, ids, settings.train):
            if progress.recalled and recalled_at_epoch is None:
                recalled_at_epoch = progress.epoch
            tracker.advance(progress.shown())
            if progress.epoch % settings.train.log_every == 0 or progress.recalled:
                tracker.curves(progress.step, progress.curves())
            if progress.epoch % settings.train.sample_every == 0:
                tracker.text(progress.step, "written", _written(model.in_numpy(), vocabulary, len(ids)))
            if stop.received:
                break
        tracker.text(progress.step, "written", _written(model.in_numpy(), vocabulary, len(ids)))
    return progress.figures() | {"recalled_at_epoch": recalled_at_epoch}


def _written(model: "NumpyModel", vocabulary: "Vocabulary", length: int) -> str:
    """What the model writes from the start token, taking the likeliest character each time."""
    from charlstm import sampling

    return sampling.likeliest(model, vocabulary, min(length, PRINTED_CHARACTERS))


def _provenance(settings: TrainSettings) -> dict[str, Any]:
    versions = {name: version(name) for name in ("torch", "numpy")}
    return {"charlstm": __version__, "python": platform.python_version(), "seed": settings.seed} | versions


def _conclude(trained: "Checkpoint", right: int) -> None:
    """Say what came of it."""
    figures = trained.figures
    spent = f"{figures['epochs']} epochs and {figures['train_seconds']:.1f} s"
    log.info("")
    log.info(_written(trained.model(), trained.vocabulary, trained.text_length + 1))
    log.info("")
    if figures["recalled"]:
        first = figures["recalled_at_epoch"]
        earlier = f" (for the first time after {first})" if first and first < figures["epochs"] else ""
        log.info(
            f"Exact: written back from the start token alone, end token included, after {spent}{earlier}."
        )
    else:
        log.info(
            f"Not by heart after {spent}: of its own writing, {right:,} of {trained.text_length + 1:,} "
            "characters (the end token counts as one) are right before the first error. Try more "
            "train.epochs, a larger model.hidden or another seed."
        )
