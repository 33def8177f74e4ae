import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SENTENCE

from charlstm.cli import terminal, train
from charlstm.config import compose
from charlstm.config.tool_settings import SampleSettings
from charlstm.files import PROJECT
from charlstm.runs.report import Outcome


@pytest.mark.parametrize(
    ("started", "name", "typed"),
    [
        ("train.py", "sample", "python sample.py"),
        ("sample.py", "train", "python train.py"),
        ("../my clone/train.py", "train", "python '../my clone/train.py'"),
        ("train.py", "score", "python -m charlstm score"),
        ("/opt/bin/charlstm", "train", "charlstm train"),
        ("charlstm.exe", "limit", "charlstm limit"),
        ("/opt/charlstm/__main__.py", "sample", "python -m charlstm sample"),
        ("", "train", "python -m charlstm train"),  # within Python itself
    ],
)
def test_a_command_is_named_as_this_process_was_started(monkeypatch, started, name, typed):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setattr(sys, "argv", [started])
    assert terminal.this_command(name) == typed
    assert terminal.as_started(f"\n    charlstm {name} a=b   charlstm c=d\n") == (
        f"\n    {typed} a=b   charlstm c=d\n"
    )


def test_help_is_empty_where_python_was_told_to_drop_it():
    assert terminal.as_started(None) == ""


class OutStream:
    """Standard output as Jupyter has it: what is written becomes JSON in UTF-8, and there are no bytes."""

    encoding = "UTF-8"

    def __init__(self):
        self.written = b""

    def write(self, text):
        self.written += text.encode("utf-8")
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False


def test_a_notebook_may_run_the_scripts(tmp_path, trained):
    code = """
import runpy, sys
project, ckpt = sys.argv[1:]
sys.path[:0] = [project, f"{project}/tests", f"{project}/tests/cli"]
from test_terminal import OutStream
train = ["train.py", "train.epochs=1", "hydra.run.dir=run"]
for script, *arguments in (train, ["sample.py", f"ckpt={ckpt}"]):
    usual, stream = sys.stdout, OutStream()
    sys.argv, sys.stdout = [script, *arguments], stream
    try:
        runpy.run_path(f"{project}/{script}", run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
    assert sys.stdout is stream
    sys.stdout = usual
    print(stream.written.decode(), end="\\0")
"""
    folders = [str(PROJECT), str(trained)]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    said, sample, _ = done.stdout.split("\0")
    assert "checkpoint  run/best.safetensors" in said
    assert sample == SENTENCE


def test_a_notebook_gets_no_lone_surrogates(monkeypatch):
    stream = OutStream()
    monkeypatch.setattr(sys, "stdout", stream)
    with terminal.output() as is_watched:
        terminal.let_bytes_through()
        print("caf\udce9 é")
    assert not is_watched
    assert stream.written.decode() == "caf\\udce9 é\n"
    assert sys.stdout is stream


def test_a_notebook_that_takes_no_more(monkeypatch, capsys):
    stream = OutStream()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(stream, "flush", fail)
    with pytest.raises(SystemExit) as stop, terminal.output():
        pass
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: standard output cannot be written: No space left on device\n"


def fail():
    raise OSError(28, "No space left on device")


NAMES = [
    "plain",
    "a b, c",
    'it\'s $HOME `x` "y" ${z}',
    "two\nlines",
    "~",
    "-x",
    "é=(1)",
    "\x1b[1m'\\",
    "\udce9",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_suggested_can_be_pasted(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    where = tmp_path / name if name[0] in "~-" else name  # not one's home, nor an option
    outcome = Outcome(1, False, Path(name, "last.safetensors"), ("train.lr=0.1",), prompt=name)
    first, *lines = train.next_steps(outcome, outcome.checkpoint)
    assert first == f"checkpoint  {where}/last.safetensors"
    commands = "\n".join(line[12:] for line in lines)
    # the commands get what stands there: each argument, after a NUL
    shell = f'python() {{ printf \'%s\\0\' "$@"; }}; tensorboard() {{ python "$@"; }}\n{commands}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True)
    assert done.stderr == b""
    resume, write, curves = (
        ["train.py", f"resume={where}", "train.lr=0.1"],
        ["sample.py", f"ckpt={where}", f"prompt={name}"],
        ["--logdir", str(where)],
    )
    assert os.fsdecode(done.stdout).split("\0") == [*resume, *write, *curves, ""]
    arguments = compose.quote_free_text(write[1:], SampleSettings)
    asked = compose.compose("sample", SampleSettings, arguments)
    assert (asked.ckpt, asked.prompt) == (str(where), name)
    assert terminal.visible(commands) == commands  # a terminal changes nothing of it
    commands.encode()
    without = list(train.next_steps(outcome, outcome.checkpoint, curves=False))
    assert without == [first, *lines[:2]]


def test_a_program_that_the_shell_would_not_find_is_named_by_its_place(tmp_path, monkeypatch):
    (tmp_path / "my tools").mkdir()
    python = tmp_path / "my tools" / "python"
    for program in ("python", "charlstm", "tensorboard"):
        python.with_name(program).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("PATH", "/bin")
    assert terminal.this_command("sample") == f"'{python}' sample.py"
    assert terminal.this_command("score") == f"'{python}' -m charlstm score"
    assert terminal.this_command("tensorboard") == f"'{python.with_name('tensorboard')}'"
    monkeypatch.setattr(sys, "argv", ["charlstm"])
    assert terminal.this_command("score") == f"'{python.with_name('charlstm')}' score"
    monkeypatch.setenv("PATH", str(python.parent))
    assert terminal.this_command("score") == "charlstm score"
    assert terminal.this_command("tensorboard") == "tensorboard"


def test_an_error_of_a_file_is_not_blamed_on_standard_output(capsys):
    with pytest.raises(SystemExit) as stop, terminal.output():
        raise OSError(5, "Input/output error", "book.txt")
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: book.txt: cannot be read or written: Input/output error\n"
