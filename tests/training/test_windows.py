import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import SENTENCE, settings
from hypothesis import given
from hypothesis import strategies as st

from charlstm.limits.capacity import random_text
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import recipe
from charlstm.training.windows import (
    ANEW,
    Segments,
    ShiftedStreams,
    staggered,
    streams,
    windows_of,
)


def test_sequence():
    config = settings("train.layout=sequence", "train.window=2").train
    (window,) = windows_of(np.arange(10, 15), config)(0)
    assert window.inputs.tolist() == [[10], [11], [12], [13]]
    assert window.targets.tolist() == [[11], [12], [13], [14]]


def test_staggered_as_published():
    # 70 symbols in 5 streams: at step j the batch reads j ... j + 4 and predicts j + 1 ... j + 5; 65 steps
    ids = np.arange(len(SENTENCE) + 2)
    (window,) = staggered(ids, 5)
    assert window.inputs.shape == window.targets.shape == (65, 5)
    for j in range(65):
        assert window.inputs[j].tolist() == [j, j + 1, j + 2, j + 3, j + 4]
        assert window.targets[j].tolist() == [j + 1, j + 2, j + 3, j + 4, j + 5]


def test_streams_by_hand():
    first, second = streams(np.arange(11), 2, 3)
    assert first.inputs.tolist() == [[0, 5], [1, 6], [2, 7]]
    assert first.targets.tolist() == [[1, 6], [2, 7], [3, 8]]
    assert second.inputs.tolist() == [[3, 8], [4, 9]]
    assert second.targets.tolist() == [[4, 9], [5, 10]]


@given(symbols=st.integers(3, 200), batch=st.integers(1, 50), window=st.integers(1, 60))
def test_streams_predict_every_symbol_and_continue_across_windows(symbols, batch, window):
    batch = min(batch, symbols - 1)
    cut = streams(np.arange(symbols), batch, window)
    inputs = np.concatenate([w.inputs for w in cut])
    targets = np.concatenate([w.targets for w in cut])
    assert (targets == inputs + 1).all()
    assert (np.diff(inputs, axis=0) == 1).all()  # contiguous, also from a window to the next
    assert set(targets.ravel().tolist()) == set(range(1, symbols))
    assert targets.size - (symbols - 1) < batch  # no more is read twice than rounding needs
    assert all(len(w.inputs) <= window for w in cut)


def test_the_layout_is_chosen_by_name():
    vocabulary = Vocabulary.of_text(SENTENCE)
    ids = vocabulary.framed(vocabulary.encode(SENTENCE))
    config = settings("train.layout=streams", "train.batch=3", "train.window=10").train
    for epoch in (0, 5):
        assert [w.inputs.shape for w in windows_of(ids, config)(epoch)] == [(10, 3), (10, 3), (3, 3)]
    segments = windows_of(ids, replace(config, layout="segments"))
    assert isinstance(segments, Segments)


@pytest.mark.parametrize(
    ("layout", "batch", "message"),
    [
        *(("sequence", 2, "one sequence"), ("staggered", 70, "at most 69"), ("streams", 99, "at most 69")),
        *(("segments", 70, "at most 69"), ("auto", 70, "at most 69")),
    ],
)
def test_a_batch_that_the_text_has_not(layout, batch, message):
    config = settings(f"train.layout={layout}", f"train.batch={batch}").train
    with pytest.raises(ValueError, match=message):
        recipe.for_text(config, 70, 35)


@given(symbols=st.integers(3, 150), batch=st.integers(1, 20), window=st.integers(1, 40))
def test_segments_are_read_round_and_round(symbols, batch, window):
    batch = min(batch, symbols - 1)
    config = replace(settings("train.layout=segments").train, batch=batch, window=window)
    windows = windows_of(np.arange(symbols), config)
    length = -(-(symbols - 1) // batch)
    begins = length * np.arange(batch)
    places, seen, counts = begins, 0, set()
    for epoch in range(6):
        cut = windows(epoch)
        counts.add(len(cut))
        for inputs, targets, handover, *_ in cut:
            assert 0 < len(inputs) <= recipe.longest_window(config, symbols)
            assert inputs.shape == targets.shape == (len(inputs), batch)
            for t in range(len(inputs)):
                # what is beyond the text is its last symbol again and again
                assert (inputs[t] == np.minimum(places, symbols - 1)).all()
                assert (targets[t] == np.minimum(places + 1, symbols - 1)).all()
                places = places + 1
                if handover == t + 1:
                    assert (places == begins + length).all()  # where the next one began
                    places = np.append(0, places[:-1])
            assert (places < begins + length).all()
            seen += len(inputs)
        assert 0 <= seen - (epoch + 1) * length < length  # an epoch is a pass and a part of a window
    assert counts == {-(-length // window)}


def test_the_borders_of_segments_never_return():
    windows = Segments(np.arange(4001), 4, 400)  # three windows of 333 each
    begins = [windows(epoch)[0].inputs[0, 0] for epoch in range(1000)]
    assert max(begins) == 333
    assert max(np.bincount(begins)) == 4  # a thousand times in 333 places
    assert windows(150)[0].inputs[0, 0] == begins[150]  # each can be had without those before it


@pytest.mark.parametrize(
    ("overrides", "symbols", "layout", "batch"),
    [
        ([], 70, "sequence", 1),
        ([], 101, "sequence", 1),
        ([], 102, "segments", 1),
        ([], 500, "segments", 5),
        ([], 1_000_000, "segments", 64),
        (["train.batch=7"], 70, "segments", 7),
        (["train.layout=sequence"], 9000, "sequence", 1),
        (["train.layout=streams", "train.batch=3"], 9000, "streams", 3),
    ],
)
def test_the_layout_follows_from_the_length(overrides, symbols, layout, batch):
    config = recipe.for_text(settings(*overrides).train, symbols, 35)
    assert (config.layout, config.batch) == (layout, batch)
    assert config.loss == ("focal" if layout == "segments" else "cross_entropy")
    assert recipe.for_text(config, symbols, 35) == config


@pytest.mark.parametrize(
    ("overrides", "hidden", "bits", "optimizer"),
    [
        ([], 64, 3999, "muon"),
        ([], 64, 4000, "soap"),
        ([], 63, 3999, "soap"),
        (["train.layout=sequence"], 64, 3999, "adamw"),
        (["train.loss=mse"], 64, 3999, "adamw"),
    ],
)
def test_wide_nets_learn_by_muon_what_they_have_room_for(overrides, hidden, bits, optimizer):
    config = recipe.for_text(settings(*overrides).train, 1000, hidden, bits, parameters=10_000)
    assert config.optimizer == optimizer


LINE = "all work and no play\n"


@pytest.mark.parametrize(
    ("text", "overrides", "counts"),
    [
        ("a" * 3000, [], True),
        ("ab" * 200, [], True),
        (LINE * 40 + LINE.upper() + LINE * 20, [], True),
        ("a" * 99, [], False),  # as short as the sentence
        ("a" * 20_000, [], False),  # too long for one window
        (random_text(3000, 2, 0), [], False),  # a bit each
        ("a" * 3000, ["train.layout=segments"], False),
        ("a" * 3000, ["train.forget_bias=1"], False),
        ("a" * 3000, ["train.loss=mse"], False),
    ],
)
def test_a_text_that_says_little_is_read_at_once_for_its_hardest_part(text, overrides, counts):
    ids = np.array([0, *text.encode(), 1], np.uint8)
    asked = settings(*overrides).train
    config = recipe.for_text(asked, len(ids), 64, bits=recipe.information(ids))
    assert (config.loss == "hardest") == (config.forget_bias == "chrono") == counts
    if counts:
        assert (config.layout, config.batch, config.optimizer) == ("sequence", 1, "soap")
    else:
        assert config.layout == recipe.for_text(asked, len(ids), 64).layout
    assert recipe.for_text(config, len(ids), 64, bits=recipe.information(ids)) == config


def test_the_longest_window():
    assert recipe.longest_window(settings("train.layout=sequence").train, 70) == 69
    assert recipe.longest_window(settings("train.layout=staggered", "train.batch=5").train, 70) == 65
    streams = settings("train.layout=streams", "train.batch=5", "train.window=20").train
    assert (recipe.longest_window(streams, 70), recipe.longest_window(streams, 700)) == (14, 20)
    segments = settings("train.layout=segments", "train.batch=5", "train.window=20").train
    assert (recipe.longest_window(segments, 70), recipe.longest_window(segments, 700)) == (23, 33)


SIZES = {"batch": st.integers(1, 9), "window": st.integers(1, 12), "more": st.integers(0, 150)}


def shifted(ids, batch, window, seed=0, epoch=0, start=None):
    return ShiftedStreams(ids, batch, window, start=start, seed=seed, epoch=epoch)


@given(**SIZES, seed=st.integers(0, 99))
def test_shifted_streams_continue_within_range_and_read_nothing_twice(batch, window, more, seed):
    symbols = (batch + 1) * window + 1 + more
    for epoch in range(2):
        cut = list(shifted(np.arange(symbols), batch, window, seed, epoch))
        assert cut  # or an epoch would never end
        inputs = np.concatenate([w.inputs for w in cut])
        targets = np.concatenate([w.targets for w in cut])
        assert all(w.inputs.shape == w.targets.shape == (window, batch) for w in cut)
        assert (targets == inputs + 1).all()
        for before, after in pairwise(cut):
            assert (before.targets[-1] == after.inputs[0]).all()
        assert (np.diff(inputs, axis=0) == 1).all()
        assert len(set(targets.ravel().tolist())) == targets.size
        assert targets.min() > 0
        assert targets.max() < symbols
        assert inputs.min() < window  # what is left out is less than a window at the beginning,
        # less than a window at the end of each stream, and what makes no whole stream
        assert symbols - 1 - targets.size < window + batch * window + batch


def test_the_borders_of_the_windows_move_between_epochs():
    firsts = [shifted(np.arange(99), 2, 8, epoch=epoch)[0].inputs[0, 0] for epoch in range(200)]
    assert set(firsts) == set(range(8))
    # each can be had without those before it
    assert firsts[150] == shifted(np.arange(99), 2, 8, epoch=150)[0].inputs[0, 0]
    assert firsts != [
        shifted(np.arange(99), 2, 8, seed=1, epoch=epoch)[0].inputs[0, 0] for epoch in range(200)
    ]


def test_any_window_can_be_had_alone():
    cut = shifted(np.arange(99), 2, 8, start=500)
    assert [len(list(cut)), (cut[0].inputs[0] == 500).all()] == [len(cut), True]
    assert not (cut[1].inputs == 500).any()
    for n, window in enumerate(cut):
        assert (cut[n].inputs == window.inputs).all()
    with pytest.raises(IndexError):
        cut[len(cut)]


@pytest.mark.parametrize("start", [500, None])
def test_streams_begin_anew_now_and_then(start):
    text, began = np.arange(30_000) % 500, []
    for epoch in range(4):
        for n, (window, plain) in enumerate(
            zip(shifted(text, 20, 8, 3, epoch, start), shifted(text, 20, 8, 3, epoch), strict=True)
        ):
            assert window.anew.all() or n  # all of them at the beginning of an epoch
            assert (window.targets == plain.targets).all()
            expected = plain.inputs.copy()
            if start is not None:
                expected[0, window.anew] = start
            assert (window.inputs == expected).all()
            began += window.anew.tolist() if n else []
    chosen = np.array(began).reshape(-1, 20)
    expected, spread = ANEW * chosen.size, math.sqrt(ANEW * chosen.size)
    assert abs(chosen.sum() - expected) < 4 * spread  # 4 standard deviations, of a fixed seed
    assert (chosen.sum(axis=1) > 1).any()  # each stream by itself
    assert chosen.any(axis=0).all()


def test_shifted_streams_are_read_from_disk_window_by_window(tmp_path):
    ids = np.random.default_rng(1).integers(200, size=400, dtype=np.uint8)
    (tmp_path / "ids").write_bytes(ids.tobytes())
    mapped = np.memmap(tmp_path / "ids", np.uint8, "r")
    reads = []

    class Read:
        def __len__(self):
            return len(mapped)

        def __getitem__(self, here):
            reads.append(here)
            return mapped[here]

    windows = shifted(Read(), 3, 10, seed=2)
    expected = list(shifted(ids, 3, 10, seed=2))
    for k, (window, other) in enumerate(zip(windows, expected, strict=True), 1):
        assert len(reads) == 3 * k  # a slice for each stream, as it is asked for
        assert window.inputs.dtype == np.uint8
        assert (window.inputs == other.inputs).all()
        assert (window.targets == other.targets).all()
    assert all(here.stop - here.start == 11 for here in reads)


@pytest.mark.parametrize(
    ("overrides", "hidden", "optimizer", "lr", "decay"),
    [
        (["train.layout=sequence"], 35, "adamw", 0.01, "none"),
        ([], 35, "soap", 0.4 / math.sqrt(35), "loss"),
        ([], 128, "soap", 3.5 / 128, "loss"),
        ([], 8, "soap", 0.1, "loss"),
        (["train.loss=mse"], 35, "adamw", 0.01, "none"),
        (["train.optimizer=adamw"], 35, "adamw", 0.01, "none"),
        (["train.lr=0.3", "train.decay=linear"], 35, "soap", 0.3, "linear"),
        (["train.layout=sequence", "train.optimizer=soap"], 64, "soap", 0.05, "loss"),
        (["train.optimizer=muon"], 64, "muon", 0.03, "loss"),
    ],
)
def test_optimiser_and_learning_rate_follow_from_the_layout(overrides, hidden, optimizer, lr, decay):
    config = recipe.for_text(settings(*overrides).train, 9000, hidden)
    assert (config.optimizer, config.lr, config.decay) == (optimizer, lr, decay)
    assert config.peak_lr == lr
    assert recipe.for_text(config, 9000, hidden) == config
