"""A model as one file: safetensors, with JSON metadata and a SHA-256 over every byte. Needs no torch.

The file is a standard safetensors file. Its header's metadata has one entry, `charlstm`: a JSON object with
everything but the weights. In it stands the SHA-256 of the whole file, computed with the digest's own 64
characters set to zero.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from charlstm import files
from charlstm.config import convert
from charlstm.numpy_model import NumpyModel
from charlstm.settings import ModelConfig
from charlstm.vocabulary import Vocabulary

FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
OF_TRAINING = "training/"  # begins the names of arrays that only training needs
NO_DIGEST = b"0" * 64


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

    def model(self) -> NumpyModel:
        """The network, ready to write."""
        return NumpyModel(self.config, self.weights)


def save(checkpoint: Checkpoint, path: Path, ready: Callable[[Path], object] | None = None) -> None:
    """Write atomically: whoever looks at `path` finds the old file or the whole new one.

    Args:
        ready: as for `files.whole`.

    Raises:
        OSError: the file cannot be written; what was at `path` is untouched.
    """
    metadata = {
        "format": FORMAT,
        "sha256": NO_DIGEST.decode(),
        "task": checkpoint.task,
        "model": asdict(checkpoint.config),
        "characters": checkpoint.vocabulary.characters,
        "unknown": checkpoint.vocabulary.unknown is not None,
        "unit": checkpoint.vocabulary.unit,
        "text_length": checkpoint.text_length,
        "figures": checkpoint.figures,
        "provenance": checkpoint.provenance,
        "training": checkpoint.training,
    }
    arrays = checkpoint.weights | {OF_TRAINING + name: array for name, array in checkpoint.arrays.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    blob = safetensors.numpy.save(contiguous, {"charlstm": json.dumps(metadata)})
    digest = hashlib.sha256(blob).hexdigest().encode()
    with files.whole(path, ready) as file:
        file.write(blob.replace(NO_DIGEST, digest, 1))


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint: a file, or a run directory, which means its `best.safetensors` or, while
    there is none yet, its `last.safetensors`.

    Raises:
        CheckpointError: there is none, it is damaged, or it is not one of ours.
    """
    try:
        if path.is_dir():
            path = path / (BEST if (path / BEST).exists() or not (path / LAST).exists() else LAST)
        blob = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such checkpoint; give the file or run directory that train.py printed"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read: {reason}") from None
    try:
        arrays = safetensors.numpy.load(blob)
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        metadata = json.loads(header["__metadata__"]["charlstm"])
        digest, version = metadata["sha256"].encode(), metadata["format"]
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path}: not a charlstm checkpoint, or cut off; train the model again"
        ) from None
    if hashlib.sha256(blob.replace(digest, NO_DIGEST, 1)).hexdigest().encode() != digest:
        raise CheckpointError(
            f"{path}: damaged: its SHA-256 does not match its content; use another copy or train again"
        )
    if version != FORMAT:
        raise CheckpointError(
            f"{path}: format {version}, this charlstm reads format {FORMAT}; upgrade charlstm"
        )
    try:
        checkpoint = Checkpoint(
            config=convert(ModelConfig, metadata["model"]),
            vocabulary=Vocabulary(
                metadata["characters"],
                # the first files had none of these three
                unknown=metadata.get("unknown", False),
                unit=metadata.get("unit", "char"),
            ),
            task=metadata["task"],
            text_length=metadata["text_length"],
            figures=metadata["figures"],
            provenance=metadata["provenance"],
            weights={name: array for name, array in arrays.items() if not name.startswith(OF_TRAINING)},
            training=metadata.get("training"),
            arrays={
                name.removeprefix(OF_TRAINING): array
                for name, array in arrays.items()
                if name.startswith(OF_TRAINING)
            },
        )
        if checkpoint.model().vocabulary_size != len(checkpoint.vocabulary):
            raise ValueError(f"{len(checkpoint.vocabulary.characters)} characters do not fit the weights")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its content does not fit together: {error}") from None
    return checkpoint
