import math
import re
import signal

import numpy as np
import pytest
import torch
from resuming import plan

from charlstm import checkpoint
from charlstm.runs import directory, snapshot
from charlstm.runs.signals import Stopped
from charlstm.tasks.memorize_run import Memorize
from charlstm.training import losses

TEXT = "".join(np.random.default_rng(0).choice(list("abcdefg"), 39))  # 4 windows of 5 in 2 streams


class Watched(Memorize):
    """A small run, and what it does; `enough` says after which step its task is done."""

    def __init__(self, folder, *overrides, epochs=6, enough=0):
        given = (f"data.text={TEXT}",) if not any(o.startswith("resume=") for o in overrides) else ()
        planned = plan(
            *given, "model.hidden=6", "model.layers=1", "train.layout=streams", "train.batch=2",
            "train.window=5", f"train.epochs={epochs}", "save.every=null", "tensorboard=false", "threads=1",
            *overrides,
        )  # fmt: skip
        super().__init__(planned, folder)
        self.went_back, self.handled, self.enough = [], [], enough

    def handle(self, progress):
        self.handled.append(progress.step)
        return progress.step == self.enough

    def conclude(self):
        return {}

    def saved(self):
        return checkpoint.load(self.path / "last.safetensors")

    def _go_back(self, error):
        super()._go_back(error)
        self.went_back.append(self.training.step)


def resumed(folder, **options):
    """The run that resumes the one in this folder."""
    return Watched(folder, f"resume={folder}", **options)


@pytest.fixture
def saves(monkeypatch):
    """The steps at which something was saved."""
    steps, save = [], directory.save_last

    def noted(folder, trained, keep, before):
        steps.append(trained.step)
        save(folder, trained, keep, before)

    monkeypatch.setattr(directory, "save_last", noted)
    return steps


def poison(monkeypatch, when, value=math.nan):
    """Make the loss not finite in those steps, counted from 0 over all that are tried, that `when` names."""
    tried = []

    def loss(scores, targets):
        tried.append(None)
        right = losses.cross_entropy(scores, targets)
        return right * value if when(len(tried) - 1) else right

    monkeypatch.setattr(losses, "LOSSES", {"cross_entropy": loss})


def test_it_saves_every_so_many_steps_and_at_the_end(tmp_path, saves):
    run = Watched(tmp_path, "save.steps=7")
    assert run.go().code == 0
    assert saves == [7, 14, 21, 24]
    assert run.handled == [4, 8, 12, 16, 20, 24]


def test_it_saves_when_time_is_up(tmp_path, saves, monkeypatch):
    run, clock = Watched(tmp_path, "save.every=10s"), iter(range(0, 10_000, 3))
    monkeypatch.setattr("charlstm.runs.saving.time.monotonic", lambda: next(clock))
    assert run.go().code == 0
    assert saves[-1] == 24
    assert 1 < len(saves) < 12
    assert len(set(saves)) == len(saves)


def test_it_saves_on_demand(tmp_path, saves):
    run = Watched(tmp_path)

    def ask():
        if run.training.step == 7:
            signal.raise_signal(signal.SIGUSR1)

    run.training.before_step = ask
    assert run.go().code == 0
    assert saves == [8, 24]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [5, 8])
def test_a_signal_is_obeyed_within_a_step(tmp_path, saves, number, step):
    run = Watched(tmp_path)

    def stop():
        if run.training.step == step - 1:
            signal.raise_signal(number)

    run.training.before_step = stop
    assert run.go()[:2] == (128 + number, True)
    assert saves == [step]
    other = resumed(tmp_path)
    assert other.go().code == 0
    assert run.handled + other.handled == [4, 8, 12, 16, 20, 24]


def test_figures_that_were_not_handled_to_their_end_are_handled_first(tmp_path, monkeypatch):
    run = Watched(tmp_path)
    handle = run.handle

    def stopped(progress):
        if progress.step == 12:
            run.signals.received = signal.SIGTERM
            raise Stopped
        return handle(progress)

    monkeypatch.setattr(run, "handle", stopped)
    assert run.go()[:2] == (143, True)
    assert run.handled == [4, 8]
    assert run.saved().training.driver.pending.step == 12
    other = resumed(tmp_path)
    assert other.go().code == 0
    assert other.handled == [12, 16, 20, 24]
    assert other.saved().training.driver.pending is None


def test_enough_is_enough_after_resuming_too(tmp_path):
    assert Watched(tmp_path, enough=8).go().code == 0
    other = resumed(tmp_path)
    assert other.go().code == 0
    assert (other.training.step, other.handled) == (8, [])


def test_a_step_gone_wrong_leaves_everything_as_it_was(tmp_path, monkeypatch, caplog):
    run = Watched(tmp_path)
    poison(monkeypatch, lambda tried: tried == 2)
    run.training.run(lambda: run.training.step == 2)
    before = snapshot.take(run.training)
    run.training.run(lambda: True)
    after = snapshot.take(run.training)
    assert (run.training.step, run.training.window) == (3, 3)
    for name in before.weights:
        assert np.array_equal(before.weights[name], after.weights[name])
    for name in before.arrays:
        if name not in ("figures/wrong", "generator"):
            assert np.array_equal(before.arrays[name], after.arrays[name]), name
    assert run.go().code == 0
    assert "At step 4: the loss or a gradient was no finite number in 1 of the last steps" in caplog.text
    assert (run.training.step, run.went_back) == (24, [])


@pytest.mark.parametrize("first", range(5, 13))
def test_after_three_in_a_row_it_goes_back_once(tmp_path, monkeypatch, caplog, first):
    # wherever they lie in the epoch of 4 steps, and beside the save after every third
    run = Watched(tmp_path, "save.steps=3")
    poison(monkeypatch, lambda tried: first <= tried < first + 3)
    assert run.go().code == 0
    assert len(run.went_back) == 1
    assert run.training.lr_factor == 0.5
    assert f"Went back to step {run.went_back[0]}, with 0.5 times the learning rate: the loss" in caplog.text
    assert run.training.step == 24
    assert run.handled[-1] == 24


def test_after_three_returns_it_stops(tmp_path, monkeypatch, caplog):
    run = Watched(tmp_path, "save.steps=3")
    poison(monkeypatch, lambda tried: tried >= 10)
    assert run.go()[:2] == (1, False)
    assert re.search(r"3 times in a row before step \d+ after 3 returns", caplog.text)
    assert "The last good state is saved." in caplog.text
    assert len(run.went_back) == 3
    trained = run.saved()
    assert trained.step >= 9
    assert all(np.isfinite(array).all() for array in (trained.weights | trained.arrays).values())
    assert trained.training.driver.returns == 0  # who goes on has three again


@pytest.mark.parametrize("tried", [0, 6, 23])
def test_it_stops_at_once_if_that_is_wanted(tmp_path, monkeypatch, caplog, tried):
    run = Watched(tmp_path, "train.on_nonfinite=stop")
    poison(monkeypatch, lambda n: n == tried, math.inf)
    assert run.go()[:2] == (1, False)
    named = int(re.search(r"no finite number before step (\d+)", caplog.text)[1])
    assert tried < named <= tried + 5  # found with the figures of its epoch
    assert run.went_back == []


def test_steps_that_all_went_wrong_at_the_end_are_not_the_end(tmp_path, monkeypatch):
    run = Watched(tmp_path, "train.layout=sequence", "train.batch=1", "save.steps=2")  # an epoch is a step
    poison(monkeypatch, lambda tried: tried == 5)
    assert run.go().code == 0
    assert run.went_back == [4]
    assert run.handled[-1] == 6


@pytest.mark.parametrize("spoil", ["weight", "moment", "state"])
def test_what_is_not_finite_is_never_saved(tmp_path, saves, monkeypatch, spoil):
    run, left = Watched(tmp_path, "save.steps=6"), [1]

    def spoiling(progress):
        if progress.step == 12 and left:
            left.pop()
            training = run.training
            weight = next(training.model.rnn.parameters())
            spoiled = {
                "weight": weight, "moment": training.optimizer.second_moments[0],
                "state": weight if training.state is None else training.state[0],
            }  # fmt: skip
            with torch.no_grad():
                spoiled[spoil].view(-1)[0] = math.nan
        return False

    monkeypatch.setattr(run, "handle", spoiling)
    assert run.go().code == 0
    assert saves == [6, 12, 18, 24]
    assert run.went_back == [6]
    for path in tmp_path.glob("*.safetensors"):
        trained = checkpoint.load(path)
        assert all(np.isfinite(array).all() for array in (trained.weights | trained.arrays).values())


def test_a_save_that_fails_is_tried_again_at_the_next(tmp_path, monkeypatch, caplog):
    run, save, tried = Watched(tmp_path, "save.steps=6"), directory.save_last, []

    def failing(*given):
        tried.append(run.training.step)
        if len(tried) in (2, 3):
            raise OSError(28, "No space left on device")
        save(*given)

    monkeypatch.setattr(directory, "save_last", failing)
    assert run.go().code == 0
    assert tried == [6, 12, 18, 24]
    assert run._saving.unsaved is None
    assert re.search(r"not saved: No space left on device; it needs [\d,]+ bytes, [\d,]+ are fr", caplog.text)
    monkeypatch.setattr(directory, "save_last", lambda *_: (tmp_path / "missing" / "x").touch())
    assert resumed(tmp_path).go().code == 1
    assert "last.safetensors: not saved: No such file or directory; it needs" in caplog.text
