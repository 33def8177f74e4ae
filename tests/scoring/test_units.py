"""What a reader follows, against what is counted by hand, and the units that follow it, against NumPy."""

import numpy as np
import pytest

from charlstm.scoring import units

TEXT = 'if (a\n  "B c" [d])\n'


def column(text, feature):
    return units.features(text)[:, units.FEATURES.index(feature)].tolist()


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        #                    i  f     (  a  \n       "  B     c  "     [  d  ]  )  \n
        ("line position", [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0]),
        ("indentation", [0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0]),
        ("inside quotes", [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("inside brackets", [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]),
        ("capital", [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("word end", [0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0]),
    ],
)
def test_what_a_reader_follows(feature, expected):
    assert column(TEXT, feature) == expected


def test_other_quotes_and_closed_brackets():
    assert column("“a” ) (b", "inside quotes") == [1, 1, 0, 0, 0, 0, 0, 0]
    assert column("“a” ) (b", "inside brackets") == [0, 0, 0, 0, 0, 0, 1, 1]
    assert units.features("").size == 0
    assert units.telling("gru", {"h": np.zeros((0, 1, 2))}, "") == []


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_most_telling_units(cell):
    states = ("h", "c") if cell == "lstm" else ("h",)
    random = np.random.default_rng(0)
    terms = {name: random.normal(size=(len(TEXT), 2, 5)).astype(np.float32) for name in states}
    position = np.array(column(TEXT, "line position"))
    terms[states[-1]][:, 1, 3] = -0.01 * position + 7  # follows it exactly, small and backwards
    terms["h"][:, 0, 2] = 5.0  # never moves
    found = units.telling(cell, terms, TEXT)
    assert found[0] == ("line position", 1, 3, states[-1], pytest.approx(-1, abs=1e-6))
    assert [abs(one.correlation) for one in found] == sorted(
        (abs(one.correlation) for one in found), reverse=True
    )
    for one in found:
        values = terms[one.state][:, one.layer, one.unit]
        assert one.correlation == pytest.approx(
            np.corrcoef(column(TEXT, one.feature), values)[0, 1], abs=1e-6
        )
    # three of each feature, and none of them better than the best that was left out
    every = [
        np.corrcoef(position, term[:, l, k])[0, 1]
        for term in terms.values()
        for l in (0, 1)
        for k in range(5)
        if term[:, l, k].std()
    ]
    best = [abs(one.correlation) for one in found if one.feature == "line position"]
    assert best == pytest.approx(sorted(map(abs, every), reverse=True)[:3], abs=1e-6)


def test_what_does_not_vary_is_followed_by_none():
    terms = {"h": np.random.default_rng(0).normal(size=(3, 1, 4))}
    assert {one.feature for one in units.telling("gru", terms, "ab ")} == {"line position", "word end"}


def test_of_the_bytes_of_a_character_the_last_counts():
    terms = {"h": np.arange(8.0).reshape(8, 1, 1)}
    assert units.by_character(terms, "aé🙂b")["h"].ravel().tolist() == [0, 2, 6, 7]
    assert units.by_character({"h": terms["h"][:4]}, "aé🙂b")["h"].ravel().tolist() == [0, 1, 2, 3]
