import math

import pytest
from conftest import settings

from charlstm.model.torch_model import Model
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import loop, losses
from charlstm.training.schedule import Settling, learning_rate


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


def factors(losses):
    settling, found = Settling(), []
    for loss in losses:
        settling.update(loss)
        found.append(settling.factor)
    return found


def test_the_factor_is_the_root_of_the_lowest_loss():
    assert factors([3.0, 1.5, 0.49, 0.64, 0.25, 9.0]) == pytest.approx([1, 1, 0.7, 0.7, 0.5, 0.5])


def test_it_shrinks_while_there_is_no_progress():
    # 50 epochs each: the first has nothing to compare with; 1 % is progress, less is none
    means = [3.0, 2.9, 2.89, 2.95, 2.8, 2.9]
    found = factors(loss for mean in means for loss in 25 * [mean - 1, mean + 1])
    assert found[49::50] == pytest.approx([1, 1, 0.8, 0.64, 0.64, 0.512])
    assert found[99:149] == 50 * [1]  # not before the fifty are over


def test_without_progress_it_falls_to_a_twenty_fifth():
    found = factors(5000 * [2.0])
    assert found[749] == pytest.approx(0.8**14)
    assert set(found[799:]) == {0.04}


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_a_training_whose_decay_is_loss_follows_what_it_lowers(monkeypatch, name):
    lowered, loss = [], losses.LOSSES[name]

    def heard(scores, targets):
        if scores.requires_grad:  # otherwise it is a figure
            lowered.append((len(targets), loss(scores, targets).item()))
        return loss(scores, targets)

    monkeypatch.setitem(losses.LOSSES, name, heard)
    vocabulary = Vocabulary.of_text("abcab" * 30)
    overrides = (
        "train.optimizer=soap",
        "train.layout=segments",
        "train.batch=3",
        "train.lr=0.05",
        f"train.loss={name}",
    )
    config = settings(*overrides, "train.epochs=30", "model.hidden=12")
    training = loop.of_text(
        Model(config.model, len(vocabulary)), vocabulary.framed(vocabulary.encode("abcab" * 30)), config.train
    )
    lowest = 1.0
    for progress in training.figures():
        assert progress.learning_rate == pytest.approx(0.05 * math.sqrt(lowest))
        mean = sum(T * one for T, one in lowered) / sum(T for T, _ in lowered)
        assert (progress.loss == pytest.approx(mean)) == (name == "cross_entropy")
        lowest = min(lowest, mean)
        lowered.clear()
    assert lowest < 0.5
