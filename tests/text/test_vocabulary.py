import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.records import END, START
from charlstm.text.vocabulary import UnknownCharacterError, Vocabulary, as_code_points

# any code point, lone surrogates and NUL included
texts = st.text(st.characters(), min_size=1)


@given(texts)
def test_every_text_over_the_alphabet_comes_back(text):
    vocabulary = Vocabulary.of_text(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    framed = vocabulary.framed(vocabulary.encode(text))
    assert framed[0] == vocabulary.start
    assert framed[-1] == vocabulary.end
    assert vocabulary.decode(framed) == text


def test_ids_follow_the_alphabet_and_the_tokens_come_last():
    vocabulary = Vocabulary("cab")
    assert vocabulary.encode("abc").tolist() == [1, 2, 0]
    assert (vocabulary.start, vocabulary.end, len(vocabulary)) == (3, 4, 5)
    assert Vocabulary.of_text("hello").characters == "ehlo"


def test_tokens_are_no_characters():
    # the published alphabet used '0' and '1' for them, so that no text could contain these digits
    vocabulary = Vocabulary.of_text("01")
    assert vocabulary.framed(vocabulary.encode("01")).tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize(
    ("size", "dtype"), [(254, "uint8"), (255, "uint16"), (65534, "uint16"), (65535, "uint32")]
)
def test_ids_are_stored_in_the_smallest_type(size, dtype):
    characters = "".join(map(chr, range(size)))  # two more ids for the tokens
    assert Vocabulary(characters).encode(characters).dtype == dtype


def test_an_unknown_character_is_named_with_its_position():
    with pytest.raises(UnknownCharacterError, match=r"prompt has 'é' \(U\+00E9\) at position 3, .* 4 known"):
        Vocabulary("caf ").encode("caf\u00e9", source="prompt")


@pytest.mark.parametrize(("alphabet", "message"), [("", "empty"), ("abca", r"'a' \(U\+0061\) twice")])
def test_a_wrong_alphabet_is_refused(alphabet, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(alphabet)


def test_an_unknown_token_stands_for_every_other_character():
    vocabulary = Vocabulary("ab", unknown=True)
    assert (vocabulary.start, vocabulary.end, vocabulary.unknown, len(vocabulary)) == (2, 3, 4, 5)
    assert vocabulary.encode("aébà").tolist() == [0, 4, 1, 4]
    assert vocabulary.decode(vocabulary.encode("aébà")) == "ab"
    assert vocabulary != Vocabulary("ab")
    assert Vocabulary("".join(map(chr, range(254))), unknown=True).dtype == "uint16"  # ids up to 256


@given(st.binary(min_size=1))
def test_every_bytes_come_back(blob):
    vocabulary = Vocabulary("".join(sorted(set(blob.decode("latin-1")))), unit="byte")
    text = blob.decode("utf-8", "surrogateescape")
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.text(vocabulary.units(text)) == text
    assert [ord(vocabulary.characters[i]) for i in vocabulary.encode(text)] == list(blob)


def test_bytes_are_those_of_utf_8():
    vocabulary = Vocabulary("aeÃ©", unit="byte")
    assert vocabulary.encode("é").tolist() == [2, 3]
    assert vocabulary != Vocabulary("aeÃ©")
    with pytest.raises(UnknownCharacterError, match="prompt has byte e6 at position 1, .* 4 known bytes"):
        vocabulary.encode("a日", source="prompt")
    assert vocabulary.skip_unknown("aé日e") == "aée"
    assert vocabulary.replace_unknown("AÉ日à") == "aé日a"
    with pytest.raises(ValueError, match="the alphabet has '日' .*, which is no byte"):
        Vocabulary("a日", unit="byte")


@given(st.text(min_size=1), st.booleans())
def test_code_points_get_the_ids_of_the_vocabulary(text, has_unknown):
    known = "".join(sorted(set(text)))
    vocabulary = Vocabulary(known[: len(known) // 2 + 1] if has_unknown else known, unknown=has_unknown)
    ids = np.concatenate([vocabulary.ids_of(as_code_points(symbols)) for symbols in (START, text, "", END)])
    assert ids.dtype == vocabulary.dtype
    assert ids.tolist() == [vocabulary.start, *vocabulary.encode(text).tolist(), vocabulary.end]
