import os
import re
import sys
from datetime import datetime
from importlib import import_module
from operator import attrgetter

import hydra
import pytest
from conftest import settings
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from charlstm.cli import arguments, command_line, terminal
from charlstm.config import compose
from charlstm.config.convert import RequestError, keys_of
from charlstm.config.settings import TrainSettings
from charlstm.config.tool_settings import SampleSettings, ScoreSettings
from charlstm.runs import directory
from charlstm.runs.resume import complete


# what a shell can hand over: any text without NUL, and not undecodable bytes
@hypothesis_settings(max_examples=60, deadline=None)  # each one composes a configuration: 0.1 s
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@example("???")
@example("null")
@example("true")
@example("1e3")
@example("0.10")
@example("a, b=c [d] {e} (f)")
@example("${seed}")
@example("\\${seed}")
@example("\\\\${seed} \\")
@example("'\"\\' \\\\' \\")
@example("  blanks at the ends \t\n")
@example("naïve 日本 🙂 $HOME `ls` !x & ; < > # ~")
@example("a=b")
@example("'quoted'")
def test_free_text_reaches_the_settings_unchanged(text):
    arguments = compose.quote_free_text([f"prompt={text}"], SampleSettings)
    assert command_line.compose("sample", SampleSettings, arguments).prompt == text


def test_only_free_text_is_quoted():
    arguments = ["data.text=a,b", "model.layers=3", "hydra.job.name=x", "--multirun", "data.path"]
    arguments += ["train.budget=null", "train.budget=90s"]
    quoted = compose.quote_free_text(arguments, TrainSettings)
    assert quoted == ["data.text='a,b'", *arguments[1:]]


def test_null_is_none_but_in_a_text():
    arguments = ["data.url=null", "data.sha256=null", "init=null", "resume=null", "data.text=null"]
    asked, saved = complete(arguments)
    assert (asked, saved) == ([*arguments[:-1], "data.text='null'"], None)
    found = settings("data=shakespeare", *asked)
    assert (found.data.url, found.data.sha256, found.init, found.data.text) == (None, None, None, "null")
    assert compose.quote_free_text(["prompt=null", "out=null"], SampleSettings) == [
        "prompt='null'",
        "out=null",
    ]


def test_directories_may_interpolate_and_be_quoted_already():
    given = ["hydra.run.dir=é,'[#]=/${now:%Y}\\", "hydra.sweep.dir='a, b'", 'hydra.sweep.subdir="c"']
    assert compose.quote_free_text(given, TrainSettings) == [
        "hydra.run.dir='é,\\'[#]=/${now:%Y}\\\\'",
        *given[1:],
    ]
    config = hydra_config(given[:1])
    assert OmegaConf.select(config, "hydra.run.dir") == f"é,'[#]=/{datetime.now():%Y}\\"


def hydra_config(arguments):
    """What Hydra makes of arguments, its own part included."""
    with hydra.initialize_config_dir(str(compose.CONF), version_base="1.3"):
        return hydra.compose(
            "train", compose.quote_free_text(arguments, TrainSettings), return_hydra_config=True
        )


def problems(*overrides):
    with pytest.raises(RequestError) as caught:
        settings(*overrides)
    return caught.value.problems


def test_all_problems_of_a_request_come_at_once():
    found = problems(
        "layers=3", "model.hiden=2", "train.lr=nan", "model.cell=lstn", "experiment=notebok", "seed"
    )
    assert [problem.split(":")[0] for problem in found] == [
        *("layers", "model.hiden", "experiment=notebok", "seed", "model.cell = lstn", "train.lr = nan")
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.layers=1,2", "model.layers=1,2: several values; add --multirun"),
        ("+model.depth=3", "model.depth: no such key"),
        ("~model.layers", "model.layers: missing"),
        ("experiment=notebok", "no such experiment; there are copy | names | notebook | "),
        ("task=foo", "no such task; there are copy | lm | memorize"),
        ("experiment=names,notebook", "several values; add --multirun"),
        ("model.layers=[", "not of the form key=value"),
        ("seed=${nothing}", "nothing"),
        ("hydra.nothing=1", "hydra"),
    ],
)
def test_what_hydra_would_stumble_over(override, expected):
    (problem,) = problems(override)
    assert expected in problem
    assert "\n" not in problem


def test_overlays_and_overrides_combine():
    chosen = settings("experiment=notebook_batch", "train.batch=7", "seed=3")
    assert (chosen.train.batch, chosen.train.layout, chosen.model.hidden, chosen.seed) == (
        7,
        "staggered",
        35,
        3,
    )


def test_nothing_of_a_request_stays_behind():
    before = settings()
    settings("model.layers=9", "experiment=notebook")
    assert settings() == before


def test_answered_exits_with_2_and_a_line_each(capsys):
    with pytest.raises(SystemExit) as stop, terminal.answered():
        raise RequestError(["first", "second"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: first\nerror: second\n"


def test_asking_does_not_import_torch():
    import subprocess

    code = (
        "import sys; from charlstm.cli import command_line; from charlstm.config.settings import *;"
        "command_line.compose('train', TrainSettings, []); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


def test_lists_are_lists_and_patterns_are_text():
    arguments = ["data.exclude=[tests,old-*]", "data.glob=**/*.py", "data.split=[0.9,0.1,0]"]
    data = settings(*compose.quote_free_text(arguments, TrainSettings)).data
    assert (data.exclude, data.glob, data.split) == (("tests", "old-*"), "**/*.py", (0.9, 0.1, 0.0))


def test_latest_is_the_run_that_was_saved_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def asked(ckpt):
        monkeypatch.setattr(sys, "argv", ["charlstm", f"ckpt={ckpt}"])
        return command_line.ask("score", ScoreSettings, "").ckpt

    with pytest.raises(SystemExit) as stop:
        asked("latest")
    assert stop.value.code == 2
    expected = f"error: ckpt = latest: no run in outputs/, multirun/, runs/ (looked in {tmp_path}); name "
    assert capsys.readouterr().err.startswith(expected)
    # `b` began last, but `a` was saved again after that; what is kept beside a last state is none of a run
    times = {
        "outputs/1/a/last": 3,
        "outputs/1/a/best": 1,
        "multirun/2/0/b/best": 2,
        "outputs/c/step_000001": 4,
    }
    for name, time in times.items():
        file = tmp_path / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (time, time))
    assert asked("latest") == "outputs/1/a"
    assert capsys.readouterr().err == "ckpt=latest is outputs/1/a\n"
    assert asked("runs/x,latest") == "runs/x,outputs/1/a"
    for kind, folder in zip(
        ("run", "sweep"), directory.RUNS, strict=False
    ):  # `conf/train.yaml` says the same
        assert hydra_config([]).hydra[kind].dir.startswith(f"{folder}/")
    (tmp_path / "latest").mkdir()
    assert asked("latest") == "latest"


FLAGS = {  # name of the command, what is typed, what is answered
    "sample --ckpt x": "--ckpt: keys have no dashes; write ckpt=x",
    "sample --top-k=3": "--top-k: keys have no dashes; write top_k=3",
    "sample --temperature -1": "--temperature: keys have no dashes; write temperature=-1",
    "sample --out": "--out: keys have no dashes; write out=...",
    "sample -m": "-m: no such flag; see --help",
    "sample x.safetensors": "x.safetensors: not of the form key=value; write ckpt=x.safetensors",
    "sample temperatur": "temperatur: not of the form key=value; write temperature=...",
    "score runs/a": "runs/a: not of the form key=value; write ckpt=runs/a",
    "train --layers 3": "--layers: keys have no dashes; write model.layers=3",
    "train --model.layers=3": "--model.layers: keys have no dashes; write model.layers=3",
    "train --resume run": "--resume: keys have no dashes; write resume=run",
    "train --experiment names": "--experiment: keys have no dashes; write experiment=names",
    "train -n": "-n: no such flag; see --help",
    "train book.txt": "book.txt: not of the form key=value; write data.path=book.txt",
    "train layers": "layers: not of the form key=value; write model.layers=...",
    "train model.layer": "model.layer: not of the form key=value; write model.layers=...",
    "train hidden=3": "hidden: no such key; did you mean model.hidden?",
    "train -m seed=1 resume=x": "resume: resumes one run; leave out --multirun",
}


@pytest.mark.parametrize("line", FLAGS)
def test_flags_are_answered_with_the_key(monkeypatch, capsys, line):
    name, *words = line.split()
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as stop:
        import_module(f"charlstm.cli.{name}").main()
    assert (stop.value.code, capsys.readouterr().err) == (2, f"error: {FLAGS[line]}\n")


@pytest.mark.parametrize("name", ["train", "sample", "score", "look", "page", "runs", "limit"])
def test_every_command_has_help_and_a_version(monkeypatch, capsys, name):
    for words, said in ((["--version"], "charlstm "), (["x=1", "-h", "--nothing"], "")):
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit) as stop:
            import_module(f"charlstm.cli.{name}").main()
        assert stop.value.code == 0
        found = capsys.readouterr().out
        assert found.startswith(said)
    assert compose.keys_with_comments(name, TrainSettings) in found


def test_flags_may_stand_anywhere(monkeypatch):
    words = ["seed=1,2", "--multirun", "data.text=--x", "--cfg", "job", "-i", "check=true"]
    monkeypatch.setattr(sys, "argv", ["train", *words])
    keys, flags = arguments.arrange("train", TrainSettings, "", ["--multirun", "--cfg", "-i"])
    assert keys == ["seed=1,2", "data.text=--x", "check=true"]
    assert flags == ["--multirun", "--cfg", "job", "-i"]


def test_help_shows_the_values_of_what_is_chosen(monkeypatch, capsys):
    def keys(*words):
        monkeypatch.setattr(sys, "argv", ["train", *words, "--help"])
        with pytest.raises(SystemExit):
            command_line.ask("train", TrainSettings, "All keys, with the defaults of one\n(or another):")
        return capsys.readouterr().out.splitlines()

    usual, chosen = keys("model.hidden=3"), keys("task=lm", "experiment=names")
    assert (usual[:2], chosen[0]) == (
        ["All keys, with the defaults of one", "(or another):"],
        "All keys, with the defaults of task=lm experiment=names:",
    )
    assert len(chosen) == len(usual) - 1
    changed = [(old, new) for old, new in zip(usual[2:], chosen[1:], strict=True) if old != new]
    # every value that is another one, and no other, where it stands
    values = settings("task=lm", "experiment=names")
    assert ("  layers: 2", f"  layers: {values.model.layers}") in changed
    assert ("    hidden: 0.0", f"    hidden: {values.train.dropout.hidden}") in changed
    assert ("  records: none", "  records: line") in changed
    before = settings()
    differ = [key for key in keys_of(TrainSettings) if attrgetter(key)(values) != attrgetter(key)(before)]
    assert len(changed) == len(set(differ) - {"task"})


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ("", "7"),
        ("task=lm,model.layers=3", "7_task-lm_model.layers-3"),
        ("data.path='/a b/c/book é.txt',seed=1", "7_data.path-book_.txt_seed-1"),
        ("data.text='to be, or $(not)'", "7_data.text-_to_be_or_not"),
    ],
)
def test_a_run_is_named_by_what_it_was_asked_for(values, name):
    assert command_line.run_name(7, values) == name
    assert len(command_line.run_name(7, values + "x" * 1000)) <= 80


def test_the_usual_directory_of_a_run():
    made = hydra_config(["task=lm", "model.layers=3", "threads=1", "tensorboard=false"]).hydra.run.dir
    assert re.fullmatch(r"outputs/[\d-]{10}/\d\d-\d\d-\d\d-\d{6}_model\.layers-3_task-lm", made)
