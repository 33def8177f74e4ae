import pytest

from charlstm.tasks.final_scores import table, verdict

FIGURES = {
    "valid_bpc": 2.5,
    "valid_bpb": 2.4,
    "valid_windows_bpc": 2.6,
    "valid_windows_bpb": 2.5,
    "test_bpc": 2.7,
    "test_bpb": 2.65,
    "best_step": 1200,
    "baselines_bpc": {"uniform": 6.0, "5-gram": 3.0, "bz2": 2.6},
    "baselines_bpb": {"uniform": 6.0, "5-gram": 2.9, "bz2": 2.5},
}
NAMES = {"valid": "valid part", "test": "first 900 symbols of the test part"}
OVERFITS = (
    "It overfits: the valid part has got worse since step 1,200. More text, more train.dropout or a smaller "
    "model would help; longer training would not."
)


@pytest.mark.parametrize(
    ("figures", "since_best", "rise", "said"),
    [
        ({}, 0, 1.0, "Test 2.70 @, perplexity 6.5; 4% worse than bz2, still falling: go on with it."),
        (
            {"test_bpc": 2.34},
            1,
            1.2,
            "Test 2.34 @, perplexity 5.06; 10% better than bz2, no longer falling.",
        ),
        (
            {"test_bpc": None},
            2,
            1.004,
            "Valid 2.50 @, perplexity 5.66; 4% better than bz2, no longer falling.",
        ),
        (
            {"test_bpc": 2.605},
            2,
            1.006,
            f"Test 2.60 @, perplexity 6.08; as good as bz2. {OVERFITS}",
        ),
        ({"baselines_bpc": {}}, 1, 1.0, "Test 2.70 @, perplexity 6.5, no longer falling."),
        (
            {"test_bpc": None, "valid_bpc": None},
            0,
            1.0,
            "No part was held out, so nothing says what it is worth; data.split keeps one back.",
        ),
    ],
)
def test_the_verdict(figures, since_best, rise, said):
    assert verdict(FIGURES | figures, since_best, rise) == said.replace("@", "bits per character")


def test_the_model_has_its_place_among_the_others():
    rows = list(table(FIGURES, NAMES))
    assert [line for line, is_own in rows if is_own] == [rows[2][0]]
    assert [line[42:] for line, _ in rows] == [
        "",
        "first 900 symbols of the test part, bz2 after the training part",
        "first 900 symbols of the test part, state carried",
        "first 900 symbols of the test part, 5-gram",
        "first 900 symbols of the test part, uniform",
        "valid part, state carried",
        "valid part, windows of 256",
    ]
    assert (
        rows[2][0]
        == "   2.7000    2.6500    1.8715      6.498  first 900 symbols of the test part, state carried"
    )
    rows = list(table(FIGURES, {"valid": "valid part", "test": "test part"}))
    assert max(len(line) for line, _ in rows) <= 80


def test_where_there_is_no_test_part_the_valid_one_decides():
    rows = list(table(FIGURES | {"test_bpc": None}, NAMES))
    assert [line[42:] for line, is_own in rows if is_own] == ["valid part, state carried"]
    assert rows[1][0] == "   2.5000    2.4000    1.7329      5.657  valid part, state carried"


def test_a_hopeless_model_has_no_finite_perplexity():
    rows = table(FIGURES | {"test_bpc": 2e3}, NAMES)
    assert " inf  first 900 symbols of the test part, state carried" in "\n".join(line for line, _ in rows)
