import itertools
import tracemalloc
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import settings

from charlstm.config.settings import Cell, DropoutConfig
from charlstm.model.numpy_model import NumpyModel, parameter_count
from charlstm.model.stepper import Stepper
from charlstm.model.torch_model import FUSED, Model, drop_weights, locked_dropout
from charlstm.sampling.strategy import Strategy

V, H, L, T, B = 7, 5, 3, 11, 2


def drops(**probabilities):
    """Dropout with these probabilities, and none otherwise."""
    return DropoutConfig(**({"input": 0.0, "hidden": 0.0, "weight": 0.0} | probabilities))


def model_of(*overrides, seed=0):
    torch.manual_seed(seed)
    return Model(settings(f"model.layers={L}", f"model.hidden={H}", *overrides).model, V)


def some_ids(seed=1):
    return torch.randint(V, (T, B), generator=torch.Generator().manual_seed(seed))


KINDS = [
    [f"model.cell={cell}", f"model.embedding={embedding}", f"model.head={head}", *hidden]
    for cell in get_args(Cell)
    for embedding, head, hidden in [(0, "linear", []), (4, "linear", []), (0, "none", [f"model.hidden={V}"])]
]


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_numpy_and_torch_are_the_same_network(kind):
    model, ids = model_of(*kind), some_ids()
    in_torch, state = model(ids)
    again, state = model(ids, state)
    in_numpy, numpy_state = model.in_numpy()(ids.numpy())
    numpy_again, numpy_state = model.in_numpy()(ids.numpy(), numpy_state)
    assert in_torch.shape == (T, B, V)
    # float32 on two engines: sums are taken in another order
    np.testing.assert_allclose(in_numpy, in_torch.detach(), atol=2e-6)
    np.testing.assert_allclose(numpy_again, again.detach(), atol=2e-6)
    for mine, other in zip(numpy_state, state, strict=True):
        np.testing.assert_allclose(mine, other.detach(), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_the_plain_engine_is_the_fused_one(kind):
    fused, plain = model_of(*kind), model_of(*kind, "model.engine=plain")
    assert fused.state_dict().keys() == plain.state_dict().keys()
    for name, weight in fused.state_dict().items():  # the same seed draws the same weights
        assert torch.equal(weight, plain.state_dict()[name])
    (a, a_state), (b, b_state) = fused(some_ids()), plain(some_ids())
    torch.testing.assert_close(a, b, rtol=0, atol=2e-6)  # another order of float32 sums
    for mine, other in zip(a_state, b_state, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_carried_state_makes_windows_one_sequence(kind):
    model, ids = model_of(*kind), some_ids()
    whole, end = model(ids)
    first, state = model(ids[:4])
    second, state = model(ids[4:], tuple(part.detach() for part in state))
    torch.testing.assert_close(
        torch.cat([first, second]), whole, rtol=0, atol=1e-6
    )  # other kernels for other T
    torch.testing.assert_close(state, end, rtol=0, atol=1e-6)


@pytest.mark.parametrize("embedding", [0, 5])
def test_the_trace_of_a_text_ends_where_the_model_does(embedding):
    model = Model(settings("model.hidden=7", f"model.embedding={embedding}").model, 11).in_numpy()
    ids = np.array([3, 0, 10, 3, 5])
    inside = model.trace(ids)
    scores, (h, c) = model(ids)
    assert inside["f"].shape == (5, 2, 7)
    # the very same operations
    np.testing.assert_array_equal(inside["h"][-1], h)
    np.testing.assert_array_equal(inside["c"][-1], c)
    weight, bias = model.head
    np.testing.assert_array_equal(inside["h"][:, -1] @ weight + bias, scores)


def test_one_hot_input_is_a_column_of_the_first_weight():
    model = model_of()
    weight = model.rnn.weight_ih_l0.detach()
    ids = torch.tensor([[3]])
    before = weight[:, 3] + model.rnn.bias_ih_l0.detach() + model.rnn.bias_hh_l0.detach()
    i, _, g, o = before.split(H)
    expected = o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()
    _, (h, _) = model(ids)
    torch.testing.assert_close(h[0, 0], expected, rtol=0, atol=1e-6)


def test_without_a_head_hidden_must_be_the_vocabulary():
    with pytest.raises(ValueError, match=f"must equal the vocabulary's size, {V}"):
        model_of("model.head=none")


@pytest.mark.parametrize("cell", get_args(Cell))
def test_parameters_are_counted_without_a_model(cell):
    for layers, embedding, head in itertools.product((1, 3), (0, 5), ("linear", "none")):
        overrides = [f"model.cell={cell}", f"model.layers={layers}", f"model.embedding={embedding}"]
        config = settings(*overrides, f"model.head={head}", "model.hidden=13").model
        assert parameter_count(config, 13) == sum(p.numel() for p in Model(config, 13).parameters())


def test_the_published_model_has_30240_parameters():
    assert parameter_count(settings("experiment=notebook").model, 35) == 30_240


def test_every_cell_of_the_settings_exists():
    assert set(get_args(Cell)) == set(FUSED)


def test_twenty_thousand_characters_need_no_square_of_them():
    characters, hidden = 20_002, 4
    config = settings(f"model.hidden={hidden}", "model.layers=1").model
    random = np.random.default_rng(0)
    shapes = {
        "rnn.weight_ih_l0": (4 * hidden, characters),
        "rnn.weight_hh_l0": (4 * hidden, hidden),
        "rnn.bias_ih_l0": (4 * hidden,),
        "rnn.bias_hh_l0": (4 * hidden,),
        "head.weight": (characters, hidden),
        "head.bias": (characters,),
    }
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    ids = np.array([[3], [20_001], [15_000]])
    tracemalloc.start()
    model = NumpyModel(config, weights)
    scores, _ = model(ids)
    stepper = Stepper(model)
    stepped = np.array([stepper(row).copy() for row in ids])
    strategy = Strategy(temperature=0, mask=np.zeros(characters))
    assert strategy.choose(scores[0], np.zeros(1)) == scores[0].argmax()
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert highest < 20e6  # bytes; the square would take 1.6e9
    np.testing.assert_allclose(stepped, scores, rtol=1e-4, atol=1e-4)  # sums in another order, in float32


P = drops(input=0.3, hidden=0.4, weight=0.5)


def dropping(dropout, *overrides, seed=0):
    """A model in training mode, and torch's generator at a place of its own."""
    torch.manual_seed(seed)
    config = settings(f"model.layers={L}", f"model.hidden={H}", "model.embedding=4", *overrides).model
    model = Model(config, V, dropout)
    torch.manual_seed(seed + 100)
    return model.train()


def test_dropout_is_locked_in_time():
    torch.manual_seed(0)
    steps, streams, units, p = 3, 50, 400, 0.3
    x = torch.ones(steps, streams, units)
    first, second = locked_dropout(x, p), locked_dropout(x, p)
    for dropped in (first, second):
        assert (dropped == dropped[0]).all()  # one mask for all steps
        assert not (dropped[0] == dropped[0, 0]).all()  # another for each stream
        assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
        # the mean is kept: 20,000 units, of which each has a variance of p / (1 - p); 5 standard errors
        assert dropped.mean().item() == pytest.approx(1, abs=5 * (p / (1 - p) / (streams * units)) ** 0.5)
    assert not torch.equal(first, second)  # another for each call


def test_no_dropout_costs_nothing():
    x = torch.ones(2, 3, 4)
    assert locked_dropout(x, 0.0) is x


CELLS_AND_ENGINES = [(cell, engine) for cell in get_args(Cell) for engine in ("fused", "plain")]


@pytest.mark.parametrize(("cell", "engine"), CELLS_AND_ENGINES)
def test_dropout_is_for_training(cell, engine):
    overrides = [f"model.cell={cell}", f"model.engine={engine}"]
    model, without = dropping(P, *overrides), dropping(None, *overrides)
    ids = some_ids()
    expected = without(ids)
    torch.testing.assert_close(model.eval()(ids), expected, rtol=0, atol=0)
    in_training = model.train()(ids)[0]
    assert not torch.allclose(in_training, expected[0], atol=1e-3)
    assert not torch.allclose(model(ids)[0], in_training, atol=1e-3)  # masks are drawn anew for each call
    np.testing.assert_allclose(model.in_numpy()(ids.numpy())[0], expected[0].detach(), atol=2e-6)


@pytest.mark.parametrize("cell", get_args(Cell))
@pytest.mark.parametrize("embedding", [0, 4])
def test_both_engines_drop_the_same(cell, embedding):
    results = []
    for engine in ("fused", "plain"):
        model = dropping(P, f"model.cell={cell}", f"model.engine={engine}", f"model.embedding={embedding}")
        first, state = model(some_ids())
        second, state = model(some_ids(2), state)
        gradients = torch.autograd.grad((first * second).square().sum(), list(model.parameters()))
        results.append([first, second, *state, *gradients])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)  # another order of float32 sums


@pytest.mark.parametrize(("cell", "engine"), CELLS_AND_ENGINES)
@pytest.mark.parametrize("state_given", [False, True])
def test_dropping_next_to_nothing_is_no_dropout(cell, engine, state_given):
    # a probability above 0 takes the path of the kernels' functions, layer by layer; one of 1e-12 never drops
    overrides = [f"model.cell={cell}", f"model.engine={engine}"]
    nearly = dropping(drops(input=1e-12, hidden=1e-12, weight=1e-12), *overrides)
    without = dropping(None, *overrides)
    none = dropping(drops(), *overrides)
    ids = some_ids()
    state = without(some_ids(2))[1] if state_given else None
    expected = without(ids, state)
    torch.testing.assert_close(none(ids, state), expected, rtol=0, atol=0)
    torch.testing.assert_close(nearly(ids, state), expected, rtol=0, atol=1e-6)  # other kernels
    # and the state is what continuing needs
    first, between = nearly(ids[:4], state)
    second, after = nearly(ids[4:], between)
    torch.testing.assert_close((torch.cat([first, second]), after), expected, rtol=0, atol=1e-6)


def test_the_state_is_the_last_layer_before_its_output_is_dropped():
    model = dropping(drops(hidden=0.5), "model.layers=1", f"model.hidden={V}", "model.head=none")
    scores, (h, _) = model(some_ids())
    dropped = scores[-1] == 0
    assert 0 < dropped.sum() < dropped.numel()
    assert (h[0] != 0).all()
    torch.testing.assert_close(scores[-1][~dropped], 2 * h[0][~dropped])
    assert ((scores == 0) == dropped).all()


@pytest.mark.parametrize(("cell", "engine"), CELLS_AND_ENGINES)
def test_dropped_weights_are_zero_for_a_whole_window_and_the_others_learn(cell, engine):
    overrides = [f"model.cell={cell}", f"model.engine={engine}", "model.layers=1", "model.hidden=40"]
    p = 0.25
    model = dropping(drops(weight=p), *overrides)
    ids, weight = some_ids(), model.rnn.weight_hh_l0
    scores, _ = model(ids)
    # each weight's own path is cut where it is dropped, and the gradient is that of the parameter itself
    (gradient,) = torch.autograd.grad(scores.square().sum(), [weight])
    dropped = gradient == 0
    share = dropped.float().mean().item()
    assert weight.is_leaf
    assert isinstance(weight, torch.nn.Parameter)
    # 5 standard errors; rnn_relu's own units are 0 in part, which takes gradients from some weights more
    error = 5 * (p * (1 - p) / weight.numel()) ** 0.5
    if cell != "rnn_relu":
        assert share == pytest.approx(p, abs=error)
        # a network that has those weights at 0, and the others larger, says the same without dropout
        other = dropping(None, *overrides)
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            other.rnn.weight_hh_l0.copy_(weight.where(~dropped, 0) / (1 - p))
        torch.testing.assert_close(other(ids)[0], scores, rtol=0, atol=1e-5)
    else:
        assert share >= p - error
    before = weight.detach().clone()
    model(ids)
    assert torch.equal(weight, before)  # what is dropped is a copy


@pytest.mark.parametrize("p", [0.0004, 0.001, 1 / 256, 0.1, 0.3, 0.999])
def test_weights_are_dropped_with_just_that_probability(p):
    torch.manual_seed(0)
    kept = drop_weights(torch.ones(1000, 2001), p)
    share = (kept == 0).double().mean().item()
    # 4 standard errors; 0.1 rounded to a 256th would be off by 7, 0.001 by 45 of them
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / kept.numel()) ** 0.5)
    assert kept.unique().tolist() == pytest.approx([0, 1 / (1 - p)])


def test_weight_drop_leaves_a_layer_without_past_alone():
    # at the first step of a zero state nothing is multiplied by the recurrent weights
    model, without = dropping(drops(weight=0.9)), dropping(None)
    torch.testing.assert_close(model(some_ids()[:1])[0], without(some_ids()[:1])[0], rtol=0, atol=1e-6)
    assert not torch.allclose(model(some_ids())[0], without(some_ids())[0], atol=1e-3)


def test_the_forget_gates_are_raised_and_nothing_else():
    model, before = model_of(), model_of().state_dict()
    model.add_forget_bias(1.5)
    for name, weight in model.state_dict().items():
        expected = before[name].clone()
        if name.startswith("rnn.bias_ih"):
            expected[H : 2 * H] += 1.5
        assert torch.equal(weight, expected), name
    gru = model_of("model.cell=gru")
    gru.add_forget_bias(1.5)
    for name, weight in model_of("model.cell=gru").state_dict().items():
        assert torch.equal(gru.state_dict()[name], weight)


def test_chrono_forget_gates_are_clocks_of_all_times_up_to_the_longest():
    model, before = model_of("model.hidden=500"), model_of("model.hidden=500").state_dict()
    model.add_forget_bias("chrono", 3000)
    inputs, logs, *others = (model.state_dict()["rnn.bias_ih_l0"] - before["rnn.bias_ih_l0"]).split(500)
    torch.testing.assert_close(inputs, -logs)  # sums of float32
    assert not any(map(torch.any, others))
    steps = logs.exp().sort().values
    # uniform: of 500 the k-th is off by 0.5 / sqrt(500) of it all at most, and hardly ever by thrice that
    torch.testing.assert_close(steps, torch.linspace(1, 3000, 500), rtol=0, atol=3 * 3000 * 0.5 / 500**0.5)
