import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.scoring import baselines
from charlstm.text.vocabulary import Vocabulary


def ids_of(symbols, dtype=np.uint16):
    return np.array(symbols, dtype=dtype)


def written_out(train, held_out, alphabet, order):
    """Witten-Bell with dictionaries, a symbol at a time."""
    followers = defaultdict(list)
    for position, symbol in enumerate(train):
        for length in range(min(order - 1, position) + 1):
            followers[tuple(train[position - length : position])].append(symbol)

    def probability(context, symbol):
        shorter = probability(context[1:], symbol) if context else 1 / alphabet
        seen = followers[tuple(context)]
        kinds = len(set(seen))
        return (seen.count(symbol) + kinds * shorter) / (len(seen) + kinds) if seen else shorter

    return [probability(held_out[max(p - order + 1, 0) : p], held_out[p]) for p in range(len(held_out))]


def test_by_hand():
    # aab: a twice, b once, 2 kinds; after a: a once, b once, 2 kinds; after b: nothing
    train, (a, b) = ids_of([0, 0, 1]), (0, 1)
    assert baselines.probabilities(train, ids_of([a]), 2, 1) == pytest.approx([(2 + 2 / 2) / 5])
    after_a = [(1 + 2 * 0.6) / 4, (1 + 2 * 0.4) / 4]
    assert baselines.probabilities(train, ids_of([a, a, b, b]), 2, 2) == pytest.approx([0.6, *after_a, 0.4])
    assert baselines.ngram(train, ids_of([a, b]), 2, 1) == pytest.approx(-math.log2(0.6 * 0.4) / 2)


symbols = st.lists(st.integers(0, 3), max_size=40)


@given(train=symbols, held_out=symbols, order=st.integers(1, 6), alphabet=st.integers(4, 65_000))
def test_the_fast_way_is_the_written_out_one(train, held_out, order, alphabet):
    found = baselines.probabilities(ids_of(train), ids_of(held_out), alphabet, order)
    np.testing.assert_allclose(found, written_out(train, held_out, alphabet, order), rtol=1e-12)


@given(train=symbols, context=symbols, order=st.integers(1, 6))
def test_probabilities_sum_to_one(train, context, order):
    following = [
        baselines.probabilities(ids_of(train), ids_of([*context, symbol]), 5, order)[-1]
        for symbol in range(5)  # one of them is never seen
    ]
    assert sum(following) == pytest.approx(1)
    assert min(following) > 0


def test_large_alphabets_do_not_overflow():
    alphabet = 65_000  # five of them would not fit 64 bits
    train = np.random.default_rng(0).integers(alphabet - 3, alphabet, 300).tolist()
    held_out = np.random.default_rng(1).integers(alphabet - 3, alphabet, 50).tolist()
    found = baselines.probabilities(ids_of(train), ids_of(held_out), alphabet, 5)
    np.testing.assert_allclose(found, written_out(train, held_out, alphabet, 5), rtol=1e-12)


def test_ids_are_not_changed_and_may_be_on_the_disk(tmp_path):
    ids = ids_of([0, 1, 2, 1, 0, 1, 2] * 9, np.uint8)
    np.save(tmp_path / "ids.npy", ids)
    mapped = np.load(tmp_path / "ids.npy", mmap_mode="r")
    expected = baselines.table(ids, ids, 3, lambda part: part.tobytes())
    assert baselines.table(mapped, mapped, 3, lambda part: part.tobytes()) == expected
    assert ids.tolist() == [0, 1, 2, 1, 0, 1, 2] * 9


def test_the_start_token_is_read_and_not_scored():
    start = 2
    train, held_out = ids_of([start, 0, 1, start, 1]), ids_of([start, 1, start, 0])
    probability = baselines.probabilities(train, held_out, 3, 2)
    expected = -np.log2(probability[[1, 3]]).mean()
    assert baselines.ngram(train, held_out, 3, 2, start) == pytest.approx(expected)
    of_all = baselines.table(train, held_out, 3, lambda part: b"x" * len(part), start)
    assert of_all["bz2"] == baselines.compressed("bz2", b"x" * 5, b"x" * 4, 2)


@pytest.mark.parametrize("name", baselines.COMPRESSORS)
def test_compressors_know_the_training_part(name):
    noise = np.random.default_rng(0).bytes(20_000)
    other = np.random.default_rng(1).bytes(20_000)
    assert baselines.compressed(name, noise, noise, 20_000) < baselines.compressed(name, noise, other, 20_000)
    # bytes at random cannot be compressed; bz2 spends a percent or two on saying so
    assert baselines.compressed(name, noise, other, 20_000) == pytest.approx(8, rel=0.03)
    assert baselines.compressed(name, noise, other, 10_000) == pytest.approx(16, rel=0.03)


def test_the_table_of_a_real_text():
    text = Path(__file__).read_text(encoding="utf-8")
    vocabulary = Vocabulary.of_text(text)
    train, held_out = vocabulary.encode(text[:-1000]), vocabulary.encode(text[-1000:])
    alphabet = len(vocabulary.characters)
    table = baselines.table(train, held_out, alphabet, lambda ids: vocabulary.decode(ids).encode())
    assert list(table) == ["uniform", "unigram", "5-gram", "bz2", "xz"]
    assert table["uniform"] == math.log2(alphabet)
    assert table["uniform"] > table["unigram"] > table["5-gram"] > 1
    assert 1 < table["xz"] < table["unigram"]


def test_large_parts_are_cut_to_what_is_nearest(monkeypatch):
    monkeypatch.setattr(baselines, "TRAIN", 50)
    monkeypatch.setattr(baselines, "HELD_OUT", 20)
    ids = np.random.default_rng(0).integers(0, 4, 300).astype(np.uint8)

    def as_bytes(part):
        return part.tobytes()

    cut = baselines.table(ids[200:250], ids[250:270], 4, as_bytes)
    assert baselines.table(ids[:250], ids[250:], 4, as_bytes) == cut


def test_nothing_to_score():
    for held_out in ([], [4]):
        with pytest.raises(ValueError, match="no symbol to score"):
            baselines.table(ids_of([1]), ids_of(held_out), 5, bytes, start=4)
