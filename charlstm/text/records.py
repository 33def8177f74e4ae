"""Text -> symbols, in pieces: its characters, with a mark at both ends of each record.

The marks are lone surrogates, code points that no text in any encoding has.
"""

import re
from collections.abc import Iterable, Iterator

from charlstm.config.settings import Records

START, END = "\ud800", "\ud801"

LINE_END = r"(?>\r\n|\r|\n)"  # atomic: \r\n is never taken for two
SEPARATORS = {
    "line": re.compile(rf"{LINE_END}+"),
    "blank": re.compile(rf"{LINE_END}(?>[ \t]*{LINE_END})+"),
}
BEFORE = {"line": re.compile(r"[\r\n]*"), "blank": re.compile(r"(?>[ \t]*[\r\n])*")}
"""What separates, and what is left out before a record's first character; that matches anywhere."""
HELD = {"line": "\r\n", "blank": "\r\n \t"}
"""Characters whose meaning shows only with what comes after them."""


def marked(texts: Iterable[str], records: Records) -> Iterator[str]:
    """The text of a source with a mark at both ends of each record, without what separates them."""
    if records == "none":
        yield from texts
    elif records == "file":
        mark = START
        for text in texts:
            yield mark + text
            mark = ""
        yield END if not mark else ""
    else:
        yield from _separated(texts, records)


def places(text: str, records: Records) -> list[slice]:
    """Where the records of a whole text are in it; without records, all of it."""
    if records == "none":
        return [slice(0, len(text))]
    found, end = [], 0
    for record in "".join(marked([text] if text else [], records)).split(END)[:-1]:
        # the first place is the right one: before it are only separators, and no record begins with one
        begin = text.index(record[1:], end)
        end = begin + len(record) - 1
        found.append(slice(begin, end))
    return found


def _separated(texts: Iterable[str], records: Records) -> Iterator[str]:
    separator, before, held_back = SEPARATORS[records], BEFORE[records], HELD[records]
    held, between = "", True
    for text in texts:
        text = held + text
        if between:
            text = before.sub("", text, count=1)
        body = text.rstrip(held_back)
        held = text[len(body) :]
        if body:
            yield (START if between else "") + separator.sub(END + START, body)
            between = False
        if not between and (gap := separator.search(held)):
            yield held[: gap.start()] + END
            held, between = before.sub("", held[gap.start() :], count=1), True
    if not between:
        yield re.split("[\r\n]", held, maxsplit=1)[0] + END
