import math
import subprocess
import sys

import pytest
import torch
from conftest import settings

from charlstm.optimizer import AdamW, Average, learning_rate


def problem():
    torch.manual_seed(3)
    return [torch.randn(4, 3, requires_grad=True), torch.randn(5, requires_grad=True)]


def loss_of(parameters):
    first, second = parameters
    return (first.tanh().sum() - 2) ** 2 + (second**3).sum().cos()


@pytest.mark.parametrize("weight_decay", [0, 0.1])
@pytest.mark.parametrize("clip", [0, 0.5])
def test_the_steps_are_those_of_torch(clip, weight_decay):
    theirs, ours = problem(), problem()
    matrix, vector = theirs
    config = settings(f"train.clip={clip}", f"train.weight_decay={weight_decay}").train
    optimizer = AdamW(ours, config)
    groups = [{"params": [matrix], "weight_decay": weight_decay}, {"params": [vector], "weight_decay": 0}]
    reference = torch.optim.AdamW(groups, lr=1, betas=(config.beta1, config.beta2), fused=True)
    for step in range(20):
        lr = 0.03 * (20 - step) / 20
        for group in reference.param_groups:
            group["lr"] = lr
        norm = optimizer.step(loss_of(ours), lr)
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
    optimizer = AdamW(parameters, settings("train.weight_decay=0.5").train)
    optimizer.step(sum(0 * p.sum() for p in parameters), 0.1)  # a gradient of zeros
    assert torch.equal(matrix, before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(vector, before[1])


def test_parameters_that_share_a_gradient_are_clipped_once():
    # of a sum of both, autograd gives one and the same tensor to both
    first, second = parameters = [torch.ones(4, requires_grad=True), torch.ones(4, requires_grad=True)]
    optimizer = AdamW(parameters, settings("train.clip=0.5", "train.beta1=0").train)
    optimizer.step(((first + second) ** 2).sum(), 0.1)
    for moment in optimizer.first_moments:
        torch.testing.assert_close(moment, torch.full((4,), 0.5 / math.sqrt(8)), rtol=1e-5, atol=0)


def rates(steps, *overrides):
    config = settings("train.lr=0.5", *overrides).train
    return [learning_rate(step, steps, config) for step in range(steps)]


def test_the_learning_rate_warms_up_and_falls():
    warmup = "train.warmup=4"
    rising = [0.1, 0.2, 0.3, 0.4]
    # 16 steps are left after those 4: the first has the full rate, the last 1/16 of the way to go
    assert rates(20, warmup) == pytest.approx(rising + 16 * [0.5])
    linear = [0.5 * (16 - k) / 16 for k in range(16)]
    assert rates(20, warmup, "train.decay=linear") == pytest.approx(rising + linear)
    cosine = [0.25 * (1 + math.cos(math.pi * k / 16)) for k in range(16)]
    assert rates(20, warmup, "train.decay=cosine") == pytest.approx(rising + cosine)


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
@pytest.mark.parametrize("warmup", [0, 1, 50])
def test_the_learning_rate_is_never_zero_and_reaches_its_height(decay, steps, warmup):
    found = rates(steps, f"train.decay={decay}", f"train.warmup={warmup}")
    assert min(found) > 0
    assert max(found) == 0.5  # a short training warms up for half of its steps at most
    assert found.index(0.5) == min(warmup, steps // 2)


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


def test_swapping_twice_is_not_swapping():
    parameters = problem()
    average = Average(parameters, steps=2)
    with torch.no_grad():
        for p in parameters:
            p.add_(1)
    average.update()
    now = [p.detach().clone() for p in parameters]
    averaged = [a.clone() for a in average.averages]
    places = [p.data_ptr() for p in parameters]
    average.swap()
    for p, a, in_now, in_averaged in zip(parameters, average.averages, now, averaged, strict=True):
        assert torch.equal(p, in_averaged)
        assert torch.equal(a, in_now)
        assert not torch.equal(p, a)
    average.swap()
    for p, a, in_now, in_averaged in zip(parameters, average.averages, now, averaged, strict=True):
        assert torch.equal(p, in_now)
        assert torch.equal(a, in_averaged)
    assert [p.data_ptr() for p in parameters] == places  # whoever holds the weights sees the exchange


def test_making_one_does_not_import_the_compiler():
    # torch.optim.AdamW would, and that takes longer than all of the main job's training
    code = (
        "import sys, torch; from charlstm.optimizer import AdamW; from types import SimpleNamespace as N;"
        "w = torch.ones(3, requires_grad=True);"
        "o = AdamW([w], N(clip=1.0, beta1=.9, beta2=.99, weight_decay=0.0));"
        "o.step(w.sum(), 0.1); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
