"""Text -> symbols: its characters, with a mark at both ends of each record, such as no text has."""

import re

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
    return "".join(f"{START}{record}{END}" for record in _records(text, records))


def places(text: str, records: Records) -> list[slice]:
    """Where the records of a text are in it; without records, all of it."""
    if records == "none":
        return [slice(0, len(text))]
    found, end = [], 0
    for record in _records(text, records):
        # the first place is the right one: before it are only separators, and no record begins with one
        begin = text.index(record, end)
        end = begin + len(record)
        found.append(slice(begin, end))
    return found


def _records(text: str, records: Records) -> list[str]:
    if records == "file":
        return [text] if text else []
    # so that a text begins and ends with what separates
    return [record for record in SEPARATORS[records].split(f"\n\n{text}\n\n") if record]
