"""A conversation with a model: it reads a line, continues it, and remembers both."""

import io
import os
import shlex
import sys
from dataclasses import replace

from charlstm.cli import terminal
from charlstm.config import compose
from charlstm.config.tool_settings import SampleSettings
from charlstm.sampling import writer
from charlstm.sampling.request import Request, known

GREETING = "Type some text and the model continues it; :help says what else there is."
HELP = """\
The model reads what you type and continues it; it remembers all that was read and written before.
An empty line lets it write on. What begins with a colon is for the program:
  :temperature=0.5 top_k=10   change settings, quoted as in a shell
  :settings                   show them as they are
  :reset                      let the model forget everything
  :help                       this text
  :quit                       the end, as Ctrl-D
  ::text                      for the model: text that begins with a colon
Ctrl-C stops the model in its writing."""

CHANGEABLE = (
    *("unknown", "length", "stop", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"),
    *("repetition_window", "ban", "seed"),
)


class Talk:
    """One conversation; ValueError if the settings ask for something that it has not."""

    def __init__(self, settings: SampleSettings) -> None:
        for key, other in {"samples": 1, "best_of": 1, "format": "text", "out": None}.items():
            if getattr(settings, key) != other:
                raise ValueError(f"{key} = {getattr(settings, key)}: has no effect with interactive=true")
        if settings.prompt_file == "-" or sys.stdin is None:
            raise ValueError("interactive: needs standard input for the conversation; keep it open and free")
        self._overrides = sys.argv[1:]
        self._request = Request(settings)
        if self._request.vocabulary.unit == "byte":
            terminal.let_bytes_through()
        self._writer = self._request.writer([self._request.seed])

    def hold(self) -> None:
        """Read lines from standard input and answer on standard output, until there are no more."""
        is_terminal = sys.stdin.isatty()
        if is_terminal:
            import readline  # noqa: F401  # gives input() line editing and a history

            print(GREETING, " ".join(self._effective()[:3]), sep="\n", file=sys.stderr)
        if isinstance(sys.stdin, io.TextIOWrapper):  # which that of a notebook is not
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        begun = self._request.shown("")
        terminal.show(f"{begun}\n" if begun and is_terminal else begun)
        is_styled = is_terminal and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        # what people type is bold; readline must not count what stands between \1 and \2
        bold, plain = ("\1\33[1m\2", "\33[0m") if is_styled else ("", "")
        while True:
            try:
                line = input(f"{bold}> " if is_terminal else "")
            except EOFError:
                return
            finally:
                print(plain, end="", flush=True)
            if line == ":quit":
                return
            try:
                if line.startswith(":") and not line.startswith("::"):
                    self._obey(line[1:])
                else:
                    self._answer(line.removeprefix(":"))
            except ValueError as error:
                terminal.print_error(error)

    def _answer(self, line: str) -> None:
        request = self._request
        text = known(line, request.settings.unknown, request.vocabulary)
        self._writer.read(request.vocabulary.encode(text).tolist())
        passage = request.passage()
        try:
            for piece in writer.stream(self._writer, request.vocabulary, passage):
                terminal.show(piece, flush=True)
        except KeyboardInterrupt:
            terminal.show("".join(map(request.vocabulary.text, passage.finish("interrupted"))))
        print(flush=True)
        if passage.ending == "end":  # nothing that was learnt goes on after it
            self._forget()

    def _obey(self, order: str) -> None:
        if order == "help":
            print(HELP, file=sys.stderr)
        elif order == "settings":
            print(*self._effective(), sep="\n", file=sys.stderr)
        elif order == "reset":
            self._forget()
        elif "=" in order:
            self._change(shlex.split(order))
        else:
            raise ValueError(f":{order}: not known; :help says what there is")

    def _change(self, changes: list[str]) -> None:
        for change in changes:
            key = change.partition("=")[0]
            if key not in CHANGEABLE:
                raise ValueError(f"{key}: cannot be changed here; what can is {', '.join(CHANGEABLE)}")
        overrides = [*self._overrides, *changes]
        quoted = compose.quote_free_text(overrides, SampleSettings)
        settings = compose.compose("sample", SampleSettings, quoted)
        seed = self._request.seed
        self._request = Request(replace(settings, prompt="", prompt_file=None), self._request.trained)
        self._overrides = overrides
        self._writer.strategy = self._request.strategy
        if any(change.startswith("seed=") for change in changes):
            self._writer.seed([self._request.seed])
        else:
            self._request.seed = seed

    def _effective(self) -> list[str]:
        """The settings that the next answer is written by, as they are typed."""
        asked = self._request
        decided = {"temperature": asked.strategy.temperature, "length": asked.length, "seed": asked.seed}
        values = decided | {key: getattr(asked.settings, key) for key in CHANGEABLE if key not in decided}
        return [terminal.visible(f"{key}={compose.typed(value)}") for key, value in values.items()]

    def _forget(self) -> None:
        settings = replace(self._request.settings, prompt="", prompt_file=None)
        self._request = Request(settings, self._request.trained)  # which draws a seed where none was given
        self._writer = self._request.writer([self._request.seed])
        print("(it has forgotten everything)", file=sys.stderr)
