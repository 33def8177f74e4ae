import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from resuming import DROPOUT, compose

from charlstm.model.torch_model import Model
from charlstm.runs import snapshot
from charlstm.training import loop
from charlstm.training.optimizer import Average, rounded
from charlstm.training.progress import Since

V, START = 11, 9


def training_of(task="lm", seed=0, autocast=None, *overrides):
    torch.set_num_threads(1)
    layout = "segments" if task == "segments" else "streams"
    decided = ("train.lr=0.01", "train.optimizer=adamw", "train.weight_decay=0.1")
    overrides = (*decided, *overrides) if task == "lm" else overrides
    chosen = compose(
        f"task={'lm' if task == 'lm' else 'memorize'}", "model.hidden=7", "model.embedding=4",
        "train.batch=3", "train.window=5", f"train.layout={layout}", *DROPOUT, *overrides,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Model(chosen.model, V, chosen.train.dropout)
    ids = np.random.default_rng(0).integers(V - 2, size=100, dtype=np.uint8)
    if task != "lm":
        return loop.of_text(model, ids, chosen.train)
    average = Average(model.parameters(), steps=4)
    return loop.of_corpus(
        model, ids, START, chosen.train, steps=30, every=4, average=average, autocast=autocast
    )


def losses(training, steps):
    """Of so many steps, and what they lead to."""
    found = []
    for _ in range(steps):
        training.run(lambda: True)
        found.append([*training.sums])
        if training.is_due():
            training.take_figures()
    return found, snapshot.take(training)


def assert_equal(one, other):
    of_the_clock = {"since": Since(), "seconds": 0.0}
    assert replace(one.numbers, **of_the_clock) == replace(other.numbers, **of_the_clock)
    for these, those in ((one.weights, other.weights), (one.arrays, other.arrays)):
        assert these.keys() == those.keys()
        assert [name for name in these if not np.array_equal(these[name], those[name])] == []


def assert_goes_on(training, other, steps, more):
    """So many steps, a snapshot that is given to another training in the middle of its own, and more steps of
    both; returns the snapshot."""
    losses(training, steps)
    taken = snapshot.take(training)
    kept = copy.deepcopy(taken)
    expected, end = losses(training, more)
    assert_equal(taken, kept)  # a copy
    losses(other, 3)
    snapshot.put_back(taken, other)
    assert_equal(snapshot.take(other), taken)
    found, other_end = losses(other, more)
    assert found == expected
    assert_equal(other_end, end)
    assert_equal(taken, kept)
    return taken


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("task", ["lm", "memorize", "segments"])
@pytest.mark.parametrize("steps", [0, 1, 5, 6, 7, 13])
def test_training_goes_on_from_a_snapshot_as_if_it_had_not_been_interrupted(task, cell, steps):
    # 100 ids in 3 streams of 5 make 6 or 7 windows: in, at and across the end of an epoch
    assert_goes_on(*(training_of(task, seed, None, f"model.cell={cell}") for seed in (0, 5)), steps, 9)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 30])
def test_soap_and_a_rate_that_falls_with_the_loss_go_on_too(steps):
    whole = [f"train.dropout.{part}=0" for part in ("input", "hidden", "weight")]
    keys = ("train.optimizer=soap", "train.decay=loss", "train.lr=0.05", "model.hidden=32", *whole)
    training, other = (training_of("memorize", seed, None, *keys) for seed in (0, 5))
    assert_goes_on(training, other, steps, 300)
    assert training.settling.factor < 1


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_muon_goes_on_too(cell, autocast):
    keys = ("train.optimizer=muon", f"model.cell={cell}", "model.engine=plain", "model.layers=2")
    taken = assert_goes_on(*(training_of("lm", seed, autocast, *keys) for seed in (0, 5)), 7, 9)
    assert any(name.startswith("muon/momentum/") for name in taken.arrays)


@pytest.mark.parametrize("optimizer", ["adamw", "soap", "muon"])
def test_weights_of_few_bits_go_on_too(optimizer):
    keys = (f"train.optimizer={optimizer}", "train.weight_bits=5")
    training, other = (training_of("segments", seed, None, *keys) for seed in (0, 5))
    taken = assert_goes_on(training, other, 7, 9)
    exact, weights = taken.arrays["exact/head.weight"], taken.weights["head.weight"]
    assert np.array_equal(weights, rounded(torch.from_numpy(exact), 5).numpy())
    assert not np.array_equal(weights, exact)


def test_weights_that_are_rounded_from_now_on_are_what_they_were():
    training, other = (training_of("segments", 0, None, f"train.weight_bits={bits}") for bits in ("null", 6))
    losses(training, 3)
    taken = snapshot.take(training)
    snapshot.put_back(taken, other)
    for name, weight in taken.weights.items():
        assert np.array_equal(other.optimizer.tensors[f"exact/{name}"], weight)


@pytest.mark.parametrize(("before", "after"), [("adamw", "muon"), ("muon", "adamw"), ("soap", "muon")])
def test_another_optimizer_begins_anew(before, after):
    training, other = (training_of("lm", 0, None, f"train.optimizer={name}") for name in (before, after))
    losses(training, 3)
    first = snapshot.take(other).arrays
    snapshot.put_back(snapshot.take(training), other)
    assert other.step == 3
    assert all(np.array_equal(tensor, first[name]) for name, tensor in other.optimizer.tensors.items())
    losses(other, 1)
    assert snapshot.take(other).is_finite()


def test_with_other_windows_the_epoch_begins_anew():
    training = training_of()
    losses(training, 3)
    taken, other = snapshot.take(training), training_of()
    snapshot.put_back(taken, other, same_place=False)
    assert (other.step, other.epoch, other.window, other.state) == (3, 0, 0, None)
    losses(training, 6 - 3)  # to the end of an epoch, where nothing is left out
    assert training.window == 0
    snapshot.put_back(snapshot.take(training), other, same_place=False)
    assert (other.step, other.epoch, other.window) == (6, 1, 0)


def test_what_a_snapshot_has_not_begins_from_the_weights():
    without, training = training_of("memorize", 0, None, "model.layers=1"), training_of()
    losses(without, 2)
    snapshot.put_back(snapshot.take(without), training)
    for mean, parameter in zip(training.average.averages, training.model.parameters(), strict=True):
        assert torch.equal(mean, parameter)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_lower_precision_has_its_state_and_the_scale_of_its_loss(precision):
    dtype = getattr(torch, precision)
    training = training_of("lm", 0, dtype, "model.engine=plain")
    expected = None
    try:
        losses(training, 3)
    except RuntimeError:
        pytest.skip(f"this machine has no kernel for {precision}")
    if training.optimizer.scale is not None:
        training.optimizer.scale.factor.fill_(2.0**9)
        training.optimizer.scale.fitting.fill_(17)
    taken = snapshot.take(training)
    expected, end = losses(training, 4)
    other = training_of("lm", 3, dtype, "model.engine=plain")
    snapshot.put_back(taken, other)
    if precision == "float16":
        assert other.optimizer.scale.factor == 2.0**9
        assert other.optimizer.scale.fitting == 17
    assert [part.dtype for part in other.state] == [part.dtype for part in training.state]
    found, other_end = losses(other, 4)
    assert found == expected
    assert_equal(other_end, end)


def test_a_number_that_is_not_finite_is_found_wherever_it_is():
    training = training_of()
    losses(training, 3)
    assert snapshot.take(training).is_finite()
    names = snapshot.take(training)
    for kind in ("weights", "arrays"):
        for name, array in getattr(names, kind).items():
            if array.dtype.kind == "f":
                for value in (np.nan, np.inf):
                    wrong = snapshot.take(training)
                    getattr(wrong, kind)[name].reshape(-1)[-1] = value
                    assert not wrong.is_finite(), name
