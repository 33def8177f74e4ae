"""Characters <-> ids, one-hot vectors, and the start and end token.

The V ids of a vocabulary are its characters in order, then the start token, then the end token. The two
tokens have no character, so no text can contain them; iteration over a text is by Unicode code point.
"""

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.unsignedinteger[Any]]
"""Ids as they are stored: the smallest unsigned integer that holds the vocabulary."""


def describe(character: str) -> str:
    """A character and its code point as a message shows them, such as `'é' (U+00E9)`."""
    return f"{character!r} (U+{ord(character):04X})"


class UnknownCharacterError(ValueError):
    """A text has a character that the vocabulary has not."""


class Vocabulary:
    """The characters that a model knows.

    Args:
        characters: every character once, in the order of their ids.

    Raises:
        ValueError: there is no character, or one is given twice.
    """

    def __init__(self, characters: str) -> None:
        if not characters:
            raise ValueError("the alphabet is empty; it needs at least one character")
        code_points = _code_points(characters)
        self._order = np.argsort(code_points, kind="stable")
        self._sorted = code_points[self._order]
        twice = self._sorted[1:][self._sorted[1:] == self._sorted[:-1]]
        if twice.size:
            raise ValueError(f"the alphabet has {describe(chr(twice[0]))} twice; give each character once")
        self.characters = characters
        self.start = len(characters)
        self.end = len(characters) + 1
        self.dtype = np.min_scalar_type(self.end)

    @classmethod
    def of_text(cls, text: str) -> "Vocabulary":
        """The vocabulary of the distinct characters of `text`, in the order of their code points."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        """V: the characters and the two tokens."""
        return len(self.characters) + 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def encode(self, text: str, source: str = "the text") -> Ids:
        """The ids `(T,)` of a text of T characters, without tokens.

        Raises:
            UnknownCharacterError: names the first unknown character and its position in `source`.
        """
        wanted = _code_points(text)
        found = np.searchsorted(self._sorted, wanted).clip(max=len(self.characters) - 1)
        unknown = np.flatnonzero(self._sorted[found] != wanted)
        if unknown.size:
            first = int(unknown[0])
            shown = self.characters if len(self.characters) <= 80 else self.characters[:80] + "..."
            raise UnknownCharacterError(
                f"{source} has {describe(text[first])} at position {first}, which is not among the "
                f"{len(self.characters)} known characters {shown!r}"
            )
        encoded: Ids = self._order[found].astype(self.dtype)
        return encoded

    def encode_framed(self, text: str, source: str = "the text") -> Ids:
        """The ids `(T + 2,)` of a text between the start and the end token."""
        ids = self.encode(text, source)
        return np.concatenate([[self.start], ids, [self.end]]).astype(self.dtype)

    def skip_unknown(self, text: str) -> str:
        """The text without the characters that this vocabulary has not."""
        known = set(self.characters)
        return "".join(character for character in text if character in known)

    def replace_unknown(self, text: str) -> str:
        """The text with unknown characters replaced by known ones, where Unicode says which are near.

        Tried in this order: composed (NFC); then for each unknown character its decomposition (NFD),
        without its width or ligature (NFKC, NFKD), without its accents, and all of these in the other
        case (Unicode Standard Annex 15). What has none stays unknown.
        """
        known = set(self.characters)
        if known.issuperset(text):
            return text
        return "".join(
            character if character in known else _nearest(character, known)
            for character in unicodedata.normalize("NFC", text)
        )

    def decode(self, ids: Ids) -> str:
        """The text of ids `(T,)`; tokens, which have no character, are left out."""
        return "".join(self.characters[i] for i in np.asarray(ids).tolist() if i < self.start)

    def one_hot(self, ids: Ids) -> NDArray[np.float32]:
        """One-hot vectors `(*ids.shape, V)`: 1 at the id, 0 elsewhere."""
        return np.eye(len(self), dtype=np.float32)[ids]

    def from_one_hot(self, vectors: NDArray[np.floating[Any]]) -> Ids:
        """The ids of one-hot vectors `(..., V)`, or the likeliest ids of any scores."""
        ids: Ids = vectors.argmax(axis=-1).astype(self.dtype)
        return ids


def _code_points(text: str) -> NDArray[np.uint32]:
    # UTF-32 is an array of code points: one copy in place of a Python loop over the characters
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _nearest(character: str, known: set[str]) -> str:
    forms = [unicodedata.normalize(form, character) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    forms.append("".join(c for c in forms[-1] if not unicodedata.combining(c)))
    for form in [*forms, *(other for f in forms for other in (f.lower(), f.upper(), f.casefold()))]:
        if known.issuperset(form):
            return form
    return character
