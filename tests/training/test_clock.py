"""A budget is kept whatever the speed, and the learning rate ends where the time does; time is an input."""

import math
from itertools import pairwise

import pytest
import torch
from resuming import Time
from test_streams import START, ids_of, model_of

from charlstm.training import loop
from charlstm.training.clock import Clock
from charlstm.training.optimizer import Average
from charlstm.training.schedule import learning_rate

PLAN = ["train.decay=linear", "train.warmup=5", "train.averaging=0.1"]


def timed(seconds_of_step, budget, *, reserve=0.0, pace=0.0, steps=10**12, every=7):
    """A training with a clock, whose steps take what `seconds_of_step` says, and the rates of its steps."""
    time, rates = Time(), []
    model, config = model_of(*PLAN)
    clock = Clock(budget, now=time)
    clock.reserve = reserve
    average = Average(model.parameters(), 1)
    training = loop.of_corpus(
        model, ids_of(), START, config, steps=steps, every=every, average=average, clock=clock, pace=pace
    )

    def before_step():
        time.seconds += seconds_of_step(training.step)
        rates.append(training.lr)

    training.before_step = before_step
    training.plan_steps()
    shares, lefts = [], []
    for progress in training.figures():
        assert progress is not None
        shares.append(training.share)
        lefts.append(training.seconds_left)
    return training, [*rates[1:], training.lr], shares, lefts


def test_of_even_steps_as_many_are_made_as_fit_and_as_if_they_had_been_asked_for():
    training, rates, shares, lefts = timed(lambda _: 1.0, 40.0, reserve=4.0)
    assert training.step == training.steps == 36
    # the first step, before which nothing is known, is one of the warm-up whatever comes
    assert rates == [learning_rate(step, 36, training.config) for step in range(36)]
    assert training.average.weight == pytest.approx(1 / 3.6)
    assert shares == [step / 36 for step in (7, 14, 21, 28, 35, 36)]
    assert lefts == [36 - step for step in (7, 14, 21, 28, 35, 36)]


@pytest.mark.parametrize("pace", [0.0, 0.1, 10.0])
@pytest.mark.parametrize(
    "seconds", [lambda step: 4.0 if step >= 50 else 1.0, lambda step: 0.25 if step >= 50 else 1.0]
)
def test_steps_of_any_speed_end_with_the_time_and_the_rate_with_them(seconds, pace):
    training, rates, shares, _ = timed(seconds, 100.0, pace=pace)
    in_all = sum(map(seconds, range(training.step)))
    assert 100 <= in_all < 100 + seconds(training.step)
    assert shares[-1] == 1
    assert shares[1:] == sorted(shares[1:])  # the first may follow from a pace that is far from true
    after = rates[loop.PACE_STEPS :]
    # 1 %: steps are whole
    assert all(later <= 1.01 * rate for rate, later in pairwise(after))
    assert rates[-1] < 0.06 * training.config.peak_lr
    # the rate is what is left of the time
    k = round(training.step * 0.7)
    left = 1 - sum(map(seconds, range(k))) / 100
    assert rates[k] / training.config.peak_lr == pytest.approx(left, abs=0.06)


def test_steps_come_to_an_end_before_the_time_where_they_are_limited():
    training, _, _, _ = timed(lambda _: 1.0, 100.0, steps=12)
    assert (training.step, training.share, training.seconds_left) == (12, 1, 0)


def test_a_time_that_is_over_holds_one_step_and_no_other():
    training, _, _, _ = timed(lambda _: 1.0, 3.0, reserve=5.0, pace=1.0)
    assert (training.step, training.share) == (1, 1)


def test_what_the_resumed_run_took_is_spent():
    time = Time()
    clock = Clock(50.0, began=-3.0, before=20.0, now=time)
    clock.reserve = 5.0
    assert (clock.spent(), clock.left()) == (23, 22)
    time.seconds += 30
    assert (clock.spent(), clock.left()) == (53, -8)
    assert Clock(now=time).left() == math.inf


def test_without_a_budget_the_clock_changes_nothing():
    trained = []
    for slow in (1.0, 1000.0):
        model, config = model_of(*PLAN)
        time = Time()
        training = loop.of_corpus(model, ids_of(), START, config, steps=20, every=5, clock=Clock(now=time))
        training.before_step = lambda time=time, slow=slow: setattr(time, "seconds", time.seconds + slow)
        assert training.seconds_left is None
        next(training.figures())
        assert (training.share, training.seconds_left) == (0.25, 15 * slow)
        trained.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(*both) for both in zip(*trained, strict=True))
