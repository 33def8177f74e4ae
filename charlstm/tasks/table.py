"""One run: settings -> a complete run directory (configuration, log, curves, checkpoint, `result.json`).

The heavy rooms are imported where they are needed: a wrong request is answered before torch, which takes
seconds, and mostly before NumPy too.
"""

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.config.settings import TrainSettings
from charlstm.runs import resume
from charlstm.text import corpus
from charlstm.text.corpus import Corpus, Fingerprint
from charlstm.training import machine, memory

log = logging.getLogger("charlstm")

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(settings: TrainSettings) -> None:
    """Look at all of a request that can be wrong before a run directory is made. Imports no torch, unless
    CUDA, bfloat16 or `check=true` is asked for.

    Raises:
        ValueError: text, alphabet, model and layout do not fit together.
        SystemExit: after the report that `check=true` asks for.
    """
    if settings.task == "lm":
        settings.train.fit_lm()
        data = prepare_lm(settings)
        settings.model.fit_vocabulary(len(data.vocabulary))
        config, V, window = settings.train, len(data.vocabulary), settings.train.window
        resume.resumed(settings, data.vocabulary.characters, asdict(data.data))
    elif settings.task == "copy":
        from charlstm.tasks import copy_sequences

        settings.data.fit_copy()
        settings.train.fit_copy()
        vocabulary = copy_sequences.vocabulary(settings.copy.symbols)
        settings.model.fit_vocabulary(len(vocabulary))
        config, V, window = settings.train, len(vocabulary), copy_sequences.steps(1)
        data_of_copy = asdict(Fingerprint.of_text(vocabulary.characters))
        resume.resumed(settings, vocabulary.characters, data_of_copy)
    else:
        data = prepare(settings)
        symbols, V = len(data.ids) + 2, len(data.vocabulary)
        config = settings.train.for_text(symbols, settings.model.hidden)
        window = config.longest_window(symbols)
        resume.resumed(settings, data.vocabulary.characters, asdict(data.data))
    memory.check(settings.model, config, V, window, memory.physical())
    if settings.device == "cuda":
        machine.choose_device("cuda")
    if settings.task == "lm" and settings.precision not in ("auto", "float32"):
        machine.choose_precision(settings.precision, machine.choose_device(settings.device))
    if settings.check:
        for line in _forecast(settings):
            print(line)
        sys.exit(0)


def train(settings: TrainSettings, directory: Path) -> int:
    """Run `settings` and leave everything in `directory`; returns the exit code."""
    # what cannot be written to the log must not end the run, nor be a traceback
    logging.raiseExceptions = False
    try:
        if settings.task == "lm":
            from charlstm.tasks import language_model

            return language_model.train(settings, prepare_lm(settings), directory)
        if settings.task == "copy":
            from charlstm.tasks import copying

            return copying.train(settings, directory)
        from charlstm.tasks import memorize

        return memorize.train(settings, prepare(settings), directory)
    except (MemoryError, RuntimeError) as error:
        if not machine.is_out_of_memory(error):
            raise
        log.error(
            "error: out of memory before the first step; try a smaller train.batch, train.window or "
            "model.hidden"
        )
        return 1


def _forecast(settings: TrainSettings) -> "Iterator[str]":
    """What a run would do, a line each."""
    if settings.task == "lm":
        from charlstm.tasks.plan import Job

        yield from Job(settings, prepare_lm(settings)).describe()
    elif settings.task == "copy":
        from charlstm.model.torch_model import Model
        from charlstm.tasks import copy_sequences
        from charlstm.tasks.copying import describe as describe_copy

        V = len(copy_sequences.vocabulary(settings.copy.symbols))
        yield describe_copy(settings, Model(settings.model, V))
        yield f"at most {settings.train.epochs:,} batches of {settings.train.batch:,} sequences"
    else:
        from charlstm.model.torch_model import Model
        from charlstm.tasks.memorize import describe

        data = prepare(settings)
        yield describe(data, Model(settings.model, len(data.vocabulary)))
        yield f"at most {settings.train.epochs:,} epochs"
    yield "Nothing was trained; leave out check=true to do it."


def prepare_lm(settings: TrainSettings) -> Corpus:
    """The corpus to learn from; ValueError if it cannot be had, or one of its parts is too small."""
    data = corpus.read(settings.data)
    data.fit_split(settings.data.split)
    return data


def prepare(settings: TrainSettings) -> Corpus:
    """The text to learn by heart; ValueError if text, alphabet, model and layout do not fit together."""
    settings.train.fit_memorize()
    corpus.refuse_for_memorize(settings.data)
    data = corpus.read(settings.data)
    settings.model.fit_vocabulary(len(data.vocabulary))
    settings.train.for_text(len(data.ids) + 2, settings.model.hidden)
    return data
