import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import settings

from charlstm.training.loop import OPTIMIZERS
from charlstm.training.optimizer import AdamW, Average, LossScale, rounded
from charlstm.training.soap import Soap


def problem():
    torch.manual_seed(3)
    return [torch.randn(4, 3, requires_grad=True), torch.randn(5, requires_grad=True)]


def named(parameters):
    return [(f"{k}.weight", parameter) for k, parameter in enumerate(parameters)]


def loss_of(parameters):
    first, second = parameters
    return (first.tanh().sum() - 2) ** 2 + (second**3).sum().cos()


@pytest.mark.parametrize("weight_decay", [0, 0.1])
@pytest.mark.parametrize("clip", [0, 0.5])
def test_the_steps_are_those_of_torch(clip, weight_decay):
    theirs, ours = problem(), problem()
    matrix, vector = theirs
    config = settings(f"train.clip={clip}", f"train.weight_decay={weight_decay}").train
    optimizer = AdamW(named(ours), config)
    groups = [{"params": [matrix], "weight_decay": weight_decay}, {"params": [vector], "weight_decay": 0}]
    reference = torch.optim.AdamW(groups, lr=1, betas=(config.beta1, config.beta2), fused=True)
    for step in range(20):
        lr = 0.03 * (20 - step) / 20
        for group in reference.param_groups:
            group["lr"] = lr
        norm = optimizer.step(loss_of(ours), lr).norm
        reference.zero_grad()
        loss_of(theirs).backward()
        expected_norm = torch.nn.utils.clip_grad_norm_(theirs, clip or 1e9)
        reference.step()
        assert norm == expected_norm
    for mine, other, begin in zip(ours, theirs, problem(), strict=True):
        assert torch.equal(mine, other)
        assert not torch.equal(mine, begin)


def test_decay_pulls_matrices_alone():
    matrix, vector = parameters = problem()
    before = [p.detach().clone() for p in parameters]
    optimizer = AdamW(named(parameters), settings("train.weight_decay=0.5").train)
    optimizer.step(sum(0 * p.sum() for p in parameters), 0.1)  # a gradient of zeros
    assert torch.equal(matrix, before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(vector, before[1])


def test_rounding_is_by_the_largest_of_a_row():
    matrix = torch.tensor([[0.5, -1, 0.24], [0.1, 0.3, 0], [0, 0, 0]])
    # steps of a third of the largest; 1.5 of them is 2, as 0.72 is 1
    assert rounded(matrix, 3).tolist() == [
        pytest.approx([2 / 3, -1, 1 / 3]),
        pytest.approx([0.1, 0.3, 0]),
        [0] * 3,
    ]
    assert rounded(matrix[0], 2).tolist() == [0, -1, 0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_of_few_bits_move_as_if_gradients_passed_the_rounding(optimizer):
    shapes = {"rnn.weight_ih_l0": (8, 3), "rnn.weight_hh_l0": (8, 2), "rnn.bias_hh_l0": (8,), "head": (5, 2)}
    torch.manual_seed(4)
    start = {name: torch.randn(shape) for name, shape in shapes.items()}
    targets = {name: torch.randn(shape) for name, shape in shapes.items()}
    ours, theirs = ({name: p.clone().requires_grad_() for name, p in start.items()} for _ in range(2))
    config = settings("train.weight_bits=4", f"train.optimizer={optimizer}", "train.weight_decay=0.1").train
    mine = OPTIMIZERS[optimizer](ours.items(), config)
    other = OPTIMIZERS[optimizer](theirs.items(), replace(config, weight_bits=None))

    def loss_of(parameters):
        return sum((p - targets[name]).pow(4).mean() for name, p in parameters.items()).sqrt()

    for _ in range(12):
        for name, p in theirs.items():
            assert torch.equal(ours[name], rounded(p.detach(), 4))
            assert torch.equal(mine.tensors[f"exact/{name}"], p)
        mine.step(loss_of(ours), 0.05)
        other.step(loss_of({n: p + (rounded(p, 4) - p).detach() for n, p in theirs.items()}), 0.05)
    assert not any(torch.equal(p, start[name]) for name, p in theirs.items())


def test_parameters_that_share_a_gradient_are_clipped_once():
    # of a sum of both, autograd gives one and the same tensor to both
    first, second = parameters = [torch.ones(4, requires_grad=True), torch.ones(4, requires_grad=True)]
    optimizer = AdamW(named(parameters), settings("train.clip=0.5", "train.beta1=0").train)
    optimizer.step(((first + second) ** 2).sum(), 0.1)
    for moment in optimizer.first_moments:
        torch.testing.assert_close(moment, torch.full((4,), 0.5 / math.sqrt(8)), rtol=1e-5, atol=0)


def test_the_average_is_exponential():
    values = [3.0, 5.0, -1.0, 2.0]
    parameter = torch.tensor([1.0, 10.0])
    average = Average([parameter], steps=4)
    expected = torch.tensor([1.0, 10.0])
    for value in values:
        parameter.copy_(torch.tensor([value, 10 * value]))
        average.update()
        expected = 0.75 * expected + 0.25 * parameter
    torch.testing.assert_close(average.averages, [expected], rtol=1e-6, atol=0)
    # by hand: 1 (3/4)^4 + 1/4 (3 (3/4)^3 + 5 (3/4)^2 - 3/4 + 2)
    assert average.averages[0][0] == pytest.approx(1.6484375)


def test_an_average_over_less_than_a_step_is_the_last_value():
    parameter = torch.tensor([1.0])
    average = Average([parameter], steps=0.02)
    parameter.fill_(7)
    average.update()
    assert average.averages == [parameter]


@pytest.mark.parametrize("optimizer", [AdamW, Soap])
@pytest.mark.parametrize("wrong", ["loss", "gradient", "learning rate"])
def test_a_step_that_is_not_finite_changes_nothing(optimizer, wrong):
    parameters = problem()
    optimizer = optimizer(named(parameters), settings("train.weight_decay=0.1").train)
    loss = sum(p.square().sum() for p in parameters)
    assert optimizer.step(loss, 0.1).made
    before = [t.detach().clone() for t in [*parameters, *optimizer.tensors.values()]]
    loss = sum(p.square().sum() for p in parameters)
    if wrong == "loss":
        loss = loss + math.inf
    if wrong == "gradient":
        loss = (
            loss + (parameters[0].flatten()[0] - parameters[0].detach().flatten()[0]).sqrt()
        )  # 0, slope inf
    step = optimizer.step(loss, math.nan if wrong == "learning rate" else 0.1)
    assert (bool(step.made), bool(step.wrong)) == (False, True)
    after = [*parameters, *optimizer.tensors.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all((steps == 1).all() for name, steps in optimizer.tensors.items() if name.endswith("steps"))


def test_soap_without_rotation_is_adamw(monkeypatch):
    monkeypatch.setattr(Soap, "LONGEST", 0)
    adamw, soap = problem(), problem()
    config = settings("train.weight_decay=0.1", "train.clip=0.5").train
    optimizers = AdamW(named(adamw), config), Soap(named(soap), config)
    optimizers[1].step(loss_of(soap), 0.03)  # which looks, and moves nothing
    for _ in range(10):
        for optimizer in optimizers:
            optimizer.step(loss_of(optimizer.parameters), 0.03)
    # both in float32; AdamW's kernel adds up in another order
    torch.testing.assert_close(adamw[0], soap[0], rtol=1e-5, atol=1e-6)
    assert not torch.equal(soap[0], problem()[0])


def soap_in_numpy(weight, gradients, lr, beta1, beta2):
    """Algorithm 3 of the paper, for one matrix; the first gradient is for the first eigenvectors alone."""
    left, right = gradients[0] @ gradients[0].T, gradients[0].T @ gradients[0]
    Q, P = np.linalg.eigh(left)[1], np.linalg.eigh(right)[1]
    mean, square = np.zeros_like(weight), np.zeros_like(weight)
    for t, gradient in enumerate(gradients[1:], 1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * (Q.T @ gradient @ P) ** 2
        step = (Q.T @ mean @ P) / (1 - beta1**t) / (np.sqrt(square / (1 - beta2**t)) + 1e-8)
        weight = weight - lr * Q @ step @ P.T
        left = 0.95 * left + 0.05 * gradient @ gradient.T
        right = 0.95 * right + 0.05 * gradient.T @ gradient
        if t % 2 == 1:
            by_size = np.argsort(-np.diag(Q.T @ left @ Q)), np.argsort(-np.diag(P.T @ right @ P))
            square = square[by_size[0]][:, by_size[1]]
            Q = np.linalg.qr(left @ Q[:, by_size[0]])[0]
            P = np.linalg.qr(right @ P[:, by_size[1]])[0]
    return weight


def test_soap_is_the_algorithm_of_its_paper():
    random = np.random.default_rng(0)
    # square, or a side would have eigenvectors of the eigenvalue 0, which are anyone's choice
    gradients = random.normal(size=(30, 4, 4)) * np.geomspace(1, 10, 4)
    begin = random.normal(size=(4, 4))
    weight = torch.tensor(begin, requires_grad=True)
    config = settings("train.clip=0").train
    optimizer = Soap([("a.weight", weight)], config)
    for gradient in gradients:
        optimizer.step((weight * torch.from_numpy(gradient)).sum(), 0.1)
    expected = soap_in_numpy(begin, gradients, 0.1, config.beta1, config.beta2)
    assert np.abs(begin - expected).max() > 0.5
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-9)


def orthogonal(size):
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q


def descent(optimizer, begin, rotation=None, steps=30):
    """Weights after each step on a badly conditioned quadratic; with `rotation`, of a rotated problem."""
    torch.manual_seed(1)
    A, B = torch.randn(2, 4, 4, dtype=torch.float64) @ torch.diag(torch.tensor([3.0, 2, 1, 0.5])).double()
    left, right = rotation or (torch.eye(4).double(), torch.eye(4).double())
    weight = (left @ begin @ right).requires_grad_()
    optimizer = optimizer([("a.weight", weight)], settings("train.clip=0").train)
    found = []
    for step in range(steps):
        seen = left.T @ weight @ right.T
        optimizer.step(((A @ seen @ B - 1) ** 2).mean() + (seen**4).mean(), 0.1 * (1 - step / steps))
        found.append(seen.detach().clone())
    return torch.stack(found)


def test_soap_takes_the_same_way_in_rotated_coordinates_and_adamw_does_not():
    torch.manual_seed(0)
    begin, rotation = torch.randn(4, 4, dtype=torch.float64), (orthogonal(4), orthogonal(4))
    straight, rotated = descent(Soap, begin), descent(Soap, begin, rotation)
    # covariances are squares, so eigenvectors keep half of float64's digits
    torch.testing.assert_close(straight, rotated, rtol=0, atol=1e-4)
    assert (straight - descent(AdamW, begin)).abs().max() > 0.1
    assert (descent(AdamW, begin) - descent(AdamW, begin, rotation)).abs().max() > 0.1


def test_soap_takes_the_weights_of_a_layer_for_one_matrix():
    names = ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.weight_ih_l1", "head.bias"]
    shapes = [(6, 2), (6, 3), (6,), (6, 3), (4,)]
    parameters = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    optimizer = Soap(zip(names, parameters, strict=True), settings().train)
    matrices = {"rnn_l0": (6, 6), "rnn_l1": (6, 3), "head": (4, 1)}
    assert {name: optimizer.tensors[f"soap/first/{name}"].shape for name in matrices} == matrices
    before = [p.detach().clone() for p in parameters]
    for _ in range(2):
        optimizer.step(sum((k + 1) * p.sum() for k, p in enumerate(parameters)), 0.1)
    # among the eigenvectors the gradient of a layer is one number, which moves by lr as in Adam's first step
    gradients = {"rnn_l0": (1, 1, 2, 2, 2, 3), "rnn_l1": (4, 4, 4), "head": (5,)}
    for name, group in optimizer.groups.items():
        moved = torch.cat([(before[k] - parameters[k]).reshape(len(before[k]), -1) for k in group], dim=1)
        gradient = torch.tensor(gradients[name], dtype=torch.float64).expand(len(moved), -1)
        # Adam's epsilon, 1e-8, beside what float64 leaves of the other directions
        torch.testing.assert_close(moved, 0.1 * gradient / gradient.norm(), rtol=1e-4, atol=1e-6)


def test_a_scaled_loss_gives_the_same_steps():
    plain, scaled = problem(), problem()
    config = settings("train.weight_decay=0.1", "train.clip=0.5").train
    optimizers = AdamW(named(plain), config), AdamW(named(scaled), config, LossScale(torch.device("cpu")))
    for _ in range(5):
        norms = [o.step(sum(p.square().sum() for p in o.parameters), 0.1).norm for o in optimizers]
        torch.testing.assert_close(*norms)
    torch.testing.assert_close(plain, scaled)


def test_the_scale_is_halved_by_overflow_and_grows_again(monkeypatch):
    monkeypatch.setattr(LossScale, "PATIENCE", 3)
    scale = LossScale(torch.device("cpu"))
    factors = []
    for made in [True, True, False, True, True, True, True, False]:
        excused = scale.update(torch.tensor(made))
        assert not excused  # a smaller scale might have helped
        factors.append(scale.factor.item() / 2**16)
    assert factors == [1, 1, 0.5, 0.5, 0.5, 1, 1, 0.5]
    scale.factor.fill_(1.0)
    assert scale.update(torch.tensor(False))
    assert scale.factor == 1


def test_making_one_does_not_import_the_compiler():
    # torch.optim.AdamW would, and that takes longer than all of the main job's training
    code = (
        "import sys, torch; from charlstm.training.optimizer import AdamW;"
        "from types import SimpleNamespace as N;"
        "w = torch.ones(3, requires_grad=True);"
        "o = AdamW([('w', w)], N(clip=1.0, beta1=.9, beta2=.99, weight_decay=0.0, weight_bits=None));"
        "o.step(w.sum(), 0.1); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0
