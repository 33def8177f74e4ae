"""Text -> symbols: its characters, with a mark at both ends of each record, such as no text has."""

import re
from itertools import pairwise

from charlstm.config.settings import Records

START, END = "\ud800", "\ud801"  # lone surrogates: no encoding has them

LINE_END = r"(?>\r\n|\r|\n)"  # atomic: \r\n is never taken for two
SEPARATORS = {
    "line": re.compile(rf"{LINE_END}+"),
    "blank": re.compile(rf"{LINE_END}(?>[ \t]*{LINE_END})+"),
}


def marked(text: str, records: Records) -> str:
    """The text of a source with a mark at both ends of each record, without what separates them."""
    if records == "none":
        return text
    return "".join(f"{START}{text[place]}{END}" for place in places(text, records))


def places(text: str, records: Records) -> list[slice]:
    """Where the records of a text are in it; without records, all of it."""
    if records in ("none", "file"):
        return [slice(0, len(text))] if text else []
    # so that a text begins and ends with what separates
    gaps = [gap.span() for gap in SEPARATORS[records].finditer(f"\n\n{text}\n\n")]
    return [slice(end - 2, begin - 2) for (_, end), (begin, _) in pairwise(gaps)]
