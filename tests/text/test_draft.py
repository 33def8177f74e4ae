import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from blocks import DATA, any_text
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.decoding import CONTROLS
from charlstm.text.draft import CONTROL_POINTS, Draft, counted
from charlstm.text.source import Source
from charlstm.text.vocabulary import as_code_points

FORCED = replace(DATA, force=True)


def drafted(*texts, config=FORCED):
    return Draft([Source("it", text.encode) for text in texts], config)


@given(st.lists(any_text, min_size=1))
def test_sources_are_counted_together(texts):
    draft = drafted(*texts)
    found = "".join(text.removeprefix("\ufeff") for text in texts)
    assert draft.points.tolist() == [ord(character) for character in found]
    assert {chr(k): n for k, n in enumerate(draft.counts.tolist()) if n} == Counter(found)
    assert draft.digests == [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    if found:
        facts = draft.facts
        assert facts.bytes == sum(len(text.encode()) for text in texts)
        assert facts.characters == len(draft.points) == len(found)
        assert facts.crlf == sum(text.count("\r\n") for text in texts)
        assert facts.cr == found.count("\r") - facts.crlf
        assert facts.bom == any(text.startswith("\ufeff") for text in texts)


@given(any_text)
def test_control_characters_are_counted(text):
    counts = counted(as_code_points(text))
    assert counts[CONTROL_POINTS[len(counts) > CONTROL_POINTS]].sum() == sum(map(text.count, CONTROLS))


@pytest.mark.parametrize(
    ("text", "records", "dtype"),
    [("abc\xff", "none", np.uint8), ("abc", "line", np.uint16), ("日\uffff", "none", np.uint16),
     ("a🙂", "none", np.uint32)],
)  # fmt: skip
def test_code_points_are_as_wide_as_the_widest(text, records, dtype):
    assert drafted(text, config=replace(FORCED, records=records)).points.dtype == dtype
