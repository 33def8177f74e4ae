"""Bytes -> symbols: whatever the blocks are cut into, and against the plain definition of a record."""

import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import settings
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.decoding import texts
from charlstm.text.records import END, START, marked
from charlstm.text.survey import Survey
from charlstm.text.vocabulary import Encoder, Vocabulary, as_code_points

DATA = settings().data

# what can be cut in two: line ends, letters of one to four bytes, blanks between line ends
pieces = st.lists(
    st.sampled_from(["a", "é", "日", "🙂", "\r\n", "\r", "\n", "\n\n", " ", "\t", "\ufeff", "\0"])
)
any_text = pieces.map("".join) | st.text()


def cut(blob, widths):
    """The bytes in blocks of these widths, over and over."""
    at, blocks = 0, []
    while at < len(blob):
        width = widths[len(blocks) % len(widths)]
        blocks.append(blob[at : at + width])
        at += width
    return blocks


widths = st.lists(st.integers(1, 9), min_size=1)


@given(any_text, widths, st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "gb18030"]))
def test_text_comes_back_from_any_blocks(text, widths, encoding):
    config = replace(DATA, encoding=encoding)
    found = "".join(texts(cut(text.encode(encoding), widths), "it", config))
    assert found == text.removeprefix("\ufeff")


@given(st.binary(), widths)
def test_bytes_come_back_from_any_blocks(blob, widths):
    config = replace(DATA, unit="byte")
    assert "".join(texts(cut(blob, widths), "it", config)).encode("latin-1") == blob


@given(any_text, widths)
def test_every_line_end_is_counted_once(text, widths):
    survey = Survey()
    blob = text.encode()
    blocks = survey.watch_bytes(cut(blob, widths), DATA)
    text = "".join(survey.watch_text(texts(blocks, "it", DATA)))
    assert survey.size == len(blob)
    assert survey.characters == len(text)
    assert survey.crlf == text.count("\r\n")
    assert survey.cr == text.count("\r") - survey.crlf
    assert survey.lf == text.count("\n") - survey.crlf


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


@given(pieces.map("".join), widths, st.sampled_from(["line", "blank", "file"]))
def test_records_are_those_of_the_whole_text(text, widths, kind):
    text = text.removeprefix("\ufeff")
    found = "".join(marked(texts(cut(text.encode(), widths), "it", replace(DATA, unit="char")), kind))
    text = text.removeprefix("\ufeff")
    assert found == "".join(START + record + END for record in records_of(text, kind))


@given(st.text(min_size=1), widths, st.booleans())
def test_ids_are_those_of_the_vocabulary(text, widths, has_unknown):
    text = text.lstrip("\ufeff") or "x"
    known = "".join(sorted(set(text)))
    vocabulary = Vocabulary(known[: len(known) // 2 + 1] if has_unknown else known, unknown=has_unknown)
    encode = Encoder(vocabulary)
    symbols = [START, *texts(cut(text.encode(), widths), "it", DATA), END]
    ids = np.frombuffer(
        b"".join(bytes(encode(as_code_points(piece)).data) for piece in symbols), vocabulary.dtype
    )
    expected = [vocabulary.start, *vocabulary.encode(text).tolist(), vocabulary.end]
    assert ids.tolist() == expected


@pytest.mark.parametrize("width", [1, 2, 3, 100])
@pytest.mark.parametrize(("blob", "offset"), [(b"caf\xe9 au lait", 3), ("日本".encode() + b"\xe6\x97", 6)])
def test_what_is_no_text_is_named_with_its_offset(blob, offset, width):
    with pytest.raises(ValueError, match=f"it: not utf-8 text: bytes .* at offset {offset}; name the file's"):
        list(texts(cut(blob, [width]), "it", DATA))


def test_a_gap_of_any_length_is_one_separator():
    assert "".join(marked(["a"] + ["\n" * 1000] * 100 + ["b"], "blank")) == f"{START}a{END}{START}b{END}"
