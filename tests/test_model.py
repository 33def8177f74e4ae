from typing import get_args

import numpy as np
import pytest
import torch
from conftest import settings

from charlstm.model import FUSED, Model, detach
from charlstm.settings import Cell

V, H, L, T, B = 7, 5, 3, 11, 2


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
    second, state = model(ids[4:], detach(state))
    torch.testing.assert_close(
        torch.cat([first, second]), whole, rtol=0, atol=1e-6
    )  # other kernels for other T
    torch.testing.assert_close(state, end, rtol=0, atol=1e-6)


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


def test_parameters_are_counted():
    gates, inputs = 4 * H, V + H
    lstm = gates * inputs + 2 * gates + 2 * (gates * 2 * H + 2 * gates)
    assert model_of().parameter_count() == lstm + V * H + V


def test_the_published_model_has_30240_parameters():
    config = settings("experiment=notebook").model
    assert Model(config, 35).parameter_count() == 30_240


def test_every_cell_of_the_settings_exists():
    assert set(get_args(Cell)) == set(FUSED)
