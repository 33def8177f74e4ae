import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
import torch
from conftest import SENTENCE, settings
from hypothesis import given
from hypothesis import strategies as st

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint, CheckpointError
from charlstm.model.torch_model import Model
from charlstm.sampling import writer
from charlstm.tensors import unpack
from charlstm.text.vocabulary import Vocabulary
from tests.soak import forging


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
        with pytest.raises(CheckpointError, match="not a charlstm checkpoint, or cut off|damaged or cut off"):
            checkpoint.load(path)


# name of the file: the text that it writes. A file of format 1 loads for ever: add files, change none.
OF_OLD = {"format_1.safetensors": "Naïve 日本, or 🙂?", "format_1_training.safetensors": "a small step"}


@pytest.mark.parametrize("name", OF_OLD)
def test_files_of_old_load_for_ever(name):
    old = checkpoint.load(Path(__file__).parent / "checkpoints" / name)
    assert writer.likeliest(old.model(), old.vocabulary, 200) == OF_OLD[name]


@pytest.mark.parametrize("training", [False, True])
def test_what_training_needs_comes_back(tmp_path, training):
    made = forging.made(5, training=training)
    checkpoint.save(made, tmp_path / checkpoint.LAST)
    again = checkpoint.load(tmp_path)
    assert forging.same(again, made)
    assert (again.training is not None) == training
    for name, array in made.arrays.items():
        assert (again.arrays[name].dtype, again.arrays[name].shape) == (array.dtype, array.shape)


KINDS = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"]


@hypothesis.settings(deadline=None)  # it counts what other processes take, too
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 3), max_size=3)), max_size=6),
    st.randoms(use_true_random=False),
)
def test_arrays_of_any_kind_and_shape_come_back(arrays, chance):
    random = np.random.default_rng(chance.getrandbits(32))
    given = {
        f"{k}": random.integers(0, 100, shape).astype(kind)[..., ::-1] if shape else np.array(k, kind)
        for k, (kind, shape) in enumerate(arrays)
    }
    in_order = {name: np.asarray(array, order="C") for name, array in given.items()}
    _, again = unpack(safetensors.numpy.save(in_order, {"of": "arrays"}))
    assert again.keys() == given.keys()
    for name, array in given.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array, strict=True)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"weights": {}}, "is missing"),
        ({"figures": {"loss": float("nan")}}, "NaN"),
        ({"text_length": -1}, "text_length"),
        ({"task": "translate"}, "task"),
        ({"arrays": {"a": np.ones(3)}}, "no training"),
        ({"figures": {"a": "\ud800"}}, "surrogates"),
        ({"figures": {"a": "x" * 5_000_000}}, "a header of"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(tmp_path, small, wrong, reason):
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.save(replace(small, **wrong), tmp_path / "c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_not_written(tmp_path, small, number):
    checkpoint.save(small, tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    small.weights["head.bias"][3] = number
    with pytest.raises(CheckpointError, match="head.bias has a number that is not finite"):
        checkpoint.save(small, tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before


def test_missing_ones_are_named(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            checkpoint.load(path)


@pytest.mark.parametrize(("path", "reason"), [("x" * 300, "File name too long"), ("a\0b", "null byte")])
def test_paths_that_no_file_can_have(path, reason):
    with pytest.raises(CheckpointError, match=f"cannot be read: .*{reason}"):
        checkpoint.load(Path(path))


def test_it_loads_without_torch(trained):
    code = (
        "import sys; from pathlib import Path; from charlstm import checkpoint;"
        "from charlstm.sampling import writer;"
        "c = checkpoint.load(Path(sys.argv[1]));"
        "print(writer.likeliest(c.model(), c.vocabulary, 200), end='');"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained)], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, SENTENCE)
