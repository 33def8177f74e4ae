import math

import numpy as np
import pytest
import torch
from conftest import settings

from charlstm.cells.gates import GATES, parameter_shapes
from charlstm.training.muon import POLYNOMIALS, Muon, orthogonal
from charlstm.training.optimizer import AdamW


def parameters_of(cell, dtype=torch.float64):
    """All of a model of two layers with 5 units, by name: matrices that are wide, square and tall."""
    shapes = {f"rnn.{name}": shape for name, shape in parameter_shapes(cell, 3, 5, 2).items()}
    shapes |= {"embedding.weight": (7, 3), "head.weight": (7, 5), "head.bias": (7,)}
    torch.manual_seed(0)
    return {name: torch.randn(shape, dtype=dtype, requires_grad=True) for name, shape in shapes.items()}


def gradients_of(parameters, steps):
    torch.manual_seed(1)
    return [{name: torch.randn_like(p) for name, p in parameters.items()} for _ in range(steps)]


def step(optimizer, gradients, lr=0.1, products=None):
    """One step by given gradients."""
    named = zip(optimizer.names, optimizer.parameters, strict=True)
    optimizer.products = products
    return optimizer.step(sum((p * gradients[name]).sum() for name, p in named), lr)


def polar_express():
    """The polynomials of Amsel et al., their algorithm 1: where the error is largest by Remez' exchange."""
    found, low, high = [], 0.005, 1.0
    for last in (False, False, True):
        q, r = low + (high - low) / 4, high - (high - low) / 4
        for _ in range(50):
            at = np.array([low, q, r, high])
            a, b, c, error = np.linalg.solve(np.stack([at, at**3, at**5, [1, -1, 1, -1]], axis=1), np.ones(4))
            q, r = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a])))
        found.append(np.array([a, b, c]) / (1 if last else 1.01) ** np.array([1, 3, 5]))
        low, high = 1 - error, 1 + error
    return found


def muon_in_numpy(weight, gradients, lr, weight_decay):
    """The algorithm of its authors, for one matrix, with these polynomials for theirs."""
    momentum = np.zeros_like(weight)
    for gradient in gradients:
        momentum = 0.95 * momentum + gradient
        X = gradient + 0.95 * momentum  # Nesterov's
        X = X / np.sqrt(np.linalg.norm(X @ X.T))
        for a, b, c in POLYNOMIALS:
            A = X @ X.T
            X = a * X + b * A @ X + c * A @ A @ X
        weight = (1 - lr * weight_decay) * weight - lr * 0.2 * np.sqrt(max(weight.shape)) * X
    return weight


def test_the_polynomials_are_those_of_least_error():
    np.testing.assert_allclose(POLYNOMIALS, polar_express(), rtol=0, atol=1e-5)  # as many digits as there are


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_it_is_the_algorithm_of_its_paper_for_each_gate_and_adamw_for_the_rest(cell):
    parameters, others = parameters_of(cell), parameters_of(cell)
    begin = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    config = settings("train.clip=0", "train.weight_decay=0.3").train
    optimizer = Muon(parameters.items(), config)
    rest = {name: p for name, p in others.items() if "weight_ih" not in name and "weight_hh" not in name}
    adamw, steps = AdamW(rest.items(), config), gradients_of(parameters, 4)
    for gradients in steps:
        step(optimizer, gradients)
        step(adamw, gradients)
    for name, parameter in parameters.items():
        if name in rest:
            assert torch.equal(parameter, rest[name])
            continue
        for k in range(len(GATES[cell])):
            rows = slice(5 * k, 5 * k + 5)
            ones = [gradients[name][rows].numpy() for gradients in steps]
            expected = muon_in_numpy(begin[name][rows], ones, 0.1, 0.3)
            np.testing.assert_allclose(parameter[rows].detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 20, 20), (2, 20, 6), (1, 6, 20)])
@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_all_singular_values_come_near_one(shape, products):
    torch.manual_seed(0)
    U, _, Vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrices = U * torch.logspace(-2, 0, min(shape[1:])) @ Vh
    found = orthogonal(matrices, products)
    assert found.dtype == (products or torch.float32)
    values = torch.linalg.svdvals(found.float())
    assert values.min() > 0.5
    assert values.max() < 1.5
    # the singular vectors stay; what is left is rounding, to 8 bits in bfloat16
    straight = U.mT @ found.float() @ Vh.mT
    straight.diagonal(dim1=1, dim2=2).zero_()
    assert straight.abs().max() < (0.05 if products else 1e-4)


@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
def test_a_matrix_of_rank_one_does_not_grow(products):
    # its singular value is 1 at the beginning, where polynomials grow fast beyond
    torch.manual_seed(0)
    matrices = torch.randn(50, 64, 1) @ torch.randn(50, 1, 96)
    values = torch.linalg.svdvals(orthogonal(matrices, products).float())[:, 0]
    assert values.min() > 0.5
    assert values.max() < 1.5


def orthogonal_matrix(size):
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q


def test_it_takes_the_same_way_in_rotated_coordinates_at_any_scale():
    # of a gradient's scale nothing is left
    torch.manual_seed(0)
    left, right = orthogonal_matrix(5), orthogonal_matrix(5)
    config, found = settings("train.clip=0").train, []
    for Q, P, scale in ((torch.eye(5).double(), torch.eye(5).double(), 1.0), (left, right, 1e6)):
        begin = torch.arange(25, dtype=torch.float64).view(5, 5).sin()
        weight = (Q @ begin @ P).requires_grad_()
        optimizer = Muon([("rnn.weight_hh_l0", weight), ("rnn.bias_hh_l0", torch.ones(5).double())], config)
        optimizer.parameters[1].requires_grad_()
        for _ in range(20):
            seen = Q.T @ weight @ P.T
            loss = ((seen @ begin.cos() - 1) ** 2).mean() + (seen**4).mean()
            optimizer.step(scale * loss + 0 * optimizer.parameters[1].sum(), 0.02)
        found.append(Q.T @ weight.detach() @ P.T)
    assert (found[0] - begin).abs().max() > 0.1
    torch.testing.assert_close(*found, rtol=0, atol=1e-9)


def test_gates_are_matrices_of_their_own():
    one, other = parameters_of("lstm"), parameters_of("lstm")
    (gradients,) = gradients_of(one, 1)
    larger = {name: gradient.clone() for name, gradient in gradients.items()}
    larger["rnn.weight_hh_l1"][5:10] *= 1000  # the forget gate's
    for parameters, steps in ((one, gradients), (other, larger)):
        step(Muon(parameters.items(), settings("train.clip=0").train), steps)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-12)


def test_products_may_be_rounded_but_momentum_is_not():
    exact, rounded = parameters_of("lstm", torch.float32), parameters_of("lstm", torch.float32)
    begin = {name: p.detach().clone() for name, p in exact.items()}
    optimizers = [Muon(p.items(), settings("train.clip=0").train) for p in (exact, rounded)]
    for gradients in gradients_of(exact, 3):
        for optimizer, products in zip(optimizers, (None, torch.bfloat16), strict=True):
            step(optimizer, gradients, products=products)
    for name, tensor in optimizers[0].tensors.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, optimizers[1].tensors[name])
    moved = (exact["rnn.weight_hh_l0"] - begin["rnn.weight_hh_l0"]).abs().mean()
    error = (exact["rnn.weight_hh_l0"] - rounded["rnn.weight_hh_l0"]).abs().mean()
    assert 0 < error < 0.05 * moved  # 8 bits, five times


@pytest.mark.parametrize("wrong", ["loss", "gradient", "learning rate"])
def test_a_step_that_is_not_finite_changes_nothing(wrong):
    parameters = parameters_of("gru")
    optimizer = Muon(parameters.items(), settings("train.weight_decay=0.1").train)
    good, bad = gradients_of(parameters, 2)
    assert step(optimizer, good).made
    before = [t.detach().clone() for t in [*parameters.values(), *optimizer.tensors.values()]]
    if wrong == "gradient":
        bad["rnn.weight_ih_l1"][2, 1] = math.inf
    if wrong == "loss":
        made = optimizer.step(sum(p.sum() for p in optimizer.parameters) + math.nan, 0.1).made
    else:
        made = step(optimizer, bad, math.nan if wrong == "learning rate" else 0.1).made
    assert not made
    after = [*parameters.values(), *optimizer.tensors.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_gradient_of_zeros_leaves_the_weights_to_decay():
    parameters = parameters_of("rnn_relu")
    begin = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = Muon(parameters.items(), settings("train.weight_decay=0.5").train)
    step(optimizer, {name: torch.zeros_like(p) for name, p in parameters.items()})
    for name, parameter in parameters.items():
        decay = 1 - 0.1 * 0.5 if parameter.dim() > 1 else 1
        torch.testing.assert_close(parameter, begin[name] * decay, rtol=1e-15, atol=0)
