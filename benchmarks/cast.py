"""A moving picture of the terminal.

    python -m benchmarks.cast                                       docs/terminal.svg, of `python train.py`
    python -m benchmarks.cast out=lm.svg command="python train.py experiment=names" columns=120

Runs the command in the project's folder and in a pseudo-terminal, keeps what it writes and when, and draws
that as one SVG file without scripts, fonts or links: each line is shown and hidden by CSS keyframes, at the
moments at which it stood on the screen. The colours are those of the reader's light or dark theme; who asked
for no motion sees the last picture.
"""

import codecs
import fcntl
import os
import pty
import re
import shlex
import struct
import sys
import termios
import time
from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from unicodedata import east_asian_width

from benchmarks.machine import arguments
from charlstm.files import PROJECT

WIDTH, HEIGHT, MARGIN = 8.4, 18, 14  # of a character and around all of them, in pixels
BEFORE, AFTER = 1.0, 5.0  # seconds for which the command stands alone, and for which the last picture stays

Cell = tuple[str, str]  # a character and its classes; a wide one is followed by an empty one
Line = tuple[Cell, ...]

ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()].|\x1b[^\[]")
STYLE = """
svg{--bg:#f6f8fa;--fg:#1f2328;--edge:#d0d7de;--31:#b42318;--32:#1a7f37;--33:#8a5a00;--34:#0550ae;--35:#8250df;
--36:#0b6b75}
@media(prefers-color-scheme:dark){svg{--bg:#0d1117;--fg:#e6edf3;--edge:#30363d;--31:#ff7b72;--32:#56d364;
--33:#e3b341;--34:#79c0ff;--35:#d2a8ff;--36:#56d4dd}}
rect{fill:var(--bg);stroke:var(--edge)}
text{fill:var(--fg);font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
white-space:pre}
.b{font-weight:bold}.d{opacity:.65}
.c31{fill:var(--31)}.c32{fill:var(--32)}.c33{fill:var(--33)}.c34{fill:var(--34)}.c35{fill:var(--35)}
.c36{fill:var(--36)}
g{opacity:0}.end{opacity:1}
@media(prefers-reduced-motion){g{animation:none!important}}
"""


class Screen:
    """What stands on a terminal: of its control sequences those that this project's commands write."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines: list[list[Cell]] = [[]]
        self.row = self.column = 0
        self.classes: set[str] = set()
        self._rest = ""  # the beginning of a sequence whose end has not come yet

    def write(self, text: str) -> None:
        """Take what a program has written."""
        text, self._rest = self._rest + text, ""
        place = 0
        while place < len(text):
            if text[place] == "\x1b":
                found = ESCAPE.match(text, place)
                if found is None:
                    self._rest = text[place:]
                    return
                self._obey(found[1] or "", found[2])
                place = found.end()
            else:
                self._put(text[place])
                place += 1

    def picture(self) -> tuple[Line, ...]:
        """The lines, without what is blank at their ends."""
        return tuple(tuple(_trimmed(line)) for line in self.lines)

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        elif character == "\b":
            self.column = max(self.column - 1, 0)
        elif character == "\t":
            self.column = min(self.column // 8 * 8 + 8, self.columns - 1)
        elif character >= " ":
            wide = east_asian_width(character) in "WF"
            if self.column + 1 + wide > self.columns:
                self.column = 0
                self._down()
            classes = " ".join(sorted(self.classes))
            for one in (character, "")[: 1 + wide]:
                line = self.lines[self.row]
                line.extend([(" ", "")] * (self.column + 1 - len(line)))
                line[self.column] = (one, classes)
                self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])
        if self.row == self.rows:
            del self.lines[0]
            self.row -= 1

    def _obey(self, numbers: str, letter: str | None) -> None:
        values = [int(number or 0) for number in numbers.split(";")] if "?" not in numbers else [0]
        count = max(values[0], 1)
        if letter == "m":
            for value in values:
                self._style(value)
        elif letter == "A":
            self.row = max(self.row - count, 0)
        elif letter == "B":
            self.row = min(self.row + count, len(self.lines) - 1)
        elif letter in ("C", "D"):
            self.column = min(max(self.column + (count if letter == "C" else -count), 0), self.columns - 1)
        elif letter == "G":
            self.column = count - 1
        elif letter == "K":
            line = self.lines[self.row]
            if values[0] == 0:
                del line[self.column :]
            else:
                line[:] = [] if values[0] == 2 else [(" ", "")] * self.column + line[self.column :]
        elif letter == "J":
            del self.lines[self.row + 1 :], self.lines[self.row][self.column :]

    def _style(self, value: int) -> None:
        if value == 0:
            self.classes.clear()
        elif value in (1, 2):
            self.classes.add("bd"[value - 1])
        elif value == 22:
            self.classes -= {"b", "d"}
        elif 30 <= value <= 39 or 90 <= value <= 97:
            self.classes -= {name for name in self.classes if name.startswith("c")}
            if value % 10 in range(1, 7):
                self.classes.add(f"c{30 + value % 10}")


def record(command: str, columns: int, rows: int, folder: Path = PROJECT) -> Iterator[tuple[float, str]]:
    """Run a command in a pseudo-terminal; yields seconds since its start, and what it had written by then.

    Raises RuntimeError where it fails.
    """
    began = time.monotonic()
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.chdir(folder)
        os.environ |= {
            "TERM": "xterm-256color",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            os.environ.pop(name, None)
        os.execvp("sh", ["sh", "-c", command])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        try:
            written = os.read(terminal, 65536)
        except OSError:  # how Linux says that the last one has closed it
            break
        if not written:
            break
        yield time.monotonic() - began, decoder.decode(written)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code:
        raise RuntimeError(f"{command}: exit code {code}")


def draw(command: str, written: Iterable[tuple[float, str]], columns: int = 80, rows: int = 24) -> str:
    """The SVG of what a command wrote, in seconds since its start."""
    screen = Screen(columns, rows)
    screen.write(f"$ {command}\r\n")
    pictures = [(0.0, screen.picture())]
    for second, text in written:
        screen.write(text)
        pictures.append((second + BEFORE, screen.picture()))
    end = pictures[-1][0] + AFTER
    shown = _intervals(pictures, end)
    height = 1 + max(row for lines in shown.values() for row, _ in lines)
    width = columns * WIDTH + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height * HEIGHT + 2 * MARGIN}" '
        f'viewBox="0 0 {width:g} {height * HEIGHT + 2 * MARGIN}" role="img" xml:space="preserve">',
        f"<title>{escape(command)}, as it runs in a terminal of {columns} columns</title>",
    ]
    rules, groups = [STYLE.strip()], []
    for k, ((start, stop), lines) in enumerate(shown.items()):
        last = stop >= end
        marks = "end" if last else ""
        if start > 0 or not last:
            rules.append(f"@keyframes k{k}{{{_frames(start / end, stop / end)}}}")
            rules.append(f".k{k}{{animation:k{k} {end:.2f}s step-end infinite}}")
            marks = f"k{k} {marks}".strip()
        groups.append(f'<g class="{marks}">{"".join(_text(row, line) for row, line in lines)}</g>')
    rules_ = "\n".join(rules)
    parts += [
        f"<style>\n{rules_}\n</style>",
        '<rect x=".5" y=".5" width="99.9%" height="99.8%" rx="8"/>',
        *groups,
    ]
    return "\n".join([*parts, "</svg>", ""])


def _intervals(
    pictures: list[tuple[float, tuple[Line, ...]]], end: float
) -> dict[tuple[float, float], list[tuple[int, Line]]]:
    """The lines with their rows, by the time from which and until which they stand there."""
    shown: dict[tuple[float, float], list[tuple[int, Line]]] = {}
    for row in range(max(len(lines) for _, lines in pictures)):
        contents = ((second, lines[row] if row < len(lines) else ()) for second, lines in pictures)
        changes = [next(group) for _, group in groupby(contents, key=lambda content: content[1])]
        ends = [second for second, _ in changes[1:]] + [end]
        for (second, line), stop in zip(changes, ends, strict=True):
            if line and stop > second:
                shown.setdefault((second, stop), []).append((row, line))
    return shown


def _frames(start: float, stop: float) -> str:
    """Keyframes of what is visible between two shares of the time."""
    hidden = "0%{opacity:0}" if start > 0 else ""
    gone = f"{100 * stop:.2f}%,100%{{opacity:0}}" if stop < 1 else ""
    return f"{hidden}{100 * start:.2f}%{{opacity:1}}{gone}"


def _text(row: int, line: Line) -> str:
    """A line of the screen: an element for each run of one style, which ends where its columns do."""
    parts, column = [], 0
    for classes, cells in groupby(line, key=lambda cell: cell[1]):
        run = list(cells)
        words = "".join(character for character, _ in run)
        if words.strip():
            style = f' class="{classes}"' if classes else ""
            place = f'x="{MARGIN + column * WIDTH:.4g}" y="{MARGIN + row * HEIGHT + 13}"'
            parts.append(
                f'<text {place}{style} textLength="{len(run) * WIDTH:.4g}" lengthAdjust="spacingAndGlyphs">'
                f"{escape(words, quote=False)}</text>"
            )
        column += len(run)
    return "".join(parts)


def _trimmed(line: list[Cell]) -> list[Cell]:
    while line and line[-1][0] == " ":
        line = line[:-1]
    return line


def main() -> None:
    """Record, draw, and say how large the picture is."""
    out, command, columns, rows = arguments(
        out="docs/terminal.svg", command="python train.py", columns="80", rows="24"
    )
    shlex.split(command)  # raises ValueError for what no shell would take
    picture = draw(command, record(command, int(columns), int(rows)), int(columns), int(rows))
    Path(out).write_text(picture, encoding="utf-8")
    print(f"{out}: {len(picture.encode()):,} bytes")


if __name__ == "__main__":
    main()
