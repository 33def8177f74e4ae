"""charlstm from Python: `train` and `load` give a `Model`, which writes, scores and shows its gates.

Only `train` and `Model.connectivity` import torch. `docs/python.md` is a tour.
"""

import functools
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.cells.numpy_cells import Terms
from charlstm.config.compose import compose, literal
from charlstm.config.convert import convert
from charlstm.config.settings import Cell, Task, TrainSettings
from charlstm.config.tool_settings import SampleSettings
from charlstm.runs.report import heard_by
from charlstm.sampling import writer
from charlstm.sampling.request import Request
from charlstm.scoring import surprisal
from charlstm.tasks import table
from charlstm.text import decoding
from charlstm.training import machine


class Model:
    """A trained model.

    Attributes:
        checkpoint: all that its file has; `checkpoint.model()` is the network in NumPy.
        path: the file or run directory that it was loaded from; None if there is none.
        task: what it was trained for.
        config: its architecture: `config.cell`, `config.layers`, `config.hidden`, ...
        vocabulary: its characters: `vocabulary.characters`, `vocabulary.encode(text)`, ...
        figures: what its training came to, as in `result.json`.
        weights: float32 arrays under the names of PyTorch's parameters.
    """

    def __init__(self, trained: checkpoint.Checkpoint, path: Path | None = None) -> None:
        self.checkpoint, self.path = trained, path
        self.task, self.config, self.vocabulary = trained.task, trained.config, trained.vocabulary
        self.figures, self.weights = trained.figures, trained.weights

    def __repr__(self) -> str:
        c, known = self.config, len(self.vocabulary.characters)
        return f"<Model: {self.task}, {c.cell} of {c.layers} x {c.hidden}, {known} characters>"

    def sample(
        self,
        prompt: str = "",
        *,
        length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        unknown: Literal["error", "skip", "nearest"] = "error",
        echo: bool = True,
    ) -> str:
        """A text that begins with the prompt, as `sample.py` prints it; the keywords are its keys, which
        `conf/sample.yaml` explains.

        Args:
            length: characters to write at most, the prompt not counted.
            temperature: None: 0 for a text learnt by heart, which is the likeliest text, otherwise 0.8.
            stop: end before this string, or the first of these.
            seed: the same seed gives the same text; None: another one each time.
            echo: whether the prompt is returned with its continuation.

        Raises ValueError if a value is out of range, or the prompt has a character that the model never saw,
        and FloatingPointError if the weights are so large that a score is not finite."""
        asked = {"prompt": prompt, "length": length, "temperature": temperature, "seed": seed, "echo": echo}
        asked |= {"top_k": top_k, "top_p": top_p, "min_p": min_p, "unknown": unknown}
        asked["stop"] = stop if stop is None else json.dumps([stop] if isinstance(stop, str) else list(stop))
        request = Request(convert(SampleSettings, _usual() | asked), self.checkpoint)
        pieces = writer.stream(request.writer([request.seed]), self.vocabulary, request.passage())
        return request.shown(self.vocabulary.text(self.vocabulary.units("".join(pieces))))

    def bits(self, text: str) -> NDArray[np.float64]:
        """The bits of each character of a text given all before it, `(T,)`: -log2 of its probability, after
        the start token and a zero state. A model of bytes needs the sum over a character's bytes. Raises
        ValueError if the text is empty or has a character that the model never saw, and FloatingPointError as
        `sample` does."""
        if not text:
            raise ValueError("text: the text is empty; it needs at least one character")
        decoding.check_unicode(text, "text", "a file")
        ids = self.vocabulary.encode(text, source="text")
        bits = surprisal.bits(self.checkpoint.model(), self.vocabulary, ids)
        return surprisal.of_characters(bits, text) if self.vocabulary.unit == "byte" else bits

    def score(self, text: str) -> float:
        """The mean of `bits`: bits per character, the figure of `charlstm score`. Raises as `bits` does."""
        return math.fsum(self.bits(text).tolist()) / len(text)

    def trace(self, text: str) -> Terms:
        """Every gate while the model reads a text after the start token: arrays `(T, L, H)` by the letters of
        the equations in `cells/numpy_cells.py`, row t for the character t (of a model of bytes, the byte t).

        lstm: i f g o c h; gru: r z n h; both with i_pre, ..., before the activation; rnn_*: a_pre h.

        Raises ValueError if the text has a character that the model never saw, and FloatingPointError if a
        state is not finite."""
        ids = self.vocabulary.encode(text, source="text")
        terms = self.checkpoint.model().trace(np.concatenate([[self.vocabulary.start], ids]))
        return {name: term[1:] for name, term in terms.items()}

    def connectivity(self, text: str, at: int) -> NDArray[np.float64]:
        """How much the prediction of the character `at`, counted from 0, depends on each one before it,
        `(at,)`: the norm of the gradient of its log probability with respect to their vectors. Imports torch.
        Raises ValueError if there is no such character, or the text has one that the model never saw."""
        import torch

        from charlstm.model import torch_model

        if not 0 <= at < len(text):
            raise ValueError(f"at = {at}: the text has {len(text)} characters, counted from 0")
        before, following = (
            torch.from_numpy(self.vocabulary.encode(part, source="text").astype(np.int64))
            for part in (text[:at], text[at])
        )
        ids = torch.cat([torch.tensor([self.vocabulary.start]), before])
        network = torch_model.Model(self.config, len(self.vocabulary))
        network.load_arrays(self.weights)
        found = torch_model.connectivity(network, ids, following)[1:]
        return surprisal.of_characters(found, text[:at]) if self.vocabulary.unit == "byte" else found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to one file, atomically, for `load` and for `ckpt=`; raises OSError if that fails."""
        checkpoint.save(self.checkpoint, Path(path))


def load(path: str | os.PathLike[str]) -> Model:
    """The model of a checkpoint, or of a run directory with one in it. Raises checkpoint.CheckpointError, a
    ValueError, if there is none or it is damaged."""
    return Model(checkpoint.load(Path(path)), Path(path))


def train(
    text: str | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    task: Task | None = None,
    cell: Cell | None = None,
    layers: int | None = None,
    hidden: int | None = None,
    steps: int | None = None,
    budget: str | None = None,
    seed: int | None = None,
    overrides: Mapping[str, object] | None = None,
    directory: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> Model:
    """Train a model as `train.py` does with the same keys, to the same weights, bit for bit. None stands for
    the value in `conf/`. torch has its own threads and random numbers again afterwards.

    A text that was not learnt in time is no error: see `figures["recalled"]`.

    Args:
        text: what is trained on, or
        path: a file (for `task="lm"` also a folder) that has it; without both, `data/hello.txt`.
        task: memorize (the usual), lm or copy.
        steps, budget: how long: steps of `task="lm"`, a time such as "90s".
        overrides: any other keys, such as `{"train.lr": 0.01, "experiment": "names"}`.
        directory: a new or empty one, which keeps checkpoints, curves and figures; None: nothing is kept.
        verbose: whether to print what `train.py` prints.

    Raises:
        config.convert.RequestError: a ValueError with everything that is wrong with the keys.
        ValueError: the text, the directory or the machine is not fit for them.
        RuntimeError: the training failed, or this is not the main thread.
        KeyboardInterrupt: of Ctrl-C, after the last state was saved in `directory`.
        OSError: `directory` cannot be made or written.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("train: not the main thread, where alone Ctrl-C can wait until a state is saved")
    keys = {"task": task, "data.path": None if path is None else os.fspath(path), "seed": seed}
    keys |= {"model.cell": cell, "model.layers": layers, "model.hidden": hidden}
    keys |= {"train.steps": steps, "train.budget": budget, "tensorboard": None if directory else False}
    given = {key: value for key, value in keys.items() if value is not None} | dict(overrides or {})
    plan = table.plan(_settings(text, given), typed=given)
    kept = None if directory is None else Path(directory)
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        if any(kept.iterdir()):
            raise ValueError(f"directory = {kept}: not empty; name a new folder")
    with TemporaryDirectory() if kept is None else nullcontext(kept) as folder:
        with machine.left_as_found(), _heard(verbose) as errors:
            code = table.run(plan, Path(folder)).code
        if code == 0:
            return Model(checkpoint.load(Path(folder)), kept)
    if code > 128:  # stopped by a signal, which the caller is yet to answer
        signal.raise_signal(code - 128)
        raise KeyboardInterrupt
    mend = "; directory=... keeps what was saved" if kept is None else ""
    raise RuntimeError("\n".join(errors) + mend)


def _settings(text: str | None, given: Mapping[str, object]) -> TrainSettings:
    """`conf/` with these keys; a text, which may be long and have any sign, never meets Hydra's grammar."""
    for key in {"resume", "check"} & given.keys():
        raise ValueError(f"{key}: is for train.py alone; leave it out")
    if text is not None and "data.path" in given:
        raise ValueError("text and path: both are given; leave one of them out")
    if not isinstance(text, str | None):
        raise TypeError(f"text: must be a str, not {type(text).__name__}; a file is path=...")
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    settings = compose("train", TrainSettings, [f"{key}={literal(value)}" for key, value in plain.items()])
    return settings if text is None else replace(settings, data=replace(settings.data, text=text))


@functools.cache
def _usual() -> dict[str, object]:
    return asdict(compose("sample", SampleSettings, ()))


@contextmanager
def _heard(verbose: bool) -> Iterator[list[str]]:
    """Within this context a run's errors go into this list and, if `verbose`, the rest to standard output."""
    log, errors = logging.getLogger("charlstm"), list[str]()

    def is_no_error(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            errors.append(record.getMessage().removeprefix("error: "))
        return record.levelno < logging.ERROR

    raises = logging.raiseExceptions
    log.addFilter(is_no_error)
    try:
        with heard_by(logging.StreamHandler(sys.stdout)) if verbose else nullcontext():
            yield errors
    finally:
        log.removeFilter(is_no_error)
        logging.raiseExceptions = raises
