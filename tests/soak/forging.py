"""Checkpoints to be broken, and broken ones with a right digest."""

import functools
import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint
from charlstm.config.compose import compose
from charlstm.config.settings import ModelConfig, TrainSettings
from charlstm.model.numpy_model import parameter_shapes
from charlstm.state import Course, MemorizeState, Numbers, Proven, Provenance, TrainingState
from charlstm.text.corpus import Fingerprint
from charlstm.text.vocabulary import Vocabulary
from charlstm.training.progress import Since

BEFORE_DIGEST = b'\\"sha256\\": \\"'


def made(number: int = 0, *, hidden: int = 3, embedding: int = 0, training: bool = False) -> Checkpoint:
    """A checkpoint with weights of its own for each number, which it also has as its `text_length`."""
    config = ModelConfig(
        cell="lstm", layers=1, hidden=hidden, embedding=embedding, head="linear", engine="fused"
    )
    vocabulary = Vocabulary("ab'\"é日\n")
    random = np.random.default_rng(number)
    weights = {
        name: random.standard_normal(shape, np.float32)
        for name, shape in parameter_shapes(config, len(vocabulary)).items()
    }
    state, arrays = training_of(config, weights, number) if training else (None, {})
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        task="memorize",
        text_length=number,
        figures={"loss": 0.1, "recalled": True},
        provenance={"seed": number},
        weights=weights,
        training=state,
        arrays=arrays,
    )


def training_of(
    config: ModelConfig, weights: dict[str, NDArray[np.float32]], step: int
) -> tuple[TrainingState, dict[str, NDArray[Any]]]:
    """What a training by AdamW of these weights keeps after a step, and its arrays."""
    settings = _settings(
        *(f"model.{key}={value}" for key, value in asdict(config).items()), "data.text=abc", "train.lr=0.01"
    )
    random = np.random.default_rng(step)
    moments = {
        f"adam/{kind}/{name}": random.standard_normal(weight.shape, np.float32)
        for kind in ("first", "second")
        for name, weight in weights.items()
    }
    numbers = Numbers(
        step=step, epoch=step, window=0, chars_seen=7 * step, lr_factor=1.0, seconds=0.5,
        since=Since(), state_dtypes=(),
    )  # fmt: skip
    state = TrainingState(
        numbers=numbers,
        driver=Course(pending=None, finished=False, returns=0),
        progress=None,
        task=MemorizeState(recalled_at_epoch=None, proof=Proven(known=False, longest=step, written=step)),
        settings=settings,
        data=Fingerprint(size=3, sha256=hashlib.sha256(b"abc").hexdigest()),
        folder="/",
        provenance=Provenance(
            charlstm="0", python="3", torch="2", numpy="2", device="cpu", precision="float32", threads=1
        ),
    )
    return state, moments | {
        "adam/steps": np.full(len(weights), step, np.float32),
        "figures/sums": np.zeros(6),
        "figures/wrong": np.zeros(3, np.int64),
        "generator": np.zeros(16, np.uint8),
    }


@functools.cache
def _settings(*overrides: str) -> TrainSettings:
    return compose("train", TrainSettings, overrides)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints have the same weights, arrays and values."""
    return all(
        left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)
        for left, right in ((one.weights, other.weights), (one.arrays, other.arrays))
    ) and (one.text_length, one.figures, one.training) == (other.text_length, other.figures, other.training)


def written(made: Checkpoint) -> bytes:
    """The bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made"
        checkpoint.save(made, path)
        return path.read_bytes()


def parts(blob: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The metadata, the arrays' entries in the header, and the bytes of the arrays."""
    start = 8 + int.from_bytes(blob[:8], "little")
    entries = json.loads(blob[8:start])
    return json.loads(entries.pop("__metadata__")["charlstm"]), entries, blob[start:]


def joined(metadata: object, entries: dict[str, Any], data: bytes) -> bytes:
    """The inverse of `parts`; metadata may be given as the text of its JSON."""
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    header = json.dumps({"__metadata__": {"charlstm": text}} | entries, separators=(",", ":"))
    return packed(header.encode(), data)


def packed(header: bytes, data: bytes) -> bytes:
    """A file of this header and these arrays."""
    return len(header).to_bytes(8, "little") + header + data


def sealed(blob: bytes) -> bytes:
    """The same file with a right digest, if it has a place for one."""
    at = blob.find(BEFORE_DIGEST) + len(BEFORE_DIGEST)
    if at < len(BEFORE_DIGEST) or len(blob) < at + 64:
        return blob
    digest = hashlib.sha256(blob[:at] + b"0" * 64 + blob[at + 64 :]).hexdigest().encode()
    return blob[:at] + digest + blob[at + 64 :]
