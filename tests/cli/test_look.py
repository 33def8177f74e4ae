"""`charlstm look`: a table or colours, with the numbers of `bits` and `trace`."""

import re

import numpy as np
import pytest
from conftest import SENTENCE

import charlstm
from charlstm.cli import look
from charlstm.config.compose import compose
from charlstm.config.tool_settings import LookSettings

HELD = {"cell": "c", "hidden": "h", "input": "i", "forget": "f", "new": "g", "output": "o"}


def lines(*arguments, is_coloured=False):
    asked = compose("look", LookSettings, arguments)
    return "".join(look.look(asked, is_coloured)).split("\n")


def table(found):
    header, *rows = found[: found.index("")]
    return header.split(), [re.fullmatch(r" *(\d+) +(-?[\d.]+)  (.*)", row).groups() for row in rows]


def test_the_surprise_of_each_character(trained):
    header, rows = table(lines(f"ckpt={trained}"))
    assert header == ["position", "bits", "text"]
    assert "".join(text for _, _, text in rows) == SENTENCE  # which is what it writes
    bits = charlstm.load(trained).bits(SENTENCE)
    np.testing.assert_allclose([float(value) for _, value, _ in rows], bits, rtol=0, atol=5.1e-4)


@pytest.mark.parametrize("gate", HELD)
def test_a_unit(trained, gate):
    header, rows = table(lines(f"ckpt={trained}", "text='hello. how'", "unit=5", "layer=1", f"gate={gate}"))
    assert header[1] == gate
    term = charlstm.load(trained).trace("hello. how")[HELD[gate]][:, 1, 5]
    np.testing.assert_allclose([float(value) for _, value, _ in rows], term, rtol=0, atol=5.1e-4)


def test_the_units_that_tell_most(trained):
    found = lines(f"ckpt={trained}")
    ranked = found[found.index("") + 2 : -1]
    best, layer, unit, state, *feature = ranked[0].split()
    values = charlstm.load(trained).trace(SENTENCE)[state][:, int(layer), int(unit)]
    assert " ".join(feature) == "line position"
    assert float(best) == pytest.approx(np.corrcoef(np.arange(len(SENTENCE)), values)[0, 1], abs=0.006)


def test_what_a_prediction_depends_on(trained):
    header, rows = table([*lines(f"ckpt={trained}", "text=hello pytorch", "at=4"), ""])
    assert header[1] == "gradient"
    assert [text for _, _, text in rows] == list("hello")
    expected = [*charlstm.load(trained).connectivity("hello", 4), 0]
    np.testing.assert_allclose([float(value) for _, value, _ in rows], expected, rtol=0, atol=5.1e-4)


def test_colours(trained):
    shown = "\n".join(lines(f"ckpt={trained}", "text=hello pytorch", "length=5", "unit=5", is_coloured=True))
    text = shown.partition("\n")[0]
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == "hello"
    assert "\x1b[48;5;" in text


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["unit=128"], "unit = 128, layer = 0: of 2 x 128, counted from 0, there is none"),
        (["unit=0", "layer=2"], "unit = 0, layer = 2: of 2 x 128"),
        (["unit=0", "gate=reset"], "gate = reset: an lstm has none"),
        (["at=5", "text=hello"], "at = 5: the text has 5 characters"),
        (["at=5", "unit=5"], "at, unit: "),
        (["text='é'"], "'é' (U+00E9) at position 0"),
        (["text="], "the text is empty"),
    ],
)
def test_wrong_requests(trained, arguments, answer):
    with pytest.raises(ValueError, match=re.escape(answer)):
        lines(f"ckpt={trained}", *arguments)
    with pytest.raises(ValueError, match="ckpt: missing"):
        lines(*arguments)
