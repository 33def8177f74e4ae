import os
import pty
import termios
from dataclasses import replace
from queue import Queue

import pytest

from charlstm import progress_bar
from charlstm.progress_bar import Bar, clock
from charlstm.training.progress import Progress

LONGEST = Progress(
    epoch=123_456,
    step=1_000_000,
    chars_seen=10**10,
    seconds=50_000.0,
    loss=12.3456,
    bits_per_char=12.345,
    accuracy=1.0,
    chars_per_second=123_456.0,
    learning_rate=0.01,
    gradient_norm=1.0,
)


@pytest.fixture
def terminal(monkeypatch):
    """What a bar draws where standard error is a terminal of so many columns."""

    def drawn(columns, bar):
        leader, follower = pty.openpty()
        termios.tcsetwinsize(leader, (24, columns))
        with os.fdopen(follower, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
            patch.setattr("sys.stderr", stream)
            os.set_blocking(leader, False)  # without a bar the test shall fail, not wait
            with bar:
                bar.draw()
                shown = os.read(leader, 100_000).decode()
        os.close(leader)
        return shown.split("\r")[-1]

    return drawn


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("more", ["valid 12.345", "free run 12,345/100,000", "longest 123, 99% of 129"])
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_the_bar_of_a_training_is_whole(terminal, columns, more, unit):
    bar = Bar(print, delay=1e9)  # none but what the test draws
    bar.what = LONGEST.shown(more, unit)
    bar.state = "12:34:56 left"
    bar.n = 0.5
    shown = terminal(columns, bar)
    assert shown.startswith(" 50% |")
    assert shown.endswith(f"| 12:34:56 left, 12.345 bits/{unit}, {more}, 123k {unit}s/s")
    assert len(shown) == columns - 1  # tqdm leaves one free


def test_what_nobody_knows_the_end_of_has_no_share(terminal):
    assert terminal(80, Bar(print, None, "comparing", delay=1e9)) == "0:00, comparing"


def test_while_something_else_is_done_there_is_no_time_left():
    bar = Bar(print, 10, "1.2 bits/char", delay=1e9)
    with bar:
        bar._begin -= 30
        bar.update(2)
        assert bar.words() == "2:00 left, 1.2 bits/char"
        bar.state = "evaluating"
        assert bar.words() == "evaluating, 1.2 bits/char"
        bar.state, bar.left = "", 7.0  # for who knows better than by the share
        assert bar.words() == "0:07 left, 1.2 bits/char"


def test_a_pipe_gets_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress_bar, "TOLD", 0.01)
    lines = Queue()
    with Bar(lines.put, 4, "scoring") as bar:
        bar.n = 1
        while not (line := lines.get(timeout=60)).startswith("25% done, "):
            pass
    assert line.endswith(" left, scoring")
    assert capsys.readouterr().err == ""


def test_short_waits_say_nothing(capsys):
    with progress_bar.progress_bar(10, "reading") as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


def test_times_are_short():
    assert [clock(s) for s in (0, 59.6, 61, 3723, -1)] == ["0:00", "1:00", "1:01", "1:02:03", "0:00"]


def test_a_loss_that_is_no_cost_is_shown_as_it_is():
    mse = replace(LONGEST, bits_per_char=None, loss=0.1234)
    assert mse.shown("97% right") == "loss 0.1234, 97% right, 123k chars/s"
    assert replace(mse, chars_per_second=9876.0).shown("") == "loss 0.1234, 9,876 chars/s"
