import sys

import pytest
from conftest import settings
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from charlstm.cli import command_line, terminal
from charlstm.config import compose
from charlstm.config.convert import RequestError
from charlstm.config.settings import TrainSettings
from charlstm.config.tool_settings import SampleSettings


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
    arguments = ["data.text=a,b", "model.layers=3", "hydra.run.dir=x", "--multirun", "data.path"]
    arguments += ["train.budget=null", "train.budget=90s"]
    quoted = compose.quote_free_text(arguments, TrainSettings)
    assert quoted == ["data.text='a,b'", *arguments[1:]]


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
