"""What `resume=` takes over, refuses and says; that it leads to the same is in `runs/test_run.py`."""

import dataclasses
import os
import shutil
from types import SimpleNamespace

import pytest
from resuming import LM, MEMORIZE, compose, go, text

from charlstm import checkpoint
from charlstm.checkpoint import CheckpointError
from charlstm.files import PROJECT
from charlstm.runs import resume
from charlstm.state import Machine
from charlstm.text.corpus import Fingerprint
from charlstm.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Runs of both tasks that were stopped in the middle of an epoch; do not write there."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "text").write_text(text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLSTM_CACHE", str(folder / "cache"))
        go(folder / "memorize", *MEMORIZE, stop_before=13)
        go(folder / "lm", *LM, f"data.path={folder / 'text'}", stop_before=17)
        yield folder


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
    assert lines == [said]
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
    assert said == ["the text is another than before"]
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
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
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
