"""Bytes -> characters, and what helps where they are none."""

import codecs

CONTROLS = "".join(
    map(chr, [*range(7), *range(14, 27), *range(28, 32), 127, *range(0x80, 0x85), *range(0x86, 0xA0)])
)
"""The characters that no text needs, as the command `file` has them: control characters, NUL among them, but
for bell, backspace, blanks, line and page ends, and the escape of coloured logs."""

BINARY = 1 / 16
"""The share of them from which on a file is no text. Of 11,428 files of a Debian system that are UTF-8 the
worst had 1/19; compressed data has 1/10 in encodings that give each byte a character, programs more."""

BYTE_ORDER_MARKS = {  # UTF-32's come first: one of them begins with one of UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}


class UndecodableError(ValueError):
    """Bytes are not text in the encoding that they should have."""


class BinaryError(UndecodableError):
    """They are no text in any."""


def decoded(
    blob: bytes, name: str, encoding: str = "utf-8", key: str | None = None, errors: str = "strict"
) -> str:
    """The text of all bytes of a source, without a byte order mark. Raises UndecodableError where they are
    not text in `encoding`, and ValueError where there is no such encoding. In messages `name` is what it is
    called, and `key` names another encoding, if it can be named."""
    is_data = key == "data.encoding"  # then `data.errors` and `data.unit` can help, too
    try:
        "a".encode(encoding)  # which, unlike a decoder, must exist and be one of texts
        # unlike `bytes.decode`, it takes no UTF-16 of which nothing says which end comes first
        return codecs.getincrementaldecoder(encoding)(errors).decode(blob, True).removeprefix("\ufeff")
    except (LookupError, UnicodeEncodeError):
        raise ValueError(f"{key} = {encoding}: no such encoding; try utf-8, latin-1 or utf-16") from None
    except UnicodeDecodeError as error:
        wrong = blob[error.start : error.start + 4].hex(" ")
        what = f"{name}: not {encoding} text: bytes {wrong} at offset {error.start}"
        likely = _likely_encoding(blob)
        # of single bytes those above 127 may be parts of letters
        share = sum(blob.count(ord(c)) for c in CONTROLS if c.isascii()) / len(blob)
        if is_data and likely is None and share > BINARY:
            raise BinaryError(f"{what}; {_binary(share)}") from None
        other = likely or ("latin-1" if encoding.lower().startswith("utf") else "utf-8")
        mend = f"name the file's encoding, such as {key}={other}" if key else "convert it"
        if is_data and likely is None:
            mend += ", or let data.errors=replace put U+FFFD in their place"
        raise UndecodableError(f"{what}; {mend}") from None
    except ValueError as error:  # some codecs, such as idna, have errors of their own
        if isinstance(error, UnicodeError) and codecs.lookup(encoding).name in ("utf-16", "utf-32"):
            raise UndecodableError(
                f"{name}: not {encoding} text: no byte order mark at its beginning; name the file's "
                f"encoding, such as {key}=utf-8 or {key}={encoding}-le"
            ) from None
        raise ValueError(f"{name}: cannot be read in {key} = {encoding}: {error}") from None


def check_unicode(text: str, key: str, instead: str | None = None) -> None:
    """Check a text that `key` gave on the command line, in place of `instead`, which names a file; ValueError
    if the shell handed over bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        mend = f"give it in a file, such as by {instead}=..." if instead else "leave that out"
        raise ValueError(f"{key}: not valid Unicode at position {error.start}; {mend}") from None


def refuse_binary(controls: int, characters: int, name: str, blob: bytes) -> None:
    """UndecodableError if too many characters of what was decoded from `blob` are `CONTROLS`."""
    if controls <= BINARY * characters:
        return
    if likely := _likely_encoding(blob):
        raise UndecodableError(
            f"{name}: {controls / characters:.0%} control characters: looks like {likely}; "
            f"set data.encoding={likely}, or data.force=true to take it as it is"
        )
    raise BinaryError(f"{name}: {_binary(controls / characters)}; data.force=true takes it as it is")


def has_byte_order_mark(blob: bytes, encoding: str) -> bool:
    """Whether bytes in this encoding begin with a byte order mark."""
    return codecs.lookup(encoding).name.startswith("utf") and blob.startswith(tuple(BYTE_ORDER_MARKS))


def _binary(share: float) -> str:
    return f"{share:.0%} control characters: a binary file; name a text, or set data.unit=byte with task=lm"


def _likely_encoding(blob: bytes) -> str | None:
    """The encoding that a byte order mark tells, or zeros in every second byte, as of ASCII in UTF-16."""
    beginning = blob[:100_000]
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if beginning.startswith(mark):
            return encoding
    first, second = (half.count(0) / max(len(half), 1) for half in (beginning[::2], beginning[1::2]))
    if len(beginning) > 3 and max(first, second) > 0.5 and min(first, second) < 0.05:
        return "utf-16-le" if second > first else "utf-16-be"
    return None
