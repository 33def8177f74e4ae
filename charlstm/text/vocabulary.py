"""Characters <-> ids, one-hot vectors, and the start and end token.

The V ids of a vocabulary are its characters in order, then the start token, then the end token, then, where
there is one, the unknown token, which stands for every other character. Tokens have no character, so no text
can contain them. Iteration over a text is by Unicode code point, or, with bytes for characters, over its
UTF-8 bytes.
"""

import unicodedata
from collections import Counter
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.config.settings import Unit
from charlstm.text.records import END, START

CODE_POINTS = 0x110000
BLOCK = 1 << 19  # code points that are looked up at a time

Ids = NDArray[np.unsignedinteger[Any]]  # as stored: the smallest unsigned integer that holds the vocabulary


class Extent(NamedTuple):
    """How many symbols are scored, and what they stand for: characters, and bytes of UTF-8. Here alone does a
    cost become one per character and per byte."""

    symbols: int
    characters: int
    bytes: int

    def each(self, bits: float) -> tuple[float, float]:
        """The bits of all of it per character, and per byte."""
        return bits / self.characters, bits / self.bytes


def describe(character: str) -> str:
    """A character and its code point as a message shows them, such as `'é' (U+00E9)`."""
    return f"{character!r} (U+{ord(character):04X})"


class UnknownCharacterError(ValueError):
    """A text has a character that the vocabulary has not."""


class Vocabulary:
    """The characters that a model knows, once each in the order of their ids; bytes as Latin-1 characters.
    `start`, `end` and `unknown` are the ids of the tokens, the last one None where there is none. Raises
    ValueError if there is no character, or one is given twice, or one is no byte but should be."""

    def __init__(self, characters: str, *, unknown: bool = False, unit: Unit = "char") -> None:
        if not characters:
            raise ValueError("the alphabet is empty; it needs at least one character")
        if len(set(characters)) < len(characters):
            twice = min(character for character, count in Counter(characters).items() if count > 1)
            raise ValueError(f"the alphabet has {describe(twice)} twice; give each character once")
        if unit == "byte" and max(characters) > "\xff":
            raise ValueError(f"the alphabet has {describe(max(characters))}, which is no byte")
        self.characters = characters
        self.unit: Unit = unit
        self.start = len(characters)
        self.end = len(characters) + 1
        self.unknown = len(characters) + 2 if unknown else None
        self.dtype = np.min_scalar_type(len(self) - 1)

    @classmethod
    def of_text(cls, text: str) -> "Vocabulary":
        """The vocabulary of the distinct characters of `text`, in the order of their code points."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        """V: the characters and the tokens."""
        return len(self.characters) + (2 if self.unknown is None else 3)

    def __eq__(self, other: object) -> bool:
        mine = (self.characters, self.unknown, self.unit)
        return isinstance(other, Vocabulary) and mine == (other.characters, other.unknown, other.unit)

    def units(self, text: str) -> str:
        """The text as a string of what has ids: itself, or its UTF-8 bytes as Latin-1 characters."""
        if self.unit == "char":
            return text
        return text.encode("utf-8", "surrogateescape").decode("latin-1")

    def text(self, units: str) -> str:
        """The text of a string of `units`. Bytes that are no UTF-8 become lone surrogates, as in file names;
        `surrogateescape` writes them as the bytes that they were."""
        if self.unit == "char":
            return units
        return units.encode("latin-1").decode("utf-8", "surrogateescape")

    def encode(self, text: str, source: str = "the text") -> Ids:
        """The ids `(T,)` of a text of T units, without start and end token. Where there is no unknown token
        UnknownCharacterError names the first unknown character and its position in `source`."""
        units = self.units(text)
        ids = self.ids_of(as_code_points(units))
        is_unknown = ids >= self.start  # here a mark is a character like any other
        if self.unknown is not None:
            return np.where(is_unknown, self.unknown, ids).astype(self.dtype)
        if is_unknown.any():
            first = int(is_unknown.argmax())
            raise self.unknown_character(units[first], first, source)
        return ids

    def ids_of(self, points: NDArray[np.unsignedinteger[Any]]) -> Ids:
        """The ids `(T,)` of the code points `(T,)` of symbols: characters, and marks, which are the tokens.
        Any other one becomes the unknown token; where there is none, the start token, too."""
        if points.dtype == self.dtype == np.uint8:  # several times as fast
            return np.frombuffer(points.tobytes().translate(self._table[:256].tobytes()), np.uint8)
        ids: Ids = np.empty(len(points), self.dtype)
        for begin in range(0, len(points), BLOCK):  # which take 8 bytes each, as indices of the table
            ids[begin : begin + BLOCK] = self._table[points[begin : begin + BLOCK]]
        return ids

    @cached_property
    def _table(self) -> Ids:
        """The id of every code point."""
        table = np.full(CODE_POINTS, self.start if self.unknown is None else self.unknown, self.dtype)
        table[[ord(START), ord(END)]] = self.start, self.end
        table[as_code_points(self.characters)] = np.arange(self.start)
        return table

    def unknown_character(self, character: str, position: int, source: str) -> UnknownCharacterError:
        """The answer to a character that the vocabulary has not."""
        what = f"byte {ord(character):02x}" if self.unit == "byte" else describe(character)
        shown = self.characters if len(self.characters) <= 80 else self.characters[:80] + "..."
        return UnknownCharacterError(
            f"{source} has {what} at position {position}, which is not among the "
            f"{len(self.characters)} known {'bytes' if self.unit == 'byte' else 'characters'} {shown!r}"
        )

    def framed(self, ids: Ids) -> Ids:
        """Ids `(T,)` between the start and the end token, `(T + 2,)`."""
        return np.concatenate([[self.start], ids, [self.end]]).astype(self.dtype)

    def skip_unknown(self, text: str) -> str:
        """The text without the characters that this vocabulary has not."""
        known = set(self.characters)
        return "".join(character for character in text if known.issuperset(self.units(character)))

    def replace_unknown(self, text: str) -> str:
        """The text with unknown characters replaced by known ones, where Unicode says which are near. Tried
        in this order: composed (NFC); then for each unknown character its decomposition (NFD), without its
        width or ligature (NFKC, NFKD), without its accents, and all of these in the other case (Unicode
        Standard Annex 15). What has none stays unknown."""
        known = set(self.characters)
        if known.issuperset(self.units(text)):
            return text
        return "".join(self._nearest(character, known) for character in unicodedata.normalize("NFC", text))

    def _nearest(self, character: str, known: set[str]) -> str:
        forms = [character]
        forms += [unicodedata.normalize(form, character) for form in ("NFC", "NFD", "NFKC", "NFKD")]
        forms.append("".join(c for c in forms[-1] if not unicodedata.combining(c)))
        for form in [*forms, *(other for f in forms for other in (f.lower(), f.upper(), f.casefold()))]:
            if known.issuperset(self.units(form)):
                return form
        return character

    def decode(self, ids: Ids) -> str:
        """The text of ids `(T,)`; tokens, which have no character, are left out."""
        ids = np.asarray(ids)
        points = as_code_points(self.characters).astype("<u4")[ids[ids < self.start].astype(np.intp)]
        return self.text(points.tobytes().decode("utf-32-le", "surrogatepass"))


def widths(text: str) -> NDArray[np.intp]:
    """The bytes of each character in UTF-8, `(T,)`; 1 where a lone surrogate stands for one that is none."""
    points = as_code_points(text)
    found = 1 + np.searchsorted([0x80, 0x800, 0x10000], points, side="right")
    found[(points >= 0xDC80) & (points <= 0xDCFF)] = 1
    return found


def as_code_points(text: str) -> NDArray[np.unsignedinteger[Any]]:
    """The code points `(T,)` of a text, as uint8 where they fit, else as uint32."""
    try:  # such strings are stored as bytes: a plain copy
        return np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    except UnicodeEncodeError:
        pass
    # UTF-32 is an array of code points: one copy in place of a Python loop over the characters
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
