"""Bytes -> characters."""

import re

import pytest
from blocks import any_text
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.decoding import (
    UndecodableError,
    check_unicode,
    decoded,
    has_byte_order_mark,
    refuse_binary,
)


@given(any_text, st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "gb18030"]))
def test_text_comes_back(text, encoding):
    assert decoded(text.encode(encoding), "it", encoding) == text.removeprefix("\ufeff")


@given(st.binary(max_size=40), st.sampled_from(["utf-8", "utf-16-le", "utf-32-be", "gb18030", "shift_jis"]))
def test_what_is_no_text_is_replaced(blob, encoding):
    found = decoded(blob, "it", encoding, "data.encoding", "replace")
    assert found == blob.decode(encoding, "replace").removeprefix("\ufeff")


def test_a_byte_order_mark_is_no_text_of_a_file():
    blob = "\ufeffa\ufeff".encode()
    assert decoded(blob, "it") == "a\ufeff"
    assert has_byte_order_mark(blob, "utf8")
    assert not has_byte_order_mark(blob, "latin-1")  # three letters


WRONG = {  # bytes and their encoding: what is said where data.encoding, encoding and no key at all names it
    (b"caf\xe9 au lait", "utf-8"): (
        "such as data.encoding=latin-1, or let data.errors=replace put U+FFFD in their place",
        "such as encoding=latin-1",
        "it: not utf-8 text: bytes e9 20 61 75 at offset 3; convert it",
    ),
    (b"\xff\xfea\0b\0", "utf-8"): ("such as data.encoding=utf-16", "such as encoding=utf-16", "convert it"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\0", "utf-8"): (
        "; 42% control characters: a binary file; name a text, or set data.unit=byte with task=lm",
        "such as encoding=latin-1",
        "convert it",
    ),
    (b"abc", "utf-99"): ("data.encoding = utf-99: no such encoding", "encoding = utf-99: no such", None),
    (b"abc", "hex"): ("data.encoding = hex: no such encoding", "encoding = hex: no such encoding", None),
    (b"abc", "undefined"): (
        "it: cannot be read in data.encoding = undefined: ",
        "it: cannot be read in encoding = undefined: ",
        None,
    ),
}


@pytest.mark.parametrize("request_", WRONG, ids=str)
def test_what_helps(request_):
    blob, encoding = request_
    of_data, of_key, without = WRONG[request_]
    with pytest.raises(ValueError, match=re.escape(of_data)) as found:
        decoded(blob, "it", encoding, "data.encoding")
    assert isinstance(found.value, UndecodableError) == (without is not None)
    with pytest.raises(ValueError, match=re.escape(of_key)):
        decoded(blob, "it", encoding, "encoding")
    if without is not None:
        with pytest.raises(ValueError, match=without):
            decoded(blob, "it", encoding)


def test_without_a_byte_order_mark_nothing_says_which_end_comes_first():
    with pytest.raises(UndecodableError, match="it: not utf-16 text: no byte order mark .*=utf-16-le$"):
        decoded(b"a\0b\0", "it", "utf-16", "data.encoding")


def test_text_with_too_many_control_characters_is_none():
    refuse_binary(1, 16, "it", b"")
    with pytest.raises(
        UndecodableError, match="it: 12% control characters: a binary file; .*data.force=true"
    ):
        refuse_binary(1, 8, "it", b"abcdefg\0")
    with pytest.raises(UndecodableError, match="it: 50% control characters: looks like utf-16-be; set data"):
        refuse_binary(3, 6, "it", b"\0a\0b\0c")


def test_what_the_shell_hands_over():
    check_unicode("é日🙂", "prompt", "prompt_file")
    with pytest.raises(ValueError, match="^prompt: not valid Unicode at position 1; .* by prompt_file=...$"):
        check_unicode("a\udce9", "prompt", "prompt_file")
