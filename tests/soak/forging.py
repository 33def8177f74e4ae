"""Checkpoints to be broken, and broken ones with a right digest."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint
from charlstm.config.settings import ModelConfig
from charlstm.model.numpy_model import parameter_shapes
from charlstm.text.vocabulary import Vocabulary

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
    return Checkpoint(
        config=config,
        vocabulary=vocabulary,
        task="memorize",
        text_length=number,
        figures={"loss": 0.1, "recalled": True},
        provenance={"seed": number},
        weights=weights,
        training={"numbers": {"step": number}, "best": {"nats": 1.5, "steps": [1, 2]}} if training else None,
        arrays={"moment/a": random.standard_normal((2, 3)), "step": np.asarray(number)} if training else {},
    )


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
