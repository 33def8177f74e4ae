import hashlib
from collections import Counter

import numpy as np
from blocks import DATA, any_text, cut, widths
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.decoding import CONTROLS, texts
from charlstm.text.records import END, START
from charlstm.text.survey import Survey


def surveyed(text, widths):
    """A survey of a text in blocks, the text as it came through, and its code points."""
    survey = Survey()
    blocks = survey.watch_bytes(cut(text.encode(), widths), DATA)
    pieces = list(survey.watch_text(texts(blocks, "it", DATA)))
    points = [survey.add(piece) for piece in pieces]
    return survey, "".join(pieces), [point for piece in points for point in piece.tolist()]


@given(any_text, widths)
def test_all_is_counted_once(text, widths):
    survey, found, points = surveyed(text, widths)
    assert (survey.size, survey.characters) == (len(text.encode()), len(found))
    assert survey.sha256.hexdigest() == hashlib.sha256(text.encode()).hexdigest()
    assert survey.crlf == found.count("\r\n")
    assert survey.cr == found.count("\r") - survey.crlf
    assert survey.bom == (text.startswith("\ufeff") and widths[0] > 2)
    assert points == [ord(character) for character in found]
    assert {chr(k): n for k, n in enumerate(survey.counts) if n} == Counter(found)
    assert survey.controls() == sum(map(found.count, CONTROLS))


@given(st.lists(any_text))
def test_sources_are_counted_together(each):
    both = Survey()
    for text in each:
        both.merge(surveyed(text, [1000])[0])
    characters = [text.removeprefix("\ufeff") for text in each]
    assert {chr(k): n for k, n in enumerate(both.counts) if n} == Counter("".join(characters))
    assert both.size == sum(len(text.encode()) for text in each)
    assert both.characters == sum(map(len, characters))
    assert both.crlf == sum(text.count("\r\n") for text in characters)
    assert both.bom == any(text.startswith("\ufeff") for text in each)


def test_code_points_are_as_wide_as_the_widest():
    survey = Survey()
    widths = {"abc\xff": np.uint8, f"{START}abc{END}": np.uint16, "日\uffff": np.uint16, "a🙂": np.uint32}
    for symbols, dtype in widths.items():
        points = survey.add(symbols)
        assert points.dtype == dtype
        assert points.tolist() == [ord(symbol) for symbol in symbols]
    assert {chr(k): int(n) for k, n in enumerate(survey.counts) if n} == Counter("".join(widths))
