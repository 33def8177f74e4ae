import pytest
from resuming import MEMORIZE, plan

from charlstm.tasks.memorize_run import SAMPLED_CHARACTERS, marked

LONG = "ab" * SAMPLED_CHARACTERS


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
