"""Text -> symbols, against the plain definition of a record."""

import re

import pytest
from blocks import pieces
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.records import END, START, marked, places

kinds = st.sampled_from(["line", "blank", "file"])


def records_of(text, kind):
    """The records of a whole text, by the definition."""
    if kind == "file":
        return [text] if text else []
    lines = re.split("\r\n|\r|\n", text)
    if kind == "line":
        return [line for line in lines if line]
    # a stretch of lines that are not blank, from the first one's beginning to the last one's end
    ends = [*re.findall("\r\n|\r|\n", text), ""]
    records = [""]
    for line, end in zip(lines, ends, strict=True):
        if line.strip(" \t"):
            records[-1] += line + end
        else:
            records.append("")
    return [re.sub("(?:\r\n|\r|\n)$", "", record) for record in records if record]


@given(pieces, kinds)
def test_records_are_those_of_the_definition(text, kind):
    assert marked(text, kind) == "".join(START + record + END for record in records_of(text, kind))


@given(pieces, kinds)
def test_places_of_records(text, kind):
    found = places(text, kind)
    assert [text[place] for place in found] == records_of(text, kind)
    ends = [0, *(place.stop for place in found)]
    begins = [*(place.start for place in found), len(text)]
    for end, begin in zip(ends, begins, strict=True):  # between them is nothing but what separates
        assert end <= begin
        assert not text[end:begin].strip("\r\n \t")


def test_places_by_hand():
    text = "\n\n  \n  a\r\n b\n \n\nb\n"
    assert [text[place] for place in places(text, "blank")] == ["  a\r\n b", "b"]
    assert places(text, "blank") == [slice(5, 12), slice(16, 17)]
    assert places("a\n\na", "line") == [slice(0, 1), slice(3, 4)]
    assert places("a\n\na", "none") == places("a\n\na", "file") == [slice(0, 4)]
    assert places("\n", "line") == places("", "file") == []


def test_without_records_nothing_is_marked():
    assert marked("a\nb", "none") == "a\nb"


@pytest.mark.parametrize("kind", ["line", "blank"])
def test_a_gap_of_any_length_is_one_separator(kind):
    assert marked("a" + "\n" * 100_000 + "b", kind) == f"{START}a{END}{START}b{END}"
