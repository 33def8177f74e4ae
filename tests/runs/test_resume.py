"""What `resume=` takes over, refuses and says; that it leads to the same is in `runs/test_run.py`."""

import dataclasses
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from resuming import (
    LM,
    MEMORIZE,
    SMALL,
    Time,
    assert_same,
    carry_out,
    compose,
    go,
    numbers_of,
    plan,
    text,
)

from charlstm import checkpoint
from charlstm.checkpoint import CheckpointError
from charlstm.files import PROJECT
from charlstm.model.torch_model import Model
from charlstm.runs import resume
from charlstm.scoring import held_out
from charlstm.state import Decided, Machine
from charlstm.tasks import table
from charlstm.text.corpus import Fingerprint
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import machine, speed
from charlstm.training.clock import Clock

PROSE = (
    "It is what it was, and it was what it is; so it will be what it has been, and has been what it will be. "
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Runs of both tasks that were stopped in the middle of an epoch; do not write there."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "text").write_text(text())
    go(folder / "memorize", *MEMORIZE, stop_before=13)
    go(folder / "lm", *LM, f"data.path={folder / 'text'}", stop_before=17)
    return folder


def differences(chosen, run, vocabulary=None, other=None):
    """What resuming with these settings says."""
    saved = resume.find(run)
    corpus = SimpleNamespace(data=other, matches=lambda _: other is None)
    found = resume.resumed(chosen, saved, vocabulary or saved.trained.vocabulary, corpus)
    provenance = vars(saved.state.provenance)
    machine = Machine(**{key: provenance[key] for key in ("device", "precision", "threads")})
    return found, list(found.differences(provenance, machine))


@pytest.mark.parametrize("task", ["memorize", "lm"])
def test_all_values_are_taken_over(stopped, task):
    overrides = {"memorize": MEMORIZE, "lm": [*LM, f"data.path={stopped / 'text'}"]}[task]
    for path in (stopped / task, stopped / task / "last.safetensors"):
        chosen = compose(f"resume={path}")
        assert vars(chosen) == vars(compose(*overrides)) | {"resume": str(path)}
        found, said = differences(chosen, stopped / task)
        assert (found.changed, said, found.other_data, found.same_place) == ({}, [], False, True)


def test_what_was_chosen_before_stays_whatever_would_be_chosen_now(tmp_path):
    keys = ["model.layers=1", "model.hidden=64", f"data.text='{PROSE * 2}'", "save.every=null", "threads=1"]
    assert plan(*keys).config.optimizer == "muon"
    by_soap = go(
        tmp_path / "soap", *keys, "train.optimizer=soap", "train.epochs=2", "train.stop_at_recall=false"
    )
    trained = checkpoint.load(by_soap / "last.safetensors")
    train = replace(trained.training.settings.train, optimizer="auto")  # as a version that chose SOAP had it
    training = replace(trained.training, settings=replace(trained.training.settings, train=train))
    checkpoint.save(replace(trained, training=training), by_soap / "last.safetensors")
    again = plan(f"resume={by_soap}")
    assert (again.settings.train.optimizer, again.config.optimizer) == ("auto", "soap")
    assert again.config.lr == plan(*keys, "train.optimizer=soap").config.lr


ANEW = {
    "train.lr=0.5": "train.lr = 0.5 (was 0.01)",
    "train.steps=90": "train.steps = 90 (was 40)",
    "eval.times=7": "eval.times = 7 (was 5)",
    "save.every=3m": "save.every = 3m (was null)",
    "save.steps=7": "save.steps = 7 (was null)",
    "save.keep=4": "save.keep = 4 (was 1)",
    "data.split=[0.5,0.5,0]": "data.split = [0.5, 0.5, 0.0] (was [0.6, 0.4, 0.0])",
    "tensorboard=false": "tensorboard = false (was true)",
    "train.dropout.hidden=0": "train.dropout.hidden = 0.0 (was 0.2)",
    "model.engine=plain": "model.engine = plain (was fused)",
}


@pytest.mark.parametrize(("given", "said"), ANEW.items())
def test_values_given_anew_are_used_and_said(stopped, given, said):
    found, lines = differences(compose(f"resume={stopped / 'lm'}", given), stopped / "lm")
    anew = "other windows than before: after 1 epochs the next begins anew"
    assert lines == [said, *([anew] if "split" in given else [])]
    assert not found.unchanged(given.partition("=")[0])
    assert not found.unchanged(given.partition(".")[0].partition("=")[0])
    # data that are cut otherwise have other windows
    assert found.same_place is ("split" not in given)


@pytest.mark.parametrize("given", ["model.hidden=10", "model.cell=gru", "model.layers=2", "task=memorize"])
def test_another_model_is_refused(stopped, given):
    key, value = given.split("=")
    # but for `task`, which is a group of values, the others are those of the run
    arguments = [f"resume={stopped / 'lm'}", given, *(["train.steps=null"] if key == "task" else [])]
    with pytest.raises(ValueError, match=f"{key} = {value}: the run that is resumed has .*; leave it out"):
        differences(compose(*arguments), stopped / "lm")


@pytest.mark.parametrize("group", ["experiment=names", "data=hello"])
def test_a_group_of_values_is_refused(stopped, group):
    key, value = group.split("=")
    with pytest.raises(ValueError, match=f"{key} = {value}: does not go together with resume"):
        compose(f"resume={stopped / 'lm'}", group)


def test_other_characters_are_refused(stopped):
    with pytest.raises(
        ValueError, match="was trained on 9 characters, which are not the 2 characters of this text"
    ):
        differences(compose(f"resume={stopped / 'lm'}"), stopped / "lm", Vocabulary("ab"))


def test_another_text_is_refused_unless_it_is_wanted(stopped):
    other = Fingerprint(size=1234, sha256="0" * 64)
    with pytest.raises(ValueError, match=r"the text has changed since \(609 bytes then, 1,234 now\)"):
        differences(compose(f"resume={stopped / 'lm'}"), stopped / "lm", other=other)
    wanted = compose(f"resume={stopped / 'lm'}", "resume_with_other_data=true")
    found, said = differences(wanted, stopped / "lm", other=other)
    assert said[0] == "the text is another than before"
    assert said[1:] == ["other windows than before: after 1 epochs the next begins anew"]
    assert (found.same_place, found.same_parts, found.same_training) == (False, False, False)
    # which is not taken over by who goes on from there
    assert "resume_with_other_data" not in resume.find(stopped / "lm").values()


def strange(stopped, file, **data):
    """A run like that of task=lm whose checkpoint names another text."""
    trained = checkpoint.load(stopped / "lm" / checkpoint.LAST)
    settings = trained.training.settings
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, **data))
    training = dataclasses.replace(trained.training, settings=settings)
    checkpoint.save(dataclasses.replace(trained, training=training), file)
    return f"resume={file}"


def test_a_checkpoint_alone_names_no_text_outside_of_the_current_folder_but_its_own(
    stopped, tmp_path, monkeypatch
):
    here, outside = tmp_path / "here", tmp_path / "outside"
    for folder in (here, outside):
        folder.mkdir()
        (folder / "secret.txt").write_text("secret")
        os.mkfifo(folder / "pipe")
    shutil.copy(stopped / "text", outside / "same.txt")
    (here / "link.txt").symlink_to(outside / "secret.txt")
    monkeypatch.chdir(here)
    wrong = {
        "absolute": {"path": str(outside / "secret.txt")},
        "relative": {"path": "../outside/secret.txt"},
        "link": {"path": "link.txt"},
        "pipe": {"path": str(outside / "pipe")},
        "folder": {"path": str(outside)},
        "glob": {"path": ".", "glob": "../outside/*.txt"},
    }
    for name, data in wrong.items():
        asked = strange(stopped, tmp_path / name, **data)
        with pytest.raises(ValueError, match="only the checkpoint names it, it is outside of the") as caught:
            compose(asked, "resume_with_other_data=true")
        assert str(caught.value).startswith(f"data.path = {data['path']}: ")
        assert compose(asked, f"data.path={data['path']}").data.path == data["path"]  # now the user does
        assert compose(asked, "data.text=abc").data.text == "abc"
    for name, path in {"same": outside / "same.txt", "own": "secret.txt"}.items():
        asked = strange(stopped, tmp_path / name, path=str(path))
        assert compose(asked).data.path == str(path)


def test_a_checkpoint_alone_names_no_url_but_those_that_everybody_has(stopped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = compose("data=shakespeare").data
    other = {"path": "none", "url": "http://127.0.0.1:1/text", "sha256": known.sha256}
    for name, data in {
        "other": other,
        "known, other sum": {**other, "url": known.url, "sha256": "0" * 64},
    }.items():
        asked = strange(stopped, tmp_path / name, **data)
        with pytest.raises(ValueError, match=f"data.url = {data['url']}: only the checkpoint names it"):
            compose(asked)
        assert compose(asked, f"data.url={data['url']}").data.url == data["url"]
        (tmp_path / "none").write_text("it is there")
        compose(asked)
        (tmp_path / "none").unlink()
    asked = strange(stopped, tmp_path / "known", path="none", url=known.url, sha256=known.sha256)
    assert compose(asked).data.url == known.url


def test_versions_and_threads_that_differ_are_said(stopped):
    found, _ = differences(compose(f"resume={stopped / 'lm'}"), stopped / "lm")
    before = found.state.provenance
    machine = Machine(device="cpu", precision=before.precision, threads=64)
    assert sorted(found.differences(vars(before) | {"torch": "99.9"}, machine)) == [
        "threads 64 (was 1): the last bits may differ",
        f"torch 99.9 (was {before.torch}): the last bits may differ",
    ]


def test_what_is_no_run_is_refused(stopped, tmp_path):
    shutil.copytree(stopped / "lm", tmp_path / "lm")
    best = tmp_path / "lm" / "best.safetensors"
    with pytest.raises(CheckpointError, match="has only what sampling needs; a run is resumed from its last"):
        compose(f"resume={best}")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        compose(f"resume={tmp_path / 'nothing'}")


def test_a_text_is_found_from_another_folder(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "my.txt").write_text(text())
    monkeypatch.chdir(here)
    go(here / "run", *LM, "data.path=my.txt", stop_before=5)
    assert compose("resume=run").data.path == "my.txt"
    monkeypatch.chdir(there)
    chosen = compose("resume=../here/run")
    assert chosen.data.path == str(here / "my.txt")
    go(there / "run", "resume=../here/run")


def test_a_run_of_an_old_format_is_resumed(tmp_path):
    old = PROJECT / "tests" / "checkpoints" / "format_1_training.safetensors"
    go(tmp_path / "run", f"resume={old}", "train.stop_at_recall=false", "train.epochs=60")
    last = checkpoint.load(tmp_path / "run" / checkpoint.LAST)
    assert last.step == 60
    before, now = checkpoint.load(old).weights, last.weights
    assert all((before[name] != now[name]).any() for name in now)


def test_a_resume_of_nothing_or_of_another_task_is_refused(stopped):
    with pytest.raises(ValueError, match="resume = : names no run; give a run directory"):
        compose("resume=")
    with pytest.raises(ValueError, match="task = memorize: the run that is resumed has lm; leave it out"):
        compose(f"resume={stopped / 'lm'}", "task=memorize")


@pytest.fixture(scope="module")
def ended(stopped):
    """Runs of all tasks in the middle of an epoch, before the first figures, and at their end."""
    copy = ["task=copy", "model.hidden=9", "model.layers=1", "train.batch=4", "train.epochs=20"]
    given = {
        "memorize": [*MEMORIZE, "train.decay=linear"],
        "lm": [*LM, f"data.path={stopped / 'text'}"],
        "epochs": [*LM, f"data.path={stopped / 'text'}", *EPOCHS],
        "unknown": [*LM, f"data.path={stopped / 'rare'}", "data.min_count=3"],
        "copy": [*copy, "train.log_every=5", "threads=1", "save.every=null"],
    }
    (stopped / "rare").write_text(text() + "zzyy")
    (stopped / "backwards").write_text(text()[::-1])
    for name, arguments in given.items():
        go(stopped / f"{name} early", *arguments, stop_before=2)
        go(stopped / f"{name} middle", *arguments, stop_before=22 if name in ("memorize", "epochs") else 13)
        go(stopped / f"{name} end", *arguments)
    return stopped


EPOCHS = [
    "train.steps=null",
    "train.budget=null",
    "train.epochs=4",
    "train.averaging=0",
    "train.decay=linear",
    "train.warmup=0",
]
# of 70 symbols, and of 365: the windows of an epoch
WINDOWS = {
    ("memorize", "train.batch=7"): 3,
    ("memorize", "train.window=9"): 4,
    ("memorize", "train.layout=segments"): 9,
    ("memorize", "train.layout=staggered"): 1,
    ("memorize", "train.layout=sequence train.batch=1"): 1,
    ("memorize", "train.layout=streams"): None,  # as it was
    ("epochs", "train.batch=2"): 22,
    ("epochs", "train.window=4"): 30,
}


@pytest.mark.parametrize(("name", "given"), WINDOWS)
def test_epochs_mean_epochs_whatever_the_windows(ended, tmp_path, name, given):
    windows, rates = WINDOWS[name, given], []
    before = numbers_of(ended / f"{name} middle")
    resumed = [f"resume={ended / f'{name} middle'}", *given.split()]
    go(tmp_path / "0", *resumed, before_step=lambda training: rates.append(training.lr))
    last = numbers_of(tmp_path / "0")
    if windows is None:
        assert_same(tmp_path / "0", ended / f"{name} end")
        return
    assert before.window > 0
    assert before.epoch in (1, 2)
    assert last.step == before.step + (4 - before.epoch) * windows
    # where the text is cut may make an epoch of a language model shorter by a window
    assert (last.epoch, last.window) == (4, 0) if name == "memorize" else last.epoch == 4
    # the learning rate is that of the epochs done
    assert rates[1] == pytest.approx(plan(*resumed).config.peak_lr * (1 - before.epoch / 4))
    # and stopped once more it comes to the same
    go(tmp_path / "1", *resumed, stop_before=before.step + 1)
    assert_same(go(tmp_path / "2", f"resume={tmp_path / '1'}"), tmp_path / "0")
    # with nothing left to do, nothing is done
    again = go(tmp_path / "3", f"resume={tmp_path / '0'}", "train.batch=2", "train.layout=streams")
    assert numbers_of(again).step == last.step


@pytest.mark.parametrize("given", ["train.batch=2", "train.window=4", "train.batch=2 train.window=5"])
def test_steps_mean_steps_whatever_the_windows(ended, tmp_path, given):
    go(tmp_path / "run", f"resume={ended / 'lm middle'}", *given.split())
    assert numbers_of(tmp_path / "run").step == 40


def with_budget(directory, *arguments, time, stop_before=None):
    """A run of 100 s whose steps take a second each, and nothing else any; the steps, and the last state."""
    planned = plan(*arguments)
    spent = 0.0 if planned.resumed is None else planned.resumed.state.driver.spent
    planned = replace(planned, clock=Clock(planned.clock.budget, began=time(), before=spent, now=time))
    if planned.settings.task == "lm":
        measured = {"precision": "float32", "threads": 1, "seconds_per_step": 1.0, "steps": 100}
        planned.__dict__["decided"] = Decided(**measured)
    directory.mkdir()

    def hook(training):
        time.seconds += 1
        if training.step == stop_before:
            signal.raise_signal(signal.SIGTERM)

    outcome = carry_out(planned, directory, hook)
    assert outcome.code == (0 if stop_before is None else 143)
    return outcome.steps, checkpoint.load(directory / "last.safetensors").training


@pytest.mark.parametrize("task", ["memorize", "lm", "copy"])
def test_a_resumed_run_has_the_time_that_was_left(ended, tmp_path, task):
    given = {"memorize": [*MEMORIZE, "train.epochs=1000"], "copy": ["task=copy", *SMALL, "train.batch=4"]}
    given["lm"] = [*LM, f"data.path={ended / 'text'}", "train.steps=null"]
    request, time = [*given[task], "train.budget=100s", "tensorboard=false"], Time()
    # in whole steps, less what is reserved: more than none and less than one
    steps, state = with_budget(tmp_path / "whole", *request, time=time)
    assert steps == state.driver.spent == 100
    time.seconds += 1000
    _, state = with_budget(tmp_path / "part", *request, time=time, stop_before=29)
    assert (state.numbers.step, state.driver.spent) == (30, 30)
    time.seconds += 1000
    steps, state = with_budget(tmp_path / "rest", f"resume={tmp_path / 'part'}", time=time)
    assert steps == state.driver.spent == 100
    # with nothing left nothing is done, and more time is more steps
    assert with_budget(tmp_path / "none", f"resume={tmp_path / 'rest'}", time=time)[0] == 100
    more = [f"resume={tmp_path / 'rest'}", "train.budget=110s"]
    assert with_budget(tmp_path / "more", *more, time=time)[0] == 110


def test_the_clock_of_a_run_that_is_resumed(ended):
    saved = resume.find(ended / "lm middle")
    chosen = compose(f"resume={saved.path}", "train.steps=null", "train.budget=9s")
    spent = saved.state.driver.spent
    assert spent > saved.state.numbers.seconds > 0
    began = time.monotonic() - 3
    assert table.plan(chosen, saved, began).clock.spent() >= 3 + spent
    driver = replace(saved.state.driver, spent=None)  # of an older file
    training = replace(saved.state, driver=driver)
    older = replace(saved, trained=replace(saved.trained, training=training))
    clock = table.plan(chosen, older, began).clock
    assert clock.budget == 9
    assert 3 + saved.state.numbers.seconds <= clock.spent() < 3 + spent + 60
    assert table.plan(compose(f"resume={saved.path}"), saved).clock.budget is None  # steps come first


def test_what_was_measured_is_taken_over(stopped, tmp_path, monkeypatch):
    seconds = iter([0.01, 0.02])
    monkeypatch.setattr(speed, "fastest", lambda *request: (request[4][0], next(seconds)))
    given = [*LM, f"data.path={stopped / 'text'}", "train.steps=null", "train.budget=1h"]
    run = go(tmp_path / "run", *given, stop_before=5)
    decided = checkpoint.load(run / "last.safetensors").training.task.decided
    again = plan(f"resume={run}", "eval.times=3").decided
    assert (again.seconds_per_step, again.sample) == (0.01, decided.sample)
    for change in ("train.batch=2", "train.window=4", "precision=auto"):
        seconds = iter([0.02])
        again = plan(f"resume={run}", change).decided
        assert (again.seconds_per_step, again.sample) == (0.02, decided.sample)


def test_a_precision_is_kept_where_the_hardware_has_it(stopped, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "capabilities", lambda _: set())
    run = go(tmp_path / "run", *LM, "precision=auto", f"data.path={stopped / 'text'}", stop_before=5)
    planned = plan(f"resume={run}")
    before = planned.resumed.state
    decided = dataclasses.replace(before.task.decided, precision="bfloat16", seconds_per_step=7)
    state = dataclasses.replace(
        before,
        task=dataclasses.replace(before.task, decided=decided),
        provenance=dataclasses.replace(before.provenance, precision="bfloat16"),
    )
    trained = dataclasses.replace(planned.resumed.trained, training=state)
    planned = dataclasses.replace(planned, resumed=dataclasses.replace(planned.resumed, trained=trained))
    monkeypatch.setattr(speed, "PROBE_SECONDS", 0.0)
    assert planned.decided.precision == "float32"
    assert planned.decided.seconds_per_step != 7
    assert "  precision float32 (was bfloat16): the last bits may differ" in planned.describe()
    monkeypatch.setattr(machine, "capabilities", lambda _: {"amx_bf16"})
    assert dataclasses.replace(planned).decided == decided


REFUSED = {
    "data.split=[0.5,0.3,0.2]": None,
    "data.split=[1,0,0]": None,
    "data.split=[0.6,0,0.4]": None,
    "data.path={}/backwards resume_with_other_data=true": None,
    "data.path={}/backwards": "the text has changed since",
    "data.path={}/rare data.min_count=3 resume_with_other_data=true": "characters and an unknown one of this",
    "data.path={}/rare resume_with_other_data=true": "which is not among the 9 known characters",
    "data.unit=byte": "which are not the 9 bytes of this text",
    "data.min_count=65": "characters and an unknown one of this",
    "data.min_count=3": None,
    "data.alphabet=abcdefg": "which is not among the 7 known characters",
    "data.alphabet=hgfedcba ": "which are not the 9 characters of this text",
    "data.alphabet= abcdefgh": None,
    "seed=5": None,
    "precision=float32": None,
    "precision=auto": None,
    "device=cpu": None,
    "threads=2": None,
    "train.steps=2": None,
    "train.steps=null train.budget=0.00001s": None,
    "train.batch=100": None,
    "train.window=1000": None,
    "train.averaging=0": None,
    "train.optimizer=muon": None,
    "model.engine=plain": None,
}


@pytest.mark.parametrize("where", ["early", "middle", "end"])
@pytest.mark.parametrize("given", REFUSED)
def test_a_language_model_goes_on_or_is_refused(ended, tmp_path, where, given):
    request = [f"resume={ended / f'lm {where}'}", *given.format(ended).replace("= ", "=_").split()]
    request = [argument.replace("=_", "= ").replace("hgfedcba", "hgfedcba ") for argument in request]
    if REFUSED[given] is not None:
        with pytest.raises(ValueError, match=REFUSED[given]) as refused:
            plan(*request)
        assert "\n" not in str(refused.value)
        return
    run = go(tmp_path / "run", *request)
    result = json.loads((run / "result.json").read_text("utf-8"))
    # what is said is what the model that is left scores on the parts that there are now
    best, parts = checkpoint.load(run), plan(*request).corpus
    model = Model(best.config, len(best.vocabulary))
    model.load_state_dict({name: torch.from_numpy(w) for name, w in best.weights.items()})
    for part, ids in (("valid", parts.valid), ("test", parts.test)):
        said = result.get(f"{part}_nats")
        scored = held_out.carried(model, ids, best.vocabulary.start).nats if len(ids) else None
        assert said == pytest.approx(scored, abs=1e-6) if scored else said is None
    if where == "end" and "steps" not in given:
        assert numbers_of(run).step == 40


@pytest.mark.parametrize("where", ["early", "middle", "end"])
def test_a_model_with_an_unknown_token_goes_on_with_other_texts(ended, tmp_path, where):
    run, other = ended / f"unknown {where}", "resume_with_other_data=true"
    (tmp_path / "more").write_text(text() + "wvvw")
    assert go(tmp_path / "run", f"resume={run}", f"data.path={tmp_path / 'more'}", other, "data.min_count=4")
    few = plan(f"resume={run}", f"data.path={ended / 'text'}", other)  # without unknown characters
    assert few.vocabulary == checkpoint.load(run).vocabulary
    assert few.corpus.facts.rare == 0
    foreign = plan(f"resume={run}", "data.text=abzabzab" + "abc" * 200, other)
    assert foreign.corpus.facts.rare == 2
    assert foreign.corpus.original(0, 3) == b"abz"


OTHERS = {
    "memorize": [
        *(
            "data.text={} resume_with_other_data=true",
            "seed=3",
            "threads=2",
            "train.epochs=1",
            "train.loss=mse",
        ),
        *("train.optimizer=soap", "train.decay=loss", "data.encoding=latin-1", "precision=bfloat16"),
        "train.weight_bits=8",
    ],
    "copy": ["seed=3", "threads=2", "train.epochs=2", "train.batch=9", "train.lr=0.1", "train.log_every=9"],
}


@pytest.mark.parametrize("where", ["early", "middle", "end"])
@pytest.mark.parametrize(("name", "given"), [(name, given) for name in OTHERS for given in OTHERS[name]])
def test_another_task_goes_on(ended, tmp_path, name, where, given):
    sentence = "".join(reversed(plan(*MEMORIZE).vocabulary.characters))
    request = [argument.format(sentence) for argument in given.split()]
    run = go(tmp_path / "run", f"resume={ended / f'{name} {where}'}", *request)
    result = json.loads((run / "result.json").read_text("utf-8"))
    assert result["epochs"] >= (20 if name == "copy" else 4) or "epochs" in given
