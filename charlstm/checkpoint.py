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
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from charlstm import files
from charlstm.config.convert import convert
from charlstm.config.settings import ModelConfig, Records, Task, Unit
from charlstm.config.values import Range
from charlstm.model.numpy_model import NumpyModel, parameter_shapes
from charlstm.tensors import read_json, unpack
from charlstm.text.vocabulary import Vocabulary

FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
OF_TRAINING = "training/"  # begins the names of arrays that only training needs
NO_DIGEST = b"0" * 64
# every file of this format begins like this, so format and digest are found before any JSON is read
BEGIN = re.compile(
    rb'.{8}\{"__metadata__":\{"charlstm":"\{\\"format\\": (\d{1,9}), \\"sha256\\": \\"([0-9a-f]{64})\\"',
    re.DOTALL,
)
LONGEST_BEGIN = 256
LONGEST_SETTINGS = 1000
UNFIT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)
OLDEST = {
    "unknown": False,
    "unit": "char",
    "records": "none",
}  # what the first files mean, which do not say it


class CheckpointError(ValueError):
    """A file is not a usable checkpoint; the message has its path, the reason and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """What sampling needs to know of a trained model and, if it is to be trained on, what that needs.

    Attributes:
        config: the `model` settings.
        vocabulary: its characters.
        task: what it was trained for (`memorize`).
        text_length: characters of the text that it was trained on.
        figures: the last figures of its training.
        provenance: the versions and the seed that made it.
        weights: float32 arrays under the names of `model.Model`'s parameters.
        training: what else the next step depends on, as JSON knows it; None: the model can only be used.
        arrays: the same, that are arrays, by name.
        records: what of its text stood between a start and an end token, as `data.records`.
    """

    config: ModelConfig
    vocabulary: Vocabulary
    task: str
    text_length: int
    figures: dict[str, Any]
    provenance: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]
    training: dict[str, Any] | None = None
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    records: Records = "none"

    def model(self) -> NumpyModel:
        """The network, ready to write."""
        return NumpyModel(self.config, self.weights)


def save(checkpoint: Checkpoint, path: Path, ready: Callable[[Path], object] | None = None) -> None:
    """Write atomically: whoever looks at `path` finds the old file or the whole new one.

    Args:
        ready: as for `files.whole`.

    Raises:
        CheckpointError: `load` would refuse it, such as for a weight that is not finite; nothing is written.
        OSError: it cannot be written; the old file, if there is one, is still whole (see `files.whole`).
    """
    metadata = {
        "format": FORMAT,
        "sha256": NO_DIGEST.decode(),
        "task": checkpoint.task,
        "model": asdict(checkpoint.config),
        "characters": checkpoint.vocabulary.characters,
        "unknown": checkpoint.vocabulary.unknown is not None,
        "unit": checkpoint.vocabulary.unit,
        "records": checkpoint.records,
        "text_length": checkpoint.text_length,
        "figures": checkpoint.figures,
        "provenance": checkpoint.provenance,
        "training": checkpoint.training,
    }
    arrays = checkpoint.weights | {OF_TRAINING + name: array for name, array in checkpoint.arrays.items()}
    in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    blob = bytearray(safetensors.numpy.save(in_order, {"charlstm": json.dumps(metadata)}))
    begin = BEGIN.match(blob)
    assert begin is not None
    at = slice(*begin.span(2))
    blob[at] = _digest(blob, at)
    parse(blob, path)
    with files.whole(path, ready) as file:
        file.write(blob)


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint: a file, or a run directory, which means its `best.safetensors` or, while
    there is none yet, its `last.safetensors`.

    It takes the memory of the file, a quarter of that of its largest weight, and at most 200 MB.

    Raises:
        CheckpointError: there is none, it is damaged, or it is not one of ours; no file raises anything else.
    """
    try:
        if path.is_dir():
            path = path / (BEST if (path / BEST).exists() or not (path / LAST).exists() else LAST)
        blob = _read(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such checkpoint; give the file or run directory that train.py printed"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read: {reason}; give another path or copy") from None
    except MemoryError:
        raise CheckpointError(
            f"{path}: larger than this machine's free memory; use a machine with more"
        ) from None
    return parse(blob, path)


def parse(blob: bytes | bytearray, path: Path) -> Checkpoint:
    """The checkpoint that these bytes of a file are; its arrays are views of them.

    Args:
        path: what messages call it.

    Raises:
        CheckpointError: as `load`.
    """
    begin = BEGIN.match(blob)
    if begin is None:
        raise CheckpointError(f"{path}: not a charlstm checkpoint, or cut off; train the model again")
    at = slice(*begin.span(2))
    if _digest(blob, at) != begin[2]:
        raise CheckpointError(
            f"{path}: damaged or cut off: its SHA-256 does not match its content; "
            "use another copy or train again"
        )
    if int(begin[1]) != FORMAT:
        raise CheckpointError(
            f"{path}: format {int(begin[1])}, this charlstm reads format {FORMAT}; upgrade charlstm"
        )
    try:
        metadata, arrays = unpack(blob)
        return _checkpoint(read_json(metadata["charlstm"]), arrays)
    except UNFIT as error:
        said = str(error) if isinstance(error, ValueError) else repr(error)
        reason = said[:500].encode("utf-8", "backslashreplace").decode()
        raise CheckpointError(
            f"{path}: its content does not fit together: {reason}; use another copy or train again"
        ) from None


def _read(path: Path) -> bytearray:
    """All bytes of a file that begins as a checkpoint does, or its first bytes; MemoryError if too many."""
    with files.regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(LONGEST_BEGIN)
        if not BEGIN.match(first):
            return bytearray(first)
        if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError
        blob = bytearray(size)
        file.seek(0)
        if file.readinto(blob) != size or file.read(1):
            raise OSError("it changed while it was read")
        return blob


def _digest(blob: bytes | bytearray, at: slice) -> bytes:
    """The SHA-256 of a file whose digest stands `at` this place."""
    view = memoryview(blob)  # a slice of it copies nothing
    digest = hashlib.sha256(view[: at.start])
    digest.update(NO_DIGEST)
    digest.update(view[at.stop :])
    return digest.hexdigest().encode()


def _checkpoint(metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Checkpoint:
    """The checkpoint of these parts, if they fit together.

    Raises:
        ValueError: they do not.
    """
    settings = {part.name: metadata[part.name] for part in fields(_Facts) if part.name in metadata}
    if len(str(settings | {"characters": ""})) > LONGEST_SETTINGS:  # before long texts are compared
        raise ValueError("its settings are too long to be any")
    facts = convert(_Facts, OLDEST | settings)
    # what may be printed has no lone surrogates; the path of a text that was trained on may
    json.dumps(metadata | {"training": None}, ensure_ascii=False).encode()
    figures, provenance, training = (metadata.get(name) for name in ("figures", "provenance", "training"))
    if not (isinstance(figures, dict) and isinstance(provenance, dict) and isinstance(training, dict | None)):
        raise ValueError("figures, provenance or training is no group of values")
    vocabulary = Vocabulary(facts.characters, unknown=facts.unknown, unit=facts.unit)
    facts.model.fit_vocabulary(len(vocabulary))
    weights = {name: array for name, array in arrays.items() if not name.startswith(OF_TRAINING)}
    expected = parameter_shapes(facts.model, len(vocabulary))
    for name in expected | weights:
        wanted, weight = expected.get(name), weights.get(name)
        if wanted is None or weight is None or weight.shape != wanted or weight.dtype != np.float32:
            found = "missing" if weight is None else f"{weight.dtype} {weight.shape}"
            raise ValueError(f"the weight {name} is {found}, expected {wanted or 'none of this name'}")
        if not np.isfinite(weight).all():
            raise ValueError(f"the weight {name} has a number that is not finite")
    of_training = {
        name.removeprefix(OF_TRAINING): array
        for name, array in arrays.items()
        if name.startswith(OF_TRAINING)
    }
    if of_training and training is None:
        raise ValueError("it has arrays of a training, but no training")
    return Checkpoint(
        config=facts.model,
        vocabulary=vocabulary,
        task=facts.task,
        text_length=facts.text_length,
        figures=figures,
        provenance=provenance,
        weights=weights,
        training=training,
        arrays=of_training,
        records=facts.records,
    )


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """The part of the metadata whose types are known."""

    task: Task
    model: ModelConfig
    characters: str
    unknown: bool
    unit: Unit
    records: Records
    text_length: Annotated[int, Range(0, 10**15)]
