import math
import re
import signal

import numpy as np
import pytest
import torch
from going_on import compose

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint
from charlstm.model.torch_model import Model
from charlstm.runs import directory, snapshot
from charlstm.runs.saving import Driver
from charlstm.runs.signals import Stopped, StopSignals
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import loop, losses
from charlstm.training.loop import DivergedError

VOCABULARY = Vocabulary("abcdefg")


class Run:
    """A driver of a small training, and what it does."""

    def __init__(self, folder, *overrides, epochs=6):
        chosen = compose(
            "model.hidden=6", "model.layers=1", "train.layout=streams", "train.batch=2", "train.window=5",
            f"train.epochs={epochs}", "save.every=null", *overrides,
        )  # fmt: skip
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = Model(chosen.model, len(VOCABULARY))
        ids = np.random.default_rng(0).integers(7, size=41, dtype=np.uint8)  # 4 windows
        self.training = loop.of_text(self.model, ids, chosen.train)
        self.folder, self.chosen, self.went_back, self.handled = folder, chosen, [], []
        self.signals = StopSignals()
        self.driver = Driver(
            self.training, folder, save=chosen.save, on_nonfinite=chosen.train.on_nonfinite,
            signals=self.signals, as_checkpoint=self.as_checkpoint, went_back=self.went_back.append,
        )  # fmt: skip

    def as_checkpoint(self, state, driver):
        training = {"numbers": state.numbers, "driver": driver}
        return Checkpoint(
            self.chosen.model, VOCABULARY, "memorize", 9, {}, {}, state.weights, training, state.arrays
        )

    def handle(self, progress):
        self.handled.append(progress.step)
        return False

    def saved(self):
        return checkpoint.load(self.folder / "last.safetensors")

    def from_disk(self):
        """Put into this run what the other one saved."""
        trained = self.saved()
        state = snapshot.Snapshot(trained.weights, trained.arrays, trained.training["numbers"])
        snapshot.put_back(state, self.training)
        self.driver.put_back(trained.training["driver"])
        return self


@pytest.fixture
def saves(monkeypatch):
    """The steps at which something was saved."""
    steps, save = [], directory.save_last

    def noted(folder, trained, keep):
        steps.append(trained.training["numbers"]["step"])
        save(folder, trained, keep)

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
    run = Run(tmp_path, "save.steps=7")
    run.driver.drive(run.handle)
    assert saves == [7, 14, 21, 24]
    assert run.handled == [4, 8, 12, 16, 20, 24]


def test_it_saves_when_time_is_up(tmp_path, saves, monkeypatch):
    run, clock = Run(tmp_path, "save.every=10s"), iter(range(0, 10_000, 3))
    monkeypatch.setattr("charlstm.runs.saving.time.monotonic", lambda: next(clock))
    run.driver.drive(run.handle)
    assert saves[-1] == 24
    assert 1 < len(saves) < 12
    assert len(set(saves)) == len(saves)


def test_it_saves_on_demand(tmp_path, saves):
    run = Run(tmp_path)

    def handle(progress):
        if progress.step == 8:
            signal.raise_signal(signal.SIGUSR1)
        return False

    with run.signals:
        run.driver.drive(handle)
    assert saves == [8, 24]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [5, 8])
def test_a_signal_is_obeyed_within_a_step(tmp_path, saves, number, step):
    run = Run(tmp_path)
    make = run.training._next

    def stopping():
        make()
        if run.training.step == step:
            signal.raise_signal(number)

    run.training._next = stopping
    with run.signals:
        run.driver.drive(run.handle)
    assert saves == [step]
    assert run.signals.received == number
    other = Run(tmp_path).from_disk()
    other.driver.drive(other.handle)
    assert run.handled + other.handled == [4, 8, 12, 16, 20, 24]


def test_figures_that_were_not_handled_to_their_end_are_handled_first(tmp_path):
    run = Run(tmp_path)

    def handle(progress):
        if progress.step == 12:
            run.signals.received = signal.SIGTERM
            raise Stopped
        return run.handle(progress)

    run.driver.drive(handle)
    assert run.handled == [4, 8]
    assert run.saved().training["driver"]["pending"]["step"] == 12
    other = Run(tmp_path).from_disk()
    other.driver.drive(other.handle)
    assert other.handled == [12, 16, 20, 24]
    assert other.saved().training["driver"]["pending"] is None


def test_enough_is_enough_after_going_on_too(tmp_path):
    run = Run(tmp_path)
    run.driver.drive(lambda progress: progress.step == 8)
    other = Run(tmp_path).from_disk()
    other.driver.drive(other.handle)
    assert (other.training.step, other.handled) == (8, [])


def test_a_step_gone_wrong_leaves_everything_as_it_was(tmp_path, monkeypatch, caplog):
    run = Run(tmp_path)
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
    run.driver.drive(run.handle)
    assert "At step 4: the loss or a gradient was no finite number in 1 of the last steps" in caplog.text
    assert (run.training.step, run.went_back) == (24, [])


@pytest.mark.parametrize("first", range(5, 13))
def test_after_three_in_a_row_it_goes_back_once(tmp_path, monkeypatch, caplog, first):
    # wherever they lie in the epoch of 4 steps, and beside the save after every third
    run = Run(tmp_path, "save.steps=3")
    poison(monkeypatch, lambda tried: first <= tried < first + 3)
    run.driver.drive(run.handle)
    assert len(run.went_back) == 1
    assert run.training.lr_factor == 0.5
    assert f"Went back to step {run.went_back[0]}, with 0.5 times the learning rate: the loss" in caplog.text
    assert run.training.step == 24
    assert run.handled[-1] == 24


def test_after_three_returns_it_stops(tmp_path, monkeypatch):
    run = Run(tmp_path, "save.steps=3")
    poison(monkeypatch, lambda tried: tried >= 10)
    with pytest.raises(DivergedError, match=r"3 times in a row before step \d+ after 3 returns"):
        run.driver.drive(run.handle)
    assert len(run.went_back) == 3
    trained = run.saved()
    assert trained.training["numbers"]["step"] >= 9
    assert all(np.isfinite(array).all() for array in (trained.weights | trained.arrays).values())
    assert trained.training["driver"]["returns"] == 0  # who goes on has three again


@pytest.mark.parametrize("tried", [0, 6, 23])
def test_it_stops_at_once_if_that_is_wanted(tmp_path, monkeypatch, tried):
    run = Run(tmp_path, "train.on_nonfinite=stop")
    poison(monkeypatch, lambda n: n == tried, math.inf)
    with pytest.raises(DivergedError, match=r"no finite number before step (\d+)") as error:
        run.driver.drive(run.handle)
    named = int(re.search(r"step (\d+)", str(error.value))[1])
    assert tried < named <= tried + 5  # found with the figures of its epoch
    assert run.went_back == []


def test_steps_that_all_went_wrong_at_the_end_are_not_the_end(tmp_path, monkeypatch):
    run = Run(tmp_path, "train.layout=sequence", "train.batch=1", "save.steps=2")  # an epoch is a step
    poison(monkeypatch, lambda tried: tried == 5)
    run.driver.drive(run.handle)
    assert run.went_back == [4]
    assert run.handled[-1] == 6


@pytest.mark.parametrize("spoil", ["weight", "moment", "state"])
def test_what_is_not_finite_is_never_saved(tmp_path, saves, spoil):
    run = Run(tmp_path, "save.steps=6")
    make, left = run.training._next, [1]

    def spoiling():
        make()
        if run.training.step == 12 and left:
            left.pop()
            with torch.no_grad():
                weight = next(run.model.rnn.parameters())
                spoiled = {
                    "weight": weight, "moment": run.training.optimizer.second_moments[0],
                    "state": weight if run.training.state is None else run.training.state[0],
                }  # fmt: skip
                spoiled[spoil].view(-1)[0] = math.nan

    run.training._next = spoiling
    run.driver.drive(run.handle)
    assert saves == [6, 12, 18, 24]
    assert run.went_back == [6]
    for path in tmp_path.iterdir():
        trained = checkpoint.load(path)
        assert all(np.isfinite(array).all() for array in (trained.weights | trained.arrays).values())


def test_a_save_that_fails_is_tried_again_at_the_next(tmp_path, monkeypatch, caplog):
    run, save, tried = Run(tmp_path, "save.steps=6"), directory.save_last, []

    def failing(*given):
        tried.append(run.training.step)
        if len(tried) in (2, 3):
            raise OSError(28, "No space left on device")
        save(*given)

    monkeypatch.setattr(directory, "save_last", failing)
    run.driver.drive(run.handle)
    assert tried == [6, 12, 18, 24]
    assert run.driver.unsaved is None
    assert re.search(r"not saved: No space left on device; it needs [\d,]+ bytes, [\d,]+ are fr", caplog.text)
    monkeypatch.setattr(directory, "save_last", lambda *_: (tmp_path / "missing" / "x").touch())
    assert run.driver.save()
    assert "last.safetensors: not saved: No such file or directory; it needs" in run.driver.unsaved
