import json

import pytest

from charlstm.cli.sweep import Sweep


@pytest.mark.parametrize(
    ("results", "said", "order"),
    [
        (  # the most characters by heart, then the fewest epochs
            [
                {"task": "memorize", "free_run": 69, "epochs": 50},
                {"task": "memorize", "free_run": 12, "epochs": 9},
                {"task": "memorize", "free_run": 69, "epochs": 40},
            ],
            "seed=0: free_run 69, epochs 50",
            [2, 0, 1],
        ),
        (  # the test part decides
            [
                {"task": "lm", "test_bpc": 2.123456, "valid_bpc": 1.5},
                {"task": "lm", "test_bpc": 2.0, "valid_bpc": 3.0},
            ],
            "seed=0: test_bpc 2.1235, valid_bpc 1.5",
            [1, 0],
        ),
        (
            [{"task": "lm", "valid_bpc": 1.5}, {"task": "lm", "valid_bpc": 1.0}],
            "seed=0: valid_bpc 1.5",
            [1, 0],
        ),
        (
            [
                {"task": "copy", "longest": 9, "bits_per_hidden_unit": 0.5},
                {"task": "copy", "longest": 10, "bits_per_hidden_unit": 0.25},
            ],
            "seed=0: longest 9, bits_per_hidden_unit 0.5",
            [1, 0],
        ),
        (
            [None, {"task": "lm", "valid_bpc": None}, {"task": "lm", "valid_bpc": 7.5}],
            "seed=0: no result",
            [2, 0, 1],
        ),
    ],
)
def test_the_best_run_comes_first(tmp_path, monkeypatch, results, said, order):
    monkeypatch.chdir(tmp_path)
    sweep = Sweep()
    lines = []
    for k, result in enumerate(results):
        (tmp_path / str(k)).mkdir()
        if result is not None:
            (tmp_path / str(k) / "result.json").write_text(json.dumps(result))
        lines.append(sweep.add(f"seed={k}", tmp_path / str(k)))
    assert lines[0] == said
    header, *rows = (line.split() for line in sweep.lines(tmp_path))
    assert header[-2:] == ["values", "directory"]
    assert [row[-2:] for row in rows] == [[f"seed={k}", str(k)] for k in order]
    saved = (tmp_path / "summary.tsv").read_text().splitlines()
    assert [line.split("\t") for line in saved] == [header, *rows]


def test_what_would_break_the_table_is_escaped(tmp_path):
    sweep = Sweep()
    sweep.add("data.text=a\tb\nc\udce9", tmp_path)
    sweep.lines(tmp_path)
    row = (tmp_path / "summary.tsv").read_text().splitlines()[1]
    assert row.split("\t")[0] == r"data.text=a\tb\nc\udce9"
