import bz2
import lzma
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from conftest import settings
from hypothesis import given
from hypothesis import strategies as st

from charlstm.files import PROJECT
from charlstm.scoring import baselines
from charlstm.text import corpus

NEVER = 60_000  # of the start token, where there is none


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
    found = baselines.probabilities(train, ids_of([a, a, b, b]), 2, 2)
    assert found == pytest.approx([0.6, *after_a, 0.4])
    table = baselines.ngrams(train, ids_of([a, b]), 2, NEVER)
    assert table["unigram"] == pytest.approx(-math.log2(0.6 * 0.4) / 2)


symbols = st.lists(st.integers(0, 3), max_size=40)


@given(
    train=symbols,
    held_out=symbols,
    order=st.integers(1, 6),
    alphabet=st.integers(4, 65_000),
)
def test_the_fast_way_is_the_written_out_one(train, held_out, order, alphabet):
    found = baselines.probabilities(ids_of(train), ids_of(held_out), alphabet, order)
    np.testing.assert_allclose(found, written_out(train, held_out, alphabet, order), rtol=1e-12)


@given(train=symbols, context=symbols, order=st.integers(1, 6))
def test_probabilities_sum_to_one(train, context, order):
    # the fifth symbol is never seen
    following = [
        baselines.probabilities(ids_of(train), ids_of([*context, symbol]), 5, order)[-1]
        for symbol in range(5)
    ]
    assert sum(following) == pytest.approx(1)
    assert min(following) > 0


@pytest.mark.parametrize("overrides", [[], ["data.records=line"], ["data.min_count=20"], ["data.unit=byte"]])
@pytest.mark.parametrize("asked", ["data.records=none", "data.records=blank"])
def test_everything_that_can_follow_shares_one(overrides, asked):
    # as a run of task=lm asks for it
    found = corpus.read(settings("task=lm", "data.path=data/cities.txt", asked, *overrides).data)
    known, train = found.vocabulary, found.train
    can_follow = {*range(known.start), *({known.unknown} - {None})}
    if found.facts.records:
        can_follow |= {known.start, known.end}
    assert set(found.ids.tolist()) <= can_follow
    for end in (0, 1, 2, 7, 50):
        context = found.valid[:end].tolist()
        following = [
            baselines.probabilities(train, ids_of([*context, s]), found.alphabet)[-1] for s in can_follow
        ]
        assert math.fsum(following) == pytest.approx(1, abs=1e-12)


def test_names_by_another_way():
    asked = settings("experiment=names").data
    found = corpus.read(asked)
    lines = (PROJECT / "data/cities.txt").read_text("utf-8").splitlines()
    records = int((found.train == found.vocabulary.start).sum())
    train = [symbol for line in lines[:records] for symbol in ("start", *line, "end")]
    held_out = [symbol for line in lines[records:] for symbol in (*line, "end")]
    counts, alphabet = Counter(train), len(set("".join(lines))) + 2
    likely = [(counts[c] + len(counts) / alphabet) / (len(train) + len(counts)) for c in held_out]
    nats = -math.fsum(map(math.log, likely)) / len(held_out)
    table = baselines.ngrams(found.train, found.valid, found.alphabet, found.vocabulary.start)
    assert table["unigram"] * math.log(2) == pytest.approx(nats)
    assert nats == pytest.approx(3.4316, abs=5e-5)
    assert table["uniform"] == math.log2(alphabet)


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
    assert baselines.ngrams(mapped, mapped, 3, 3) == baselines.ngrams(ids, ids, 3, 3)
    assert ids.tolist() == [0, 1, 2, 1, 0, 1, 2] * 9


def test_the_start_token_is_read_and_not_scored():
    start = 2
    train, held_out = ids_of([start, 0, 1, start, 1]), ids_of([start, 1, start, 0])
    expected = np.array(written_out(train.tolist(), held_out.tolist(), 3, 5))[[1, 3]]
    found = baselines.ngrams(train, held_out, 3, start)
    assert found["5-gram"] == pytest.approx(-np.log2(expected).mean())


@pytest.mark.parametrize("name", baselines.COMPRESSORS)
def test_compressors_know_the_training_part(name):
    noise = np.random.default_rng(0).bytes(20_000)
    other = np.random.default_rng(1).bytes(20_000)
    assert baselines.compressed(noise, noise)[name] < baselines.compressed(noise, other)[name]
    # bytes at random cannot be compressed; bz2 spends a percent or two on saying so
    assert baselines.compressed(noise, other)[name] == pytest.approx(8 * 20_000, rel=0.03)


def test_compressed_by_hand():
    train, held_out = b"to be or not " * 100, b"to be, that is " * 70
    assert baselines.compressed(train, held_out) == {
        "bz2": 8 * (len(bz2.compress(train + held_out)) - len(bz2.compress(train))),
        "xz": 8 * (len(lzma.compress(train + held_out)) - len(lzma.compress(train))),
    }
    assert baselines.compressed(train, held_out[:999]) == {}  # xz would say 0 of some such parts


def test_large_parts_are_cut_to_what_is_nearest(monkeypatch):
    monkeypatch.setattr(baselines, "TRAIN", 50)
    monkeypatch.setattr(baselines, "HELD_OUT", 20)
    ids = np.random.default_rng(0).integers(0, 4, 300).astype(np.uint8)
    cut = baselines.ngrams(ids[200:250], ids[250:270], 4, 4)
    assert baselines.ngrams(ids[:250], ids[250:], 4, 4) == cut


def test_nothing_to_score():
    for held_out in ([], [4]):
        with pytest.raises(ValueError, match="no symbol to score"):
            baselines.ngrams(ids_of([1]), ids_of(held_out), 5, 4)
