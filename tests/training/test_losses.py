import math
from typing import get_args

import pytest
import torch

from charlstm.config.settings import Loss
from charlstm.training import losses


def test_cross_entropy_is_the_mean_of_minus_log_probability():
    scores = torch.tensor([[[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]])  # (T, B, V) = (1, 2, 3)
    first = -2.0 + math.log(math.exp(1.0) + math.exp(2.0) + math.exp(0.5))
    expected = (first + math.log(3)) / 2
    # float32 has seven digits
    assert math.isclose(losses.cross_entropy(scores, torch.tensor([[1, 2]])).item(), expected, rel_tol=1e-6)


def test_focal_is_cross_entropy_weighted_by_the_square_of_what_is_missing():
    torch.manual_seed(0)
    scores, targets = torch.randn(7, 3, 5, dtype=torch.float64, requires_grad=True), torch.randint(5, (7, 3))
    each = -torch.log_softmax(scores, dim=-1).gather(-1, targets[..., None])[..., 0]
    weights = (1 - torch.exp(-each.detach())) ** 2
    (expected,) = torch.autograd.grad((weights * each).mean(), scores)
    value = losses.focal(scores, targets)
    assert value.item() == pytest.approx((weights * each).mean().item())
    torch.testing.assert_close(torch.autograd.grad(value, scores)[0], expected)


def test_the_hardest_is_near_the_largest_loss_and_its_gradient_evens_the_largest_two():
    scores = torch.zeros(1000, 1, 2)
    scores[:, 0, 0] = 20.0  # nearly certain, but for two that are not
    scores[500, 0, 0], scores[999, 0, 0], targets = 0.1, 2.0, torch.zeros(1000, 1, dtype=torch.int64)
    each = torch.log(1 + torch.exp(-scores[:, 0, 0].double()))
    k = 5 * each.mean()
    expected = k * torch.log(torch.exp(each / k).mean())
    scores.requires_grad_()
    value = losses.hardest(scores, targets)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)  # float32
    assert each.mean() < value < each.max() < 1.05 * value
    value.backward()
    assert scores.grad[500].norm() > 0.99 * scores.grad.norm()
    assert torch.isfinite(losses.hardest(scores + 1e9 * scores, targets))  # where nothing is left to learn


def test_mse_is_summed_over_steps_and_averaged_over_the_rest():
    scores = torch.tensor([[[0.5, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    targets = torch.tensor([[0, 0], [1, 1], [0, 1]])  # (T, B) = (3, 2)
    squares = [[0.25, 0.0], [1.0, 0.0], [1.0, 1.0]]
    expected = sum(sum(row) / (2 * 2) for row in squares)
    assert losses.mse(scores, targets).item() == expected


def test_mse_of_a_sequence_is_the_published_sum_of_losses():
    torch.manual_seed(0)
    scores, targets = torch.randn(7, 1, 5), torch.randint(5, (7, 1))
    one_hot = torch.eye(5)[targets]
    published = sum(torch.nn.MSELoss()(scores[t].view(-1), one_hot[t].view(-1)) for t in range(7))
    # the order of the additions differs
    torch.testing.assert_close(losses.mse(scores, targets), published, rtol=1e-6, atol=0)


def test_correct_counts_the_highest_scores():
    scores = torch.tensor([[[0.1, 0.9], [0.8, 0.2]], [[0.3, 0.4], [0.7, 0.6]]])
    assert losses.correct(scores, torch.tensor([[1, 1], [1, 0]])).item() == 3


def test_every_loss_of_the_settings_exists():
    assert set(get_args(Loss)) == set(losses.LOSSES)
