"""One run: settings -> a complete run directory (configuration, log, curves, checkpoint, `result.json`).

The heavy rooms are imported where they are needed: a wrong request is answered before torch, which takes
seconds, and mostly before NumPy too.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm import corpus, dataset, memory, resume, runtime
from charlstm.settings import TrainSettings

log = logging.getLogger("charlstm")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from charlstm.vocabulary import Vocabulary


def check(settings: TrainSettings) -> None:
    """Look at all of a request that can be wrong before a run directory is made. Imports no torch, unless
    CUDA, bfloat16 or `check=true` is asked for.

    Raises:
        ValueError: text, alphabet, model and layout do not fit together.
        SystemExit: after the report that `check=true` asks for.
    """
    if settings.task == "lm":
        settings.train.fit_lm()
        data = dataset.build(settings.data)
        settings.model.fit_vocabulary(len(data.vocabulary))
        config, V, window = settings.train, len(data.vocabulary), settings.train.window
        resume.resumed(settings, data.vocabulary.characters, data.fingerprint())
    elif settings.task == "copy":
        from charlstm import copying

        settings.data.fit_copy()
        settings.train.fit_copy()
        vocabulary = copying.vocabulary(settings.copy.symbols)
        settings.model.fit_vocabulary(len(vocabulary))
        config, V, window = settings.train, len(vocabulary), copying.steps(1)
        resume.resumed(settings, vocabulary.characters, corpus.fingerprint(vocabulary.characters))
    else:
        text, vocabulary = prepare(settings)
        config, V = settings.train.for_text(len(text) + 2, settings.model.hidden), len(vocabulary)
        window = config.longest_window(len(text) + 2)
        resume.resumed(settings, vocabulary.characters, corpus.fingerprint(text))
    memory.check(settings.model, config, V, window, memory.physical())
    if settings.device == "cuda":
        runtime.choose_device("cuda")
    if settings.task == "lm" and settings.precision not in ("auto", "float32"):
        runtime.choose_precision(settings.precision, runtime.choose_device(settings.device))
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
            from charlstm import run_lm

            return run_lm.train(settings, dataset.build(settings.data), directory)
        if settings.task == "copy":
            from charlstm import run_copy

            return run_copy.train(settings, directory)
        from charlstm import run_memorize

        return run_memorize.train(settings, *prepare(settings), directory)
    except (MemoryError, RuntimeError) as error:
        if not runtime.is_out_of_memory(error):
            raise
        log.error(
            "error: out of memory before the first step; try a smaller train.batch, train.window or "
            "model.hidden"
        )
        return 1


def _forecast(settings: TrainSettings) -> "Iterator[str]":
    """What a run would do, a line each."""
    if settings.task == "lm":
        from charlstm.job import Job

        yield from Job(settings, dataset.build(settings.data)).describe()
    elif settings.task == "copy":
        from charlstm import copying
        from charlstm.model import Model
        from charlstm.run_copy import describe as describe_copy

        V = len(copying.vocabulary(settings.copy.symbols))
        yield describe_copy(settings, Model(settings.model, V))
        yield f"at most {settings.train.epochs:,} batches of {settings.train.batch:,} sequences"
    else:
        from charlstm.model import Model
        from charlstm.run_memorize import describe

        text, vocabulary = prepare(settings)
        yield describe(settings, text, Model(settings.model, len(vocabulary)))
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
    settings.train.for_text(len(text) + 2, settings.model.hidden)
    return text, vocabulary
