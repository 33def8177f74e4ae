import json

import numpy as np
import pytest
from resuming import MEMORIZE, go, plan

from charlstm import checkpoint
from charlstm.limits import trial
from charlstm.limits.capacity import random_text
from charlstm.tasks.memorize_run import SAMPLED_CHARACTERS, marked

LONG = "ab" * SAMPLED_CHARACTERS
LINE = "all work and no play\n"


@pytest.mark.parametrize(
    ("written", "text", "heading", "shown"),
    [
        ("hello", "hello", "5 characters, all right", "hello"),
        ("hexlo", "hello", "2 characters right, then ⟦one⟧ wrong", "he⟦x⟧lo"),
        ("x", "hello", "0 characters right, then ⟦one⟧ wrong", "⟦x⟧"),
        ("hell", "hello", "4 characters, all right, then it ends too soon", "hell"),
        ("", "hello", "0 characters, all right, then it ends too soon", ""),
        ("hello!!", "hello", "5 characters right, then ⟦one⟧ wrong", "hello⟦!⟧!"),
        (
            LONG[:SAMPLED_CHARACTERS],
            LONG,
            f"{SAMPLED_CHARACTERS} characters, all right",
            LONG[:SAMPLED_CHARACTERS],
        ),
    ],
)
def test_the_first_wrong_character_is_marked(written, text, heading, shown):
    assert marked(written, text) == {heading: shown}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("data.unit=byte", "data.unit = byte: is for task=lm; leave it out"),
        ("data.min_count=2", "data.min_count = 2: is for task=lm; leave it out"),
        ("data.records=file", "data.records = file: is for task=lm; leave it out"),
        ("data.path={}", "data.path = {}: a folder; name a file in it"),
    ],
)
def test_what_cannot_be_learnt_by_heart(tmp_path, asked, message):
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text("a text")
    with pytest.raises(ValueError, match=message.format(tmp_path)):
        plan(*MEMORIZE, asked.format(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["a" * 400, LINE * 30 + LINE.replace("play", "pay") + LINE * 5],
    ids=["letters", "lines"],
)
def test_it_counts(tmp_path, text):
    """Where hardly anything happens, it is known when something does: by the mean loss of segments, or of one
    sequence, the last letter is never told from those before it, nor one line from the others."""
    (tmp_path / "text").write_text(text)
    asked = [f"data.path={tmp_path / 'text'}", "model.layers=1", "model.hidden=32", "threads=1"]
    assert "A text that says little" in "\n".join(plan(*asked).describe())
    run = go(tmp_path / "run", *asked, "train.epochs=300", "tensorboard=false")
    result = json.loads((run / "result.json").read_text())
    assert (result["recalled"], result["free_run"]) == (True, len(text) + 1)


def test_a_text_is_known_by_weights_of_few_bits(tmp_path):
    (tmp_path / "text").write_text(random_text(300, symbols=12, seed=1))
    asked = [f"data.path={tmp_path / 'text'}", "model.layers=1", "model.hidden=24", "threads=1"]
    run = go(tmp_path / "run", *asked, "train.weight_bits=5", "tensorboard=false")
    assert json.loads((run / "result.json").read_text())["recalled"]
    for name, weight in checkpoint.load(run / checkpoint.BEST).weights.items():
        for row in np.atleast_2d(weight):
            assert len(set(np.abs(row))) <= 2**4, name
    bits, _ = trial.rounded_most(
        checkpoint.load(run), checkpoint.load(run).vocabulary.encode((tmp_path / "text").read_text())
    )
    assert bits <= 5
