import pytest

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
