"""Threads while others come and go, by a machine whose steps take what a test says."""

from dataclasses import replace

import pytest
import torch
from resuming import LM, plan, text

from charlstm.tasks import worker
from charlstm.training.threads import FIRST_WAIT, JUDGED, Threads


@pytest.fixture
def used(monkeypatch):
    """The numbers of threads that torch was given."""
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    return given


def run(threads, seconds, steps):
    """So many steps, which take `seconds` by the number of threads; how many were made on one."""
    on_one = 0
    for _ in range(steps):
        on_one += threads.now == 1
        threads.took(seconds[threads.now])
    return on_one


IDLE, BUSY = {1: 0.138, 2: 0.077}, {1: 0.15, 2: 0.5}


def test_nothing_is_tried_while_steps_take_what_they_did(used):
    assert run(Threads(2, 0.07), IDLE, 500) == 0
    assert used == []


def test_one_thread_while_others_want_the_cores_and_all_again(used):
    threads = Threads(2, 0.07)
    run(threads, IDLE, 50)
    on_one = run(threads, BUSY, 2000)
    assert on_one > 1900
    assert threads.now == 1
    # as fast as one thread alone, but for the steps in which the other number is tried
    time = on_one * BUSY[1] + (2000 - on_one) * BUSY[2]
    assert 2000 * BUSY[1] / time > 0.8
    on_one = run(threads, IDLE, 2100)
    assert threads.now == 2
    assert on_one < 1100
    assert used[-1] == 2


def test_what_brings_nothing_is_tried_ever_more_rarely(used):
    threads = Threads(2, 0.07)
    on_one = run(threads, {1: 0.5, 2: 0.5}, 3000)  # slow for another reason
    assert threads.now == 2
    assert FIRST_WAIT * 2 ** (len(used) // 2 - 1) < 3000
    assert on_one == JUDGED * len(used) // 2 < 60


@pytest.mark.parametrize(
    ("keys", "is_free"),
    [
        (["threads=auto", "train.steps=null", "train.budget=60s"], True),
        (["threads=2", "train.steps=null", "train.budget=60s"], False),
        (["threads=auto"], False),  # so many steps are the same run again, bit for bit
    ],
)
def test_only_where_the_clock_decides_anyway(keys, is_free):
    made = plan(*LM, f"data.text={text()}", *keys)
    vars(made)["decided"] = replace(made.decided, threads=2)  # on one thread nothing could be left out
    assert (worker.training_of(made).threads is not None) == is_free
