import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SENTENCE, settings

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint, CheckpointError
from charlstm.model import Model
from charlstm.vocabulary import Vocabulary


@pytest.fixture
def small():
    torch.manual_seed(0)
    config = settings("model.layers=1", "model.hidden=3").model
    return Checkpoint(
        config=config,
        vocabulary=Vocabulary("ab'\"é日\n"),
        task="memorize",
        text_length=12,
        figures={"loss": 0.1, "recalled": True},
        provenance={"seed": 0},
        weights=Model(config, 9).weights(),
    )


def test_it_comes_back(tmp_path, small):
    checkpoint.save(small, tmp_path / "best.safetensors")
    for path in (tmp_path / "best.safetensors", tmp_path):  # a file or a run directory
        again = checkpoint.load(path)
        for name in ("config", "vocabulary", "task", "text_length", "figures", "provenance"):
            assert getattr(again, name) == getattr(small, name)
        assert again.weights.keys() == small.weights.keys()
        for name, weight in small.weights.items():
            np.testing.assert_array_equal(again.weights[name], weight)


def test_it_is_a_plain_safetensors_file(tmp_path, small):
    from safetensors.torch import load_file

    checkpoint.save(small, tmp_path / "c")
    assert sorted(load_file(tmp_path / "c")) == sorted(small.weights)


def test_the_same_model_is_the_same_file(tmp_path, small):
    for name in "ab":
        checkpoint.save(small, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_damaged_byte_is_noticed(tmp_path, small):
    path = tmp_path / "c"
    checkpoint.save(small, path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


def test_every_cut_is_noticed(tmp_path, small):
    path = tmp_path / "c"
    checkpoint.save(small, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a charlstm checkpoint, or cut off"):
            checkpoint.load(path)


def forge(path, metadata, weights):
    """A file with a right SHA-256 over wrong content."""
    import hashlib

    import safetensors.numpy

    blob = safetensors.numpy.save(weights, {"charlstm": json.dumps({"sha256": "0" * 64} | metadata)})
    path.write_bytes(blob.replace(b"0" * 64, hashlib.sha256(blob).hexdigest().encode(), 1))


def test_content_that_does_not_fit_is_refused(tmp_path, small):
    from dataclasses import asdict

    path = tmp_path / "c"
    good = {
        "format": 1,
        "task": "memorize",
        "model": asdict(small.config),
        "characters": small.vocabulary.characters,
        "text_length": 12,
        "figures": {},
        "provenance": {},
    }
    forge(path, good, small.weights)
    assert checkpoint.load(path).text_length == 12
    one_weight_less = {k: w for k, w in small.weights.items() if k != "rnn.bias_hh_l0"}
    for metadata, weights, reason in [
        (good | {"format": 2}, small.weights, "format 2"),
        (good | {"model": good["model"] | {"cell": "gru"}}, small.weights, "does not fit"),
        (good | {"model": good["model"] | {"hidden": "x"}}, small.weights, "does not fit"),
        (good | {"model": good["model"] | {"hidden": 4}}, small.weights, "does not fit"),
        (good | {"model": good["model"] | {"layers": 2}}, small.weights, "does not fit"),
        (good | {"model": good["model"] | {"embedding": 2}}, small.weights, "does not fit"),
        (good | {"characters": "ab"}, small.weights, "does not fit"),
        (good | {"characters": ""}, small.weights, "does not fit"),
        (good, one_weight_less, "does not fit"),
        (good, {}, "does not fit"),
        ({"format": 1}, small.weights, "does not fit"),
    ]:
        forge(path, metadata, weights)
        with pytest.raises(CheckpointError, match=reason):
            checkpoint.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4",
        b"\0" * 100,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 24) + b'{"__metadata__":{"a":1}}',
        struct.pack("<Q", 33) + b'{"__metadata__":{"charlstm":"[]"}}'[:33],
        os.urandom(1000),
    ],
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a charlstm checkpoint"):
        checkpoint.load(tmp_path / "c")


def test_missing_ones_are_named(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            checkpoint.load(path)


@pytest.mark.parametrize(("path", "reason"), [("x" * 300, "File name too long"), ("a\0b", "null byte")])
def test_paths_that_no_file_can_have(path, reason):
    with pytest.raises(CheckpointError, match=f"cannot be read: .*{reason}"):
        checkpoint.load(Path(path))


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, small, monkeypatch):
    path = tmp_path / "c"
    checkpoint.save(small, path)
    before = path.read_bytes()

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(small, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_it_loads_without_torch(trained):
    code = (
        "import sys; from pathlib import Path; from charlstm import checkpoint, sampling;"
        "c = checkpoint.load(Path(sys.argv[1]));"
        "print(sampling.likeliest(c.model(), c.vocabulary, 200), end='');"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, SENTENCE)
