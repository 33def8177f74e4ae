import sys

import pytest

from charlstm.cli import terminal


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
    monkeypatch.setattr(sys, "argv", [started])
    assert terminal.this_command(name) == typed
    assert terminal.as_started(f"\n    charlstm {name} a=b   charlstm c=d\n") == (
        f"\n    {typed} a=b   charlstm c=d\n"
    )


def test_help_is_empty_where_python_was_told_to_drop_it():
    assert terminal.as_started(None) == ""
