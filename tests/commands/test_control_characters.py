"""What a terminal would obey is shown escaped, be it from a text, a model or a name."""

import os
import pty
import subprocess

from warm import PYTHON

from charlstm.files import PROJECT

CLEAR = "\x1b[2J"
TEXT = f"\ta{CLEAR}b\n\x9b3c"


def run(*arguments, **options):
    command = [*PYTHON, *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, timeout=120, cwd=PROJECT, check=False, **options)


def on_terminal(*arguments):
    """What a terminal gets."""
    ours, theirs = pty.openpty()
    done = run(*arguments, stdout=theirs)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    return said.replace("\r\n", "\n"), done


def test_they_are_escaped_on_a_terminal_and_in_a_log_but_not_in_a_pipe(tmp_path):
    path = tmp_path / f"run{CLEAR}"
    model = ["model.hidden=48", "model.layers=1", "train.lr=0.02", "threads=1"]
    trained = run("train.py", f"data.text={TEXT}", f"hydra.run.dir='{path}'", *model, stdout=subprocess.PIPE)
    assert trained.returncode == 0, trained.stderr
    for said in (trained.stdout.decode(), (path / "train.log").read_text()):
        assert "\x1b" not in said
        assert f"run\\x1b[2J{os.sep}best.safetensors" in said
        assert "\ta\\x1b[2Jb\n\\x9b3c" in said  # what it wrote
    piped = run("sample.py", f"ckpt={path}", stdout=subprocess.PIPE)
    assert piped.stdout.decode() == TEXT
    watched, done = on_terminal("sample.py", f"ckpt={path}")
    assert done.returncode == 0
    assert watched.replace(" " * 8, "\t") == "\ta\\x1b[2Jb\n\\x9b3c\n"
    scored, done = on_terminal("-m", "charlstm", "score", f"ckpt={path}", f"text={TEXT}")
    assert "run\\x1b[2J\n" in scored
    missing = run("sample.py", f"ckpt={tmp_path}/none{CLEAR}", stdout=subprocess.PIPE)
    assert missing.returncode == 2
    assert missing.stderr.startswith(b"error: ")
    assert b"none\\x1b[2J: no such checkpoint" in missing.stderr
