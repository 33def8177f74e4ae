"""A model as one file: safetensors, with JSON metadata and a SHA-256 over every byte. Needs no torch.

The file is a standard safetensors file. Its header's metadata has one entry, `charlstm`: a JSON object with
everything but the arrays. In it stands the SHA-256 of the whole file, computed with the digest's own 64
characters set to zero.

A digest finds damage, not malice: whoever makes a file can make its digest, too. So the digest is checked
first, and after it everything else is still taken for a stranger's word: no array is made before its size,
shape and type are what the settings ask for, and nothing in a file is ever executed.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from charlstm import files, state
from charlstm.config.convert import convert
from charlstm.config.settings import ModelConfig, Records, Task, Unit
from charlstm.config.values import Range
from charlstm.model.numpy_model import NumpyModel, parameter_shapes
from charlstm.state import TrainingState
from charlstm.tensors import read_json, unpack
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import memory
from charlstm.training.progress import Figures

FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
MODEL = "model.safetensors"  # of an exported folder
OF_TRAINING = "training/"  # begins the names of arrays that only training needs
NO_DIGEST = b"0" * 64
# every file begins like this, after 8 bytes of length, so format and digest are found before any JSON is read
BEGIN = re.compile(
    rb'\{"__metadata__":\{"charlstm":"\{\\"format\\": ([0-9]{1,9}), \\"sha256\\": \\"([0-9a-f]{64})\\"'
)
LONGEST_BEGIN = 256
LONGEST_SETTINGS = 1000
BLOCK = 1 << 20
UNFIT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)


class CheckpointError(ValueError):
    """A file is not a usable checkpoint; the message has its path, the reason and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """What sampling needs to know of a trained model and, if it is to be trained on, what that needs."""

    config: ModelConfig
    vocabulary: Vocabulary
    task: str
    text_length: int  # characters that it was trained on
    figures: Figures  # the last of its training
    provenance: Figures  # the versions and the seed that made it
    weights: dict[str, NDArray[np.float32]]  # under the names of `model.Model`'s parameters
    training: TrainingState | None = None  # what else resuming needs; None: it can only be used
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)  # the same, that are arrays
    records: Records | None = None  # between a start and an end token; None: the first files do not say

    @property
    def ends(self) -> bool:
        """Whether it may have learnt where a text ends; one long text without records has no end to learn."""
        return self.task != "lm" or self.records != "none"

    @property
    def step(self) -> int:
        """That its training is at; 0 where there is none to resume."""
        return self.training.numbers.step if self.training is not None else 0

    def facts(self) -> dict[str, Any]:
        """All but the arrays and what training needs, for JSON."""
        return {
            "task": self.task,
            "model": asdict(self.config),
            "characters": self.vocabulary.characters,
            "unknown": self.vocabulary.unknown is not None,
            "unit": self.vocabulary.unit,
            "records": self.records,
            "text_length": self.text_length,
            "figures": self.figures,
            "provenance": self.provenance,
        }

    def model(self) -> NumpyModel:
        return NumpyModel(self.config, self.weights)


def save(checkpoint: Checkpoint, path: Path, ready: Callable[[], object] = lambda: None) -> None:
    """Write atomically: whoever looks at `path` finds the old file or the whole new one. `ready` is called
    when that is complete, on the disk and read back, before it takes the place of the old one.

    Raises CheckpointError if `load` would refuse it, such as for a weight that is not finite, or it is not
    read back as it was written, OSError if it cannot be written; then the old file is still whole."""
    blob = _sealed(checkpoint, path)

    def verify(fresh: Path) -> None:
        _compare(fresh, blob)
        ready()

    with files.whole(path, verify) as file:
        file.write(blob)


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint: a file, or a run directory, which means its `best.safetensors` or, while
    there is none yet, its `last.safetensors`.

    It takes the memory of the file, a quarter of that of its largest weight, and at most 200 MB. Raises
    CheckpointError if there is none, it is damaged or not one of ours; no file raises anything else."""
    try:
        if path.is_dir():
            path = path / next((name for name in (BEST, LAST, MODEL) if (path / name).exists()), BEST)
        blob = _read(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint; give the file or run directory") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read: {reason}; give another path or copy") from None
    except MemoryError:
        raise CheckpointError(f"{path}: larger than this machine's memory; use one with more") from None
    return parse(blob, path)


def parse(blob: bytes | bytearray, path: Path) -> Checkpoint:
    """The checkpoint of these bytes; arrays are views of them. `path` is for messages. Raises as `load`."""
    begin = _begin(blob)
    if begin is None:
        raise CheckpointError(f"{path}: not a charlstm checkpoint, or cut off; train the model again")
    number, at = begin
    if _digest(blob, at) != bytes(blob[at]):
        raise CheckpointError(
            f"{path}: damaged or cut off: its SHA-256 does not match its content; "
            "use another copy or train again"
        )
    if number != FORMAT:
        raise CheckpointError(f"{path}: format {number}, this charlstm reads {FORMAT}; upgrade charlstm")
    with _answered(path):
        metadata, arrays = unpack(blob)
        return _checkpoint(read_json(metadata["charlstm"]), arrays)


def _read(path: Path) -> bytearray:
    """All bytes of a file that begins as a checkpoint does, or its first bytes; MemoryError if too many."""
    with files.regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(LONGEST_BEGIN)
        if _begin(first) is None:
            return bytearray(first)
        if size > memory.physical():
            raise MemoryError
        blob = bytearray(size)
        file.seek(0)
        if file.readinto(blob) != size or file.read(1):
            raise OSError("it changed while it was read")
        return blob


def _begin(blob: bytes | bytearray) -> tuple[int, slice] | None:
    """The format of a checkpoint, and where its digest stands; None for any other file."""
    found = BEGIN.match(blob, 8)
    return (int(found[1]), slice(*found.span(2))) if found else None


def _sealed(checkpoint: Checkpoint, path: Path) -> bytearray:
    """The bytes of a checkpoint's file."""
    training = None if checkpoint.training is None else asdict(checkpoint.training)
    metadata = {"format": FORMAT, "sha256": NO_DIGEST.decode()}
    metadata |= checkpoint.facts() | {"training": training}
    arrays = checkpoint.weights | {OF_TRAINING + name: array for name, array in checkpoint.arrays.items()}
    in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(metadata)
    with _answered(path):
        _checkpoint(read_json(text), in_order)
        blob = bytearray(safetensors.numpy.save(in_order, {"charlstm": text}))
        unpack(blob)  # which is little: arrays are views
    begin = _begin(blob)
    assert begin is not None
    _, at = begin
    blob[at] = _digest(blob, at)
    return blob


def _compare(path: Path, blob: bytearray) -> None:
    """Read a file back; CheckpointError if it is not what it should be."""
    view = memoryview(blob)
    with files.regular(path) as file:
        for start in range(0, len(blob) + 1, BLOCK):
            if file.read(BLOCK) != view[start : start + BLOCK]:
                raise CheckpointError(f"{path}: not read back as it was written; is the disk in order?")


@contextmanager
def _answered(path: Path) -> Iterator[None]:
    """Within this context whatever is wrong with a file's content is a CheckpointError that says so."""
    try:
        yield
    except UNFIT as error:
        said = str(error) if isinstance(error, ValueError) else repr(error)
        reason = said[:500].encode("utf-8", "backslashreplace").decode()
        raise CheckpointError(
            f"{path}: its content does not fit together: {reason}; use another copy or train again"
        ) from None


def _digest(blob: bytes | bytearray, at: slice) -> bytes:
    """The SHA-256 of a file whose digest stands `at` this place."""
    view = memoryview(blob)  # a slice of it copies nothing
    digest = hashlib.sha256(view[: at.start])
    digest.update(NO_DIGEST)
    digest.update(view[at.stop :])
    return digest.hexdigest().encode()


def _checkpoint(metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Checkpoint:
    """The checkpoint of these parts, if they fit together. Raises ValueError if they do not."""
    settings = {part.name: metadata[part.name] for part in fields(_Facts) if part.name in metadata}
    if len(str(settings | {"characters": ""})) > LONGEST_SETTINGS:  # before long texts are compared
        raise ValueError("its settings are too long to be any")
    facts = convert(_Facts, settings)
    # what may be printed has no lone surrogates; what was typed, such as the path of a text, may
    training = metadata.get("training")
    untyped = training | {"settings": None, "folder": None} if isinstance(training, dict) else training
    json.dumps(metadata | {"training": untyped}, ensure_ascii=False).encode()
    figures, provenance = metadata["figures"], metadata["provenance"]
    if not (isinstance(figures, dict) and isinstance(provenance, dict)):
        raise ValueError("figures or provenance is no group of values")
    vocabulary = Vocabulary(facts.characters, unknown=facts.unknown, unit=facts.unit)
    facts.model.fit_vocabulary(len(vocabulary))
    weights = {name: array for name, array in arrays.items() if not name.startswith(OF_TRAINING)}
    shapes = parameter_shapes(facts.model, len(vocabulary))
    state.check(weights, {name: ("f4", shape) for name, shape in shapes.items()}, "the weight {}")
    of_training = {name.removeprefix(OF_TRAINING): arrays[name] for name in arrays if name not in weights}
    resumable = None
    if training is not None:
        resumable = state.training_state(training, facts.task)
        if resumable.settings.model != facts.model:
            raise ValueError("the model of its training is another one")
        wanted = state.kept_arrays(of_training, weights, resumable)
        state.check(of_training, wanted, "the array {} of its training")
    elif of_training:
        raise ValueError("it has arrays of a training, but no training")
    return Checkpoint(
        config=facts.model,
        vocabulary=vocabulary,
        task=facts.task,
        text_length=facts.text_length,
        figures=figures,
        provenance=provenance,
        weights=weights,
        records=facts.records or (resumable.settings.data.records if resumable else None),
        training=resumable,
        arrays=of_training,
    )


@dataclass(frozen=True, kw_only=True)
class _Facts:
    task: Task
    model: ModelConfig
    characters: str
    text_length: Annotated[int, Range(0, 10**15)]
    # the first files do not say these
    unknown: bool = False
    unit: Unit = "char"
    records: Records | None = None
