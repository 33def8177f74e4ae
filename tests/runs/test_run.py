"""Runs that are stopped, killed and resumed, from outside and within: they end as undisturbed ones."""

import json
import logging
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from resuming import LM, MEMORIZE, arrays_of, assert_same, compose, go, numbers_of, plan, text
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from warm import PYTHON

from charlstm import checkpoint
from charlstm.files import PROJECT
from charlstm.runs import directory, tracker
from charlstm.runs.tracker import Tracker
from charlstm.scoring import baselines, held_out
from charlstm.tasks import final_scores, memorize_run
from charlstm.training import machine


@pytest.fixture(scope="module", autouse=True)
def corpus(tmp_path_factory):
    """A file with the text of the language models."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text").write_text(text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", True)  # which a run switches off for its process
        yield folder / "text"


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """Undisturbed runs of both tasks; do not write there."""
    folder = tmp_path_factory.mktemp("whole")
    go(folder / "memorize", *MEMORIZE)
    go(folder / "lm", *LM, f"data.path={corpus}")
    return folder


def of(task, corpus):
    return MEMORIZE if task == "memorize" else [*LM, f"data.path={corpus}"]


def result_of(folder):
    result = json.loads((folder / "result.json").read_text("utf-8"))
    of_the_clock = ("train_seconds", "chars_per_second", "checkpoint", "resumed_from")
    return {name: value for name, value in result.items() if name not in of_the_clock}


def points(folder):
    """TensorBoard's curves and texts as its page has them, but for those of speed and memory."""
    shown = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    shown.Reload()
    return {
        name: [(e.step, make_ndarray(e.tensor_proto).tolist()) for e in shown.Tensors(name)]
        for name in shown.Tags()["tensors"]
        if not any(part in name for part in ("_second", "memory", "custom_scalars"))
    }


def test_a_run_of_muon_on_batches_in_parts_ends_the_same_wherever_it_is_stopped(corpus, tmp_path):
    keys = [*LM, f"data.path={corpus}", "train.optimizer=muon", "model.layers=2", "train.steps=20"]
    keys += ["train.accumulate=3"]
    run = go(tmp_path / "first", *keys, stop_before=7)
    momenta = [array for name, array in arrays_of(run).items() if name.startswith("muon/momentum/")]
    assert len(momenta) == 4
    assert all(array.any() and array.dtype == np.float32 for array in momenta)
    run = go(run, f"resume={run}", stop_before=13)
    assert_same(go(tmp_path / "last", f"resume={run}"), go(tmp_path / "whole", *keys))


@pytest.mark.parametrize("task", ["memorize", "lm"])
@pytest.mark.parametrize("steps", [(0,), (1, 2, 3), (10, 20), (7, 8, 16, 33), (35,)])
def test_the_end_is_the_same_wherever_a_run_is_stopped(whole, corpus, tmp_path, task, steps):
    # in the middle and at the end of epochs, at and between evaluations
    run = go(tmp_path / "0", *of(task, corpus), stop_before=steps[0])
    for k, step in enumerate(steps[1:], 1):
        there = tmp_path / f"{k}" if k % 2 else run  # in another directory, or the same
        run = go(there, f"resume={run}", stop_before=step)
    last = go(tmp_path / "last", f"resume={run}")
    assert_same(last, whole / task)
    assert result_of(last) == result_of(whole / task)
    assert points(last) == points(whole / task)
    for line in points(last).values():
        assert [step for step, _ in line] == sorted({step for step, _ in line})


@pytest.mark.parametrize("task", ["memorize", "lm"])
def test_it_is_another_end_without_what_is_saved(whole, tmp_path, corpus, task):
    # what the tests above rest on: every kind of array has come to matter
    run = go(tmp_path / "run", *of(task, corpus), stop_before=14)
    last = run / "last.safetensors"
    trained = checkpoint.load(last)
    kinds = ["adam/first", "adam/second", "state", "generator", *(["average"] if task == "lm" else [])]
    for kind in kinds:
        changed = {name: 0 * a for name, a in trained.arrays.items() if name.startswith(kind)}
        if kind == "generator":
            changed = {kind: torch.Generator().manual_seed(123).get_state().numpy()}
        spoiled = tmp_path / kind.replace("/", " ")
        spoiled.mkdir()
        copy = checkpoint.Checkpoint(**(vars(trained) | {"arrays": trained.arrays | changed}))
        checkpoint.save(copy, spoiled / "last.safetensors")
        go(spoiled, f"resume={spoiled}")
        with pytest.raises(AssertionError):
            assert_same(spoiled, whole / task)


@pytest.mark.parametrize("task", ["memorize", "lm"])
def test_a_finished_run_that_is_resumed_is_finished(whole, tmp_path, task):
    again = go(tmp_path / "again", f"resume={whole / task}")
    assert_same(again, whole / task)
    assert result_of(again) == result_of(whole / task)
    assert json.loads((again / "result.json").read_text())["resumed_from"].startswith(str(whole / task))
    # a key that has nothing to do with training does not make it train
    assert_same(go(tmp_path / "other", f"resume={again}", "save.keep=3"), whole / task)


def test_more_epochs_or_steps_train_on(whole, tmp_path, corpus):
    longer = go(tmp_path / "memorize", f"resume={whole / 'memorize'}", "train.epochs=6")
    assert_same(longer, go(tmp_path / "at once", *MEMORIZE, "train.epochs=6"))
    longer = go(tmp_path / "lm", f"resume={whole / 'lm'}", "train.steps=60")
    assert numbers_of(longer).step == result_of(longer)["steps"] == 60
    # the learning rate follows the steps that there are now
    plain = [*LM, f"data.path={corpus}", "train.decay=none", "train.averaging=0", "train.warmup=0"]
    run = go(tmp_path / "shorter", *plain)
    longer = go(tmp_path / "longer", f"resume={run}", "train.steps=55")
    assert_same(longer, go(tmp_path / "lm at once", *plain, "train.steps=55"))


def test_a_learning_rate_given_anew_is_used_as_it_is(tmp_path, corpus):
    run = go(tmp_path / "run", *of("memorize", corpus), stop_before=13)
    trained = checkpoint.load(run / "last.safetensors")
    numbers = replace(trained.training.numbers, lr_factor=0.25)  # it went back twice
    changed = replace(trained, training=replace(trained.training, numbers=numbers))
    checkpoint.save(changed, run / "last.safetensors")
    rates = {}
    for given in ([], ["train.lr=0.002"]):
        there = go(tmp_path / f"on{len(given)}", f"resume={run}", *given)
        rates[len(given)] = points(there)["train/learning_rate"][-1][1]
    assert rates == {0: pytest.approx(0.01 / 4), 1: pytest.approx(0.002)}  # as float32


def test_a_broken_last_state_is_answered_by_the_one_before(whole, corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO, "charlstm")
    run = go(tmp_path / "run", *of("lm", corpus), "save.steps=6", stop_before=17)
    blob = bytearray((run / "last.safetensors").read_bytes())
    blob[-5] ^= 1
    (run / "last.safetensors").write_bytes(blob)
    last = go(run, f"resume={run}")
    assert caplog.text.count("last.safetensors: ") == 1
    assert "Resumes from step 16 of" in caplog.text  # where the score was the best so far
    assert_same(last, whole / "lm")
    assert points(last) == points(whole / "lm")


def test_a_run_killed_before_its_first_state_begins_anew_and_so_do_its_curves(whole, corpus, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with Tracker(run) as tracker:  # its curves are there
        tracker.curves(7, {"bits_per_char/train": 1.0})
    assert points(run)
    assert points(go(run, *of("lm", corpus))) == points(whole / "lm")


def test_curves_are_on_the_disk_before_the_state_that_is_resumed_with_them(corpus, tmp_path, monkeypatch):
    # TensorBoard's thread writes when it comes to it: a kill in between would leave a gap
    done = []
    for owner, name in ((tracker.Tracker, "curves"), (tracker.Tracker, "flush"), (directory, "save_last")):
        original = getattr(owner, name)

        def noted(*given, _name=name, _do=original):
            done.append(_name)
            return _do(*given)

        monkeypatch.setattr(owner, name, noted)
    go(tmp_path / "run", *of("lm", corpus), "save.steps=9")
    saves = [k for k, name in enumerate(done) if name == "save_last"]
    drawn = [done[:k].count("curves") for k in saves]
    assert {9 + 1, 18 + 2, 27 + 3, 36 + 4, 40 + 5} <= {*drawn}  # and scores
    assert {8 + 1, 16 + 2, 24 + 3, 32 + 4} & {*drawn}  # where the score was the best so far
    assert {done[k - 1] for k in saves} == {"flush"}


def test_a_moved_text_is_the_same_and_another_is_not(whole, corpus, tmp_path):
    run = go(tmp_path / "run", *of("lm", corpus), stop_before=17)
    moved = shutil.copy(corpus, tmp_path / "moved")
    assert_same(go(tmp_path / "on", f"resume={run}", f"data.path={moved}"), whole / "lm")
    (tmp_path / "other").write_text(corpus.read_text()[::-1])
    with pytest.raises(ValueError, match="the text has changed since"):
        go(tmp_path / "refused", f"resume={run}", f"data.path={tmp_path / 'other'}")
    given = [f"resume={run}", f"data.path={tmp_path / 'other'}", "resume_with_other_data=true"]
    # in the middle of an epoch, which begins anew
    stopped = go(tmp_path / "stopped", *given, stop_before=19)
    assert numbers_of(run).window > 0
    assert (numbers_of(stopped).epoch, numbers_of(stopped).window) == (numbers_of(run).epoch, 2)
    last = go(tmp_path / "other run", *given)
    assert numbers_of(last).step == 40
    assert result_of(last)["best_step"] > 17  # the score of the other text's valid part is none of this one's


def test_another_text_is_not_known_by_heart(tmp_path):
    short = ["model.layers=1", "model.hidden=64", "threads=1", "save.every=null", "train.lr=0.02"]
    known = go(tmp_path / "known", *short, "data.text=abcabd")
    assert result_of(known)["recalled"]
    given = [f"resume={known}", "data.text=dbacba", "resume_with_other_data=true"]
    last = go(tmp_path / "other", *given)
    assert result_of(last)["recalled"]
    assert result_of(last)["recalled_at_epoch"] > result_of(known)["recalled_at_epoch"]


def test_what_was_recalled_stays_so(tmp_path, monkeypatch):
    short = ["model.layers=1", "model.hidden=64", "threads=1", "save.every=null", "train.lr=0.02"]
    short += ["data.text=abcabd", "train.stop_at_recall=false", "train.epochs=80"]
    whole = go(tmp_path / "whole", *short)
    run = go(tmp_path / "run", *short, stop_before=70)
    monkeypatch.setattr(memorize_run, "WORTH_A_FREE_RUN", 2.0)  # it cannot be found out again
    assert result_of(go(run, f"resume={run}")) == result_of(whole)
    assert 0 < result_of(whole)["recalled_at_epoch"] < 70


@pytest.mark.parametrize("stop", [31, 43, 57])
def test_patience_and_the_best_score_survive(corpus, tmp_path, stop):
    given = [*of("lm", corpus), "train.lr=0.3", "train.decay=none", "train.averaging=0"]
    given += ["train.steps=600", "eval.times=100", "train.patience=9"]
    whole = go(tmp_path / "whole", *given)
    run = go(tmp_path / "run", *given, stop_before=stop)
    last = go(tmp_path / "last", f"resume={run}")
    assert_same(last, whole)
    assert result_of(last) == result_of(whole)
    best, steps = (result_of(whole)[name] for name in ("best_step", "steps"))
    assert sum(map(plan(*given).is_scored, range(best + 1, steps + 1))) == 9
    assert steps < 600
    assert go(tmp_path / "again", f"resume={last}", code=0)  # and its end is not forgotten
    assert result_of(tmp_path / "again") == result_of(whole)


def test_a_signal_breaks_off_a_score_and_it_is_made_again(whole, corpus, tmp_path, monkeypatch):
    carried, scored = held_out.carried, []

    def slow(*given, **named):
        scored.append(None)
        if len(scored) == 4:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("it went on")
        return carried(*given, **named)

    monkeypatch.setattr(held_out, "carried", slow)
    run = go(tmp_path / "run", *of("lm", corpus), code=130)
    last = checkpoint.load(run / "last.safetensors")
    assert last.step == last.training.driver.pending.step == 16
    assert_same(go(run, f"resume={run}"), whole / "lm")
    assert points(run) == points(whole / "lm")


def test_a_signal_at_the_very_end_leaves_nothing_out(whole, corpus, tmp_path, monkeypatch):
    def stopped(*_):
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(final_scores, "of_weights", stopped)
        run = go(tmp_path / "run", *of("lm", corpus), code=143)
    assert not (run / "result.json").exists()
    assert_same(go(run, f"resume={run}"), whole / "lm")


def test_a_last_state_that_cannot_be_saved_is_exit_code_1(corpus, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "save_last", full)
    run = go(tmp_path / "run", *of("lm", corpus), code=1)
    assert (run / "result.json").exists()
    assert caplog.records[-1].message.startswith(f"error: {run / 'last.safetensors'}: not saved: No space")


@pytest.mark.parametrize("number", range(3))
def test_curves_that_cannot_be_drawn_are_missed_once(whole, corpus, tmp_path, monkeypatch, caplog, number):
    class Broken:
        left = number

        def __init__(self, *_, **__):
            self.draw()

        def draw(self, *_):
            Broken.left -= 1
            if Broken.left < 0:
                raise OSError("the disk is full")

        add_scalar = add_text = add_summary = add_image = add_histogram = flush = close = draw
        file_writer = property(lambda self: self)

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", Broken)
    run = go(tmp_path / "run", *of("lm", corpus), "save.steps=9")
    assert_same(run, whole / "lm")
    assert caplog.text.count("TensorBoard's curves end here: the disk is full. Training goes on.") == 1


def test_weights_of_symbols_that_are_never_scored_are_looked_at(corpus, tmp_path, caplog):
    spoiled = []

    def spoil(training):
        if training.step == 11 and not spoiled:
            spoiled.append(None)
            training.model.embedding.weight.data[-1] = np.nan  # the end token, which a stream has not

    run = go(tmp_path / "run", *of("lm", corpus), "save.steps=10", before_step=spoil)
    assert "Went back to step 10, with 0.5 times the learning rate: a weight is not finite" in caplog.text
    for path in run.glob("*.safetensors"):
        assert all(np.isfinite(weight).all() for weight in checkpoint.load(path).weights.values())


def test_old_checkpoints_without_training_still_write(whole):
    best = checkpoint.load(whole / "lm" / "best.safetensors")
    assert best.training is None
    assert best.arrays == {}
    done = subprocess.run(
        [
            *PYTHON,
            str(PROJECT / "sample.py"),
            f"ckpt={whole / 'lm' / 'best.safetensors'}",
            "length=9",
            "seed=1",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 0 < len(done.stdout) <= 9


def test_two_threads_are_kept_though_one_would_be_chosen(corpus, tmp_path, monkeypatch):
    given = [argument for argument in of("memorize", corpus) if argument != "threads=1"]
    monkeypatch.setattr(machine, "choose_threads", lambda *_: 2)
    run = go(tmp_path / "run", *given, stop_before=3)
    monkeypatch.setattr(machine, "choose_threads", lambda *_: 1)
    go(run, f"resume={run}", stop_before=5)
    assert checkpoint.load(run / "last.safetensors").training.provenance.threads == 2


def test_killed_for_real_and_resumed_in_the_same_directory(tmp_path):
    given = [*MEMORIZE, "train.epochs=40"]
    command = [sys.executable, str(PROJECT / "train.py")]
    resume = [*command, "resume=run", "hydra.run.dir=run", "train.epochs=40"]
    process = subprocess.Popen(
        [*command, *MEMORIZE, "train.epochs=1000000000", "save.steps=2", "hydra.run.dir=run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    while not (tmp_path / "run" / "step_000006.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)  # it lives and holds its directory, but gets no further
    refused = subprocess.run(resume, cwd=tmp_path, capture_output=True, text=True)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    done = subprocess.run(resume, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Resumes from step " in done.stdout
    assert_same(tmp_path / "run", go(tmp_path / "whole", *given))


def test_the_last_state_is_of_the_arrays_that_it_says(whole):
    names = {name.partition("/")[0] for name in arrays_of(whole / "lm")}
    assert {"adam", "average", "figures", "generator", "state"} <= names
    assert compose(f"resume={whole / 'lm'}").resume == str(whole / "lm")


def test_figures_that_are_not_finite_are_null_and_others_kept(whole, corpus, tmp_path, monkeypatch, caplog):
    scores = iter([SimpleNamespace(nats=math.inf), SimpleNamespace(nats=math.nan)])
    monkeypatch.setattr(held_out, "fresh_windows", lambda *_: next(scores))
    monkeypatch.setattr(baselines, "ngrams", lambda *_: {"uniform": 3.0, "unigram": math.nan})
    missing = {f"valid_windows_{unit}": None for unit in ("nats", "bpc", "bpb")}
    expected = result_of(whole / "lm") | missing
    for name, given in (("lm", []), ("more", ["eval.baselines=true"])):
        run = go(tmp_path / name, *of("lm", corpus), *given)
        result = result_of(run)
        assert expected.items() <= result.items()
        assert checkpoint.load(run).figures["valid_windows_nats"] is None
    assert result["baselines_bpc"] == {"uniform": 3.0, "unigram": None}
    assert f"Not finite, and null in result.json: {', '.join(missing)}.\n" in caplog.text
    assert f"null in result.json: {', '.join(missing)}, baselines_bpc, baselines_bpb.\n" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_nothing_is_said_to_be_saved_that_is_not_there(corpus, tmp_path, monkeypatch, caplog, number):
    caplog.set_level(logging.INFO, "charlstm")
    monkeypatch.setattr(directory, "save_last", lambda *_: None)  # a disk that says yes and keeps nothing

    def end(training):
        if training.step == 3 and number is not None:
            signal.raise_signal(number)
        elif training.step == 3:
            next(training.model.parameters()).data[:] = math.nan

    go(tmp_path / "run", *of("lm", corpus), "train.on_nonfinite=stop", before_step=end, code=1)
    assert " saved." not in caplog.text
    assert re.search("error: .*last.safetensors: no such checkpoint", caplog.text)


def test_a_path_that_is_not_utf_8_is_in_the_result(tmp_path):
    run = go(tmp_path / "a\udcff", *MEMORIZE)
    result = json.loads((run / "result.json").read_text("utf-8"))
    assert result["checkpoint"] == str(run / "best.safetensors")
