"""The moving picture of a terminal: what a program writes there, and when it can be seen."""

import re
import sys
from xml.etree import ElementTree

import pytest

from benchmarks import cast

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["one\r\ntwo"], ["one", "two"]),
        (["bar 10%\rbar 2"], ["bar 20%"]),
        (["bar 10%\r\x1b[Kdone"], ["done"]),
        (["bar 10%\r       \r"], [""]),
        (["first\r\nsecond\x1b[A\rnew"], ["newst", "second"]),
        (["ab", "\x1b", "[3", "1mc"], ["abc"]),  # a sequence that comes in pieces
        (["\x1b[?25lab\x1b[?25h"], ["ab"]),
        (["abcdefghi"], ["abcdefg", "hi"]),  # seven columns
        (["abcdef字"], ["abcdef", "字"]),
        (["1\r\n2\r\n3\r\n4\r\n5"], ["2", "3", "4", "5"]),  # four rows
    ],
)
def test_the_screen(written, expected):
    screen = cast.Screen(columns=7, rows=4)
    for text in written:
        screen.write(text)
    assert ["".join(character for character, _ in line) for line in screen.picture()] == expected


def test_styles():
    screen = cast.Screen(80, 24)
    screen.write("a\x1b[1;32mb\x1b[0mc\x1b[31;2md\x1b[39me\x1b[22mf")
    assert screen.picture() == (
        (("a", ""), ("b", "b c32"), ("c", ""), ("d", "c31 d"), ("e", "d"), ("f", "")),
    )


def test_a_program_believes_that_it_is_in_a_terminal(tmp_path):
    code = "import os, sys; print(os.get_terminal_size().columns, sys.stderr.isatty(), os.getcwd())"
    (tmp_path / "told.py").write_text(code)
    written = list(cast.record(f"{sys.executable} told.py", 72, 24, folder=tmp_path))
    assert "".join(text for _, text in written) == f"72 True {tmp_path}\r\n"
    with pytest.raises(RuntimeError, match="exit code 3"):
        list(cast.record("exit 3", 72, 24))


def visible(picture, second):
    """What the picture shows at a second, its lines from the top, by its keyframes."""
    root = ElementTree.fromstring(picture)
    rules = root.find(f"{SVG}style").text
    shown = {}
    for group in root.iter(f"{SVG}g"):
        classes = group.get("class").split()
        opacity = "end" in classes
        if name := next((name for name in classes if name.startswith("k")), None):
            seconds = float(re.search(rf"\.{name}{{animation:{name} ([\d.]+)s step-end", rules)[1])
            frames = re.search(rf"@keyframes {name}{{(.*)}}", rules)[1]
            for shares, value in re.findall(r"([\d.%,]+){opacity:([01])}", frames):
                for share in shares.split(","):
                    if float(share[:-1]) / 100 * seconds <= second:
                        opacity = value == "1"
        if opacity:
            shown |= {float(text.get("y")): text.text for text in group}
    return [shown[y] for y in sorted(shown)]


def test_each_line_is_seen_while_it_stood_on_the_screen():
    picture = cast.draw("go <fast>", [(0.5, "a 1\r"), (2.0, "a 2\r\n"), (3.0, "end & out")])
    before = cast.BEFORE  # the command alone
    assert visible(picture, 0) == ["$ go <fast>"]
    assert visible(picture, before + 1) == ["$ go <fast>", "a 1"]
    assert visible(picture, before + 2.5) == ["$ go <fast>", "a 2"]
    last = ["$ go <fast>", "a 2", "end & out"]
    assert visible(picture, before + 3.1) == last
    assert visible(picture, before + 3 + cast.AFTER - 0.1) == last
    still = re.sub(r'class="k\d+ ?', 'class="', picture)  # as for who asked for no motion
    assert visible(still, 0) == last
