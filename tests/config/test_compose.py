"""conf/ as people edit it: what is wrong with a file is said with its place."""

import shutil
import subprocess

import pytest
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from warm import PYTHON

from charlstm.config import compose
from charlstm.config.convert import RequestError
from charlstm.config.settings import TrainSettings
from charlstm.files import PROJECT

LM = (PROJECT / "conf" / "task" / "lm.yaml").read_bytes()
START = "# @package _global_\n"

# name: (file, what stands in it, its place, what is said of it)
BROKEN = {
    "tab": ("experiment/mine", START + "model:\n\thidden: 3\n", "line 3, column 1", "found character '\\t'"),
    "duplicate key": (
        "experiment/mine",
        START + "seed: 1\nseed: 2\n",
        "line 3, column 1",
        "duplicate key seed",
    ),
    "open bracket": (
        "experiment/mine",
        START + "data:\n  split: [0.9, 0.1\nseed: 1\n",
        "line 4, column 5",
        "','",
    ),
    "open quote": ("experiment/mine", START + "seed: 'x\n", "line 3, column 1", "unexpected end of stream"),
    "indentation": (
        "experiment/mine",
        START + "seed: 1\n model: 3\n",
        "line 3, column 7",
        "not allowed here",
    ),
    "two documents": (
        "experiment/mine",
        START + "seed: 1\n---\nseed: 2\n",
        "line 3, column 1",
        "another document",
    ),
    "control character": (
        "experiment/mine",
        START + "seed: \0\n",
        "line 1, column 1",
        "unacceptable character",
    ),
    "interpolation": ("experiment/mine", START + "seed: ${x\n", "line 1, column 1", "${x"),
    "no package line": (
        "experiment/mine",
        "seed: 1\n",
        "line 1, column 1",
        "with the line # @package _global_",
    ),
    "package line too late": (
        "task/lm",
        b"# mine\n" + LM,
        "line 1, column 1",
        "the line # @package _global_",
    ),
    "another package": (
        "task/lm",
        LM.replace(b"_global_", b"_globl_"),
        "line 1, column 1",
        "# @package _global_",
    ),
    "odd package line": ("task/lm", b"# @package\n" + LM, "line 1, column 1", "Expected header format"),
    "byte order mark": ("task/lm", b"\xef\xbb\xbf" + LM, "line 1, column 1", "a byte order mark"),
    "latin-1": ("data/mine", b"# caf\xe9\npath: x\n", "line 1, column 6", "is not UTF-8 here"),
    "utf-16": ("data/mine", "path: x\n".encode("utf-16"), "line 1, column 1", "is not UTF-8 here"),
    "empty": ("experiment/mine", "", "line 1, column 1", "has no keys"),
    "comments alone": ("data/mine", "# later\n", "line 1, column 1", "has no keys"),
    "list": ("experiment/mine", START + "- seed: 1\n", "line 2, column 1", "is a list"),
    "empty, the file itself": ("train", "", "line 1, column 1", "has no keys"),
    "list, the file itself": ("train", "- 1\n", "line 1, column 1", "is a list"),
    "no text, the file itself": ("train", b"seed: \xff\n", "line 1, column 7", "is not UTF-8 here"),
}


@pytest.fixture
def conf(tmp_path, monkeypatch):
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    return shutil.copytree(PROJECT / "conf", tmp_path / "conf")


def refusal(overrides=()):
    with pytest.raises(RequestError) as caught:
        compose.compose("train", TrainSettings, overrides)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_place(conf, name):
    file, content, place, said = BROKEN[name]
    path = conf / f"{file}.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problem = refusal([file.replace("/", "=")] if "/" in file else [])
    assert problem.startswith(f"{path}, {place}: ")
    assert said in problem


def test_a_file_that_nobody_asks_for_may_be_broken(conf):
    (conf / "experiment" / "mine.yaml").touch()
    (conf / "data" / "mine.yaml").write_text("path: x\n")  # a group of keys needs no package line
    assert compose.compose("train", TrainSettings, ["data=mine"]).data.path == "x"


def test_files_are_read_once_for_a_sweep_and_anew_for_the_next_request(conf, monkeypatch):
    # as it is where nobody reads them once for all tests
    monkeypatch.setitem(SourcesRegistry.instance().types, "file", FileConfigSource)

    def embedding():
        return compose.compose("train", TrainSettings, ["task=lm"]).model.embedding

    with compose.files_read_once():
        assert embedding() == 64
        (conf / "task" / "lm.yaml").write_bytes(LM.replace(b"embedding: 64", b"embedding: 3"))
        assert embedding() == 64
    assert embedding() == 3


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["-m", "seed=1,2"], []])
def test_the_command_says_so_in_a_line(tmp_path, arguments):
    for name in ("charlstm", "conf"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    path = tmp_path / "conf" / "train.yaml"
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    done = subprocess.run(
        [*PYTHON, "-m", "charlstm", "train", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {path}, line ")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"charlstm", "conf"}


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("To be, or not", True),
        ("'quoted'", True),
        ("'a', b", True),
        ("choice", True),
        ("range(1,3)", True),
        ("'a','b, c'", False),
        ("choice(a,'b, c')", False),
    ],
)
def test_a_sweep_over_texts_is_asked_for_explicitly(value, is_one):
    argument = f"data.text={value}"
    assert compose.quote_free_text([argument, "seed=1,2"], TrainSettings, several=True) == [
        f"data.text={compose.quote(value)}" if is_one else argument,
        "seed=1,2",
    ]
