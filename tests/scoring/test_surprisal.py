import math

import numpy as np
import pytest
import torch
from conftest import settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn import functional

from charlstm.model.numpy_model import NumpyModel
from charlstm.model.torch_model import Model
from charlstm.scoring import surprisal
from charlstm.text.vocabulary import Vocabulary

CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]


def network(*overrides, vocabulary, seed=0):
    torch.manual_seed(seed)
    return Model(settings(*overrides).model, len(vocabulary))


def text_of(characters, length, seed=0):
    chosen = np.random.default_rng(seed).integers(len(characters), size=length)
    return "".join(characters[i] for i in chosen)


@pytest.mark.parametrize("overrides", [[], ["model.embedding=5"], ["model.head=none", "model.hidden=13"]])
@pytest.mark.parametrize("cell", CELLS)
def test_scores_against_torch_over_10_000_characters(cell, overrides):
    vocabulary = Vocabulary("abcdefghé日\n")  # V = 13
    network_ = network(
        f"model.cell={cell}", "model.layers=3", "model.hidden=24", *overrides, vocabulary=vocabulary
    )
    with torch.no_grad():
        for weight in network_.parameters():  # away from the even odds of a new network
            weight *= 1.5
    ids = vocabulary.encode(text_of(vocabulary.characters, 10_000))
    targets = torch.from_numpy(ids.astype(np.int64))
    inputs = torch.cat([torch.tensor([vocabulary.start]), targets[:-1]])
    with torch.no_grad():
        scores, _ = network_(inputs[:, None])
    nats = functional.cross_entropy(scores[:, 0].double(), targets, reduction="none")
    expected = nats.numpy() / math.log(2)
    found = surprisal.bits(network_.in_numpy(), vocabulary, ids)
    # Both round to float32, in another order, and each step starts from the rounding of the last; up to 1e-6
    # was seen. A wrong gate, layer, target or start moves this by more than 0.01.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert abs(found.mean() - expected.mean()) < 1e-6
    assert expected.std() > 0.05


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hidden", [19, 128])
def test_the_length_of_a_chunk_changes_no_bit(cell, hidden):
    vocabulary = Vocabulary(text := "abcdefghijklmnopqrstuvwxyz .,!?'")
    model = network(
        f"model.cell={cell}", f"model.hidden={hidden}", "model.layers=2", vocabulary=vocabulary
    ).in_numpy()
    ids = vocabulary.encode(text_of(text, 700))
    whole = surprisal.bits(model, vocabulary, ids, chunk=len(ids))
    for chunk in (1, 2, 7, 256, 699, 10_000):
        np.testing.assert_array_equal(surprisal.bits(model, vocabulary, ids, chunk), whole)
    told = []
    np.testing.assert_array_equal(surprisal.bits(model, vocabulary, ids[:30], 8, told.append), whole[:30])
    assert told == [8, 8, 8, 6]  # for the progress bar


def test_by_hand():
    # W_hh = 0 and no biases: h = relu(x), a one-hot vector, is the score of the next character
    config = settings("model.cell=rnn_relu", "model.layers=1", "model.hidden=4", "model.head=none").model
    zeros, ones = np.zeros((4, 4), np.float32), np.eye(4, dtype=np.float32)
    weights = {
        "weight_ih_l0": 3 * ones,
        "weight_hh_l0": zeros,
        "bias_ih_l0": zeros[0],
        "bias_hh_l0": zeros[0],
    }
    model = NumpyModel(config, {f"rnn.{name}": weight for name, weight in weights.items()})
    vocabulary = Vocabulary("ab")
    # after the start token the score of the start token is 3 and of all others 0, after a that of a ...
    usual, likely = math.log2(3 + math.e**3), math.log2(3 + math.e**3) - 3 * math.log2(math.e)
    found = surprisal.bits(model, vocabulary, vocabulary.encode("aabb"))
    np.testing.assert_allclose(found, [usual, likely, usual, likely], rtol=1e-14)  # float64 rounding
    assert len(surprisal.bits(model, vocabulary, vocabulary.encode(""))) == 0


def test_huge_scores_cost_what_they_should_and_infinite_ones_are_refused():
    scores = np.array([[3e38, 0, -3e38], [1000, 1000, -1000]], np.float32)
    found = surprisal.surprisal(scores, np.array([0, 1], np.uint8))
    np.testing.assert_array_equal(found, [0, 1])
    vocabulary = Vocabulary("ab")
    model = network("model.hidden=3", vocabulary=vocabulary).in_numpy()
    model.head = (model.head[0], np.full(4, np.inf, np.float32))
    with pytest.raises(FloatingPointError, match="not finite"):
        surprisal.bits(model, vocabulary, vocabulary.encode("ab"))


def bits_like(text):
    return np.random.default_rng(len(text)).exponential(size=len(text))


@hypothesis_settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("xyz"), st.text(st.sampled_from("ab \n\r\t\u2028é"), min_size=1), min_size=1
    )
)
def test_rows_of_every_kind_hold_every_character_once(files):
    scored = [{name: bits_like(text) * k for name, text in files.items()} for k in (1, 2)]
    totals = [surprisal.total("c", files, of_files) for of_files in scored]
    for per in surprisal.PIECES:
        rows = list(surprisal.rows(files, scored, per))
        for name, text in files.items():
            assert "".join(row.text for row in rows if row.file == name) == text
        for row in rows:
            before = files[row.file][: row.position]
            assert files[row.file].startswith(row.text, row.position)
            # io's universal newlines, except that the position may stand within a \r\n
            ends = before.count("\n") + before.count("\r") - before.count("\r\n")
            within = before.endswith("\r") and row.text.startswith("\n")
            assert row.line == 1 + ends - within
        for k, total in enumerate(totals):
            # each row and the sum of rows is rounded once
            assert math.fsum(row.bits[k] for row in rows) == pytest.approx(total.bits, rel=1e-14)
            assert total.characters == sum(len(row.text) for row in rows)
            assert total.bytes == len("".join(files.values()).encode())
        for row in rows:
            assert row.bits_per_byte == tuple(bits / len(row.text.encode()) for bits in row.bits)


@pytest.mark.parametrize(
    ("per", "pieces"),
    [
        ("char", list(" how  long?\r\n\nit's\rme")),
        ("word", [" ", "how  ", "long?\r\n\n", "it's\r", "me"]),
        ("line", [" how  long?\r\n", "\n", "it's\r", "me"]),
        ("file", [" how  long?\r\n\nit's\rme"]),
    ],
)
def test_pieces(per, pieces):
    text = " how  long?\r\n\nit's\rme"
    rows = list(surprisal.rows({"f": text}, [{"f": np.arange(len(text), dtype=float)}], per))
    assert [row.text for row in rows] == pieces
    begin = 0
    for row in rows:
        end = begin + len(row.text)
        assert (row.position, row.bits) == (begin, (sum(range(begin, end)),))
        assert row.bits_per_char == (sum(range(begin, end)) / len(row.text),)
        begin = end
