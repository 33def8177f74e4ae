"""What a run shows: TensorBoard's curves, the progress bar, and `result.json`."""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from charlstm.progress_bar import Bar

log = logging.getLogger("charlstm")

SHOWN_CHARACTERS, SHOWN_COLUMNS = 2000, 96

# Charts of TensorBoard's page of custom scalars: the curves, by patterns of their names, that it overlays.
CHARTS = {
    "loss, beside simpler models": ["^bits_per_(char|byte)/"],
    "weight norm of each layer": ["^weight_norm/"],
}

# Control characters as pictures of themselves: Markdown and HTML would change them, or leave them out.
VISIBLE = {code: chr(0x2400 + code) for code in range(32) if code not in b"\t\n"} | {127: "␡"}

FINAL = ".final"  # ends the name of those events that are of the end of a run; they go when it is resumed


class Tracker:
    """The curves and the progress bar of one run in its directory; use it as a context. Whatever goes wrong
    with the curves, such as a full disk, is said once and ends them, not the run.

    `standing` gives the share that is done, and the time left, for the bar. Of the curves that an earlier run
    left here those points are dropped that have `from_step` or a later one; this is written even where there
    are none: TensorBoard takes the first such mark of a directory for its beginning, and heeds the others."""

    def __init__(
        self,
        directory: Path,
        standing: Callable[[], tuple[float, float | None]] = lambda: (0.0, None),
        from_step: int = 0,
        curves: bool = True,
    ) -> None:
        self._directory, self._curves, self._from_step = directory, curves, from_step
        self._writer: Any = None  # a SummaryWriter
        self._bar, self._standing = Bar(log.info), standing
        self.figures = "nothing was measured"

    def __enter__(self) -> "Tracker":
        if self._curves:
            self._open(purge_step=self._from_step)
            self.draw(self._begin)
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()
        self._close()

    def advance(self, shown: str | None = None) -> None:
        """Move the progress bar to where the run stands; beside it are the last figures that were given."""
        self._bar.n, self._bar.left = self._standing()
        self._bar.state = ""
        if shown is not None:
            self._bar.what = self.figures = shown

    def busy(self, state: str) -> None:
        """Say what is done besides training, until the bar is moved again."""
        self._bar.state = state

    def curves(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Add a point to each curve; None is left out."""
        for name, value in figures.items():
            if value is not None:
                self.draw(lambda writer, *point: writer.add_scalar(*point), name, value, step)

    def text(self, step: int, name: str, texts: Mapping[str, str]) -> None:
        """Show texts under their headings on TensorBoard's text page, as they are."""
        blocks = "\n\n".join(f"{heading}\n\n{fenced(text)}" for heading, text in texts.items())
        self.draw(lambda writer, *point: writer.add_text(*point), name, blocks, step)

    def conclude(self, step: int, settings: Mapping[str, object], figures: Mapping[str, float]) -> None:
        """After the context: a row of TensorBoard's table of runs, of the settings by key, and curves of the
        final figures, a point each. (`add_hparams` would open a second run for it.)"""
        if not self._curves:
            return
        from torch.utils.tensorboard import summary

        shown = {key: str(v)[:80].encode(errors="backslashreplace").decode() for key, v in settings.items()}
        values = {k: v if type(v) in (int, float) else shown[k] for k, v in settings.items() if v is not None}
        _, *row = summary.hparams(values, {})  # type: ignore[no-untyped-call]
        self._open(filename_suffix=FINAL)
        for part in row:
            self.draw(lambda writer, *event: writer.file_writer.add_summary(*event), part, step)
        self.curves(step, {f"final/{name}": figure for name, figure in figures.items()})
        self._close()

    def draw(self, draw: Callable[..., object], *arguments: object) -> None:
        """Give TensorBoard's writer, if there is one, to `draw`; what goes wrong there ends the curves."""
        if self._writer is not None:
            self._attempt(draw, self._writer, *arguments)

    def flush(self) -> None:
        self.draw(lambda writer: writer.flush())

    def go_back(self, step: int) -> None:
        """Drop the points after `step`."""
        if self._writer is not None:
            self._close()
            self._open(purge_step=step + 1)

    def _in_thread(self, arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            self._hook(arguments)

    def _begin(self, writer: Any) -> None:
        from torch.utils.tensorboard import summary

        for path in self._directory.glob(f"*{FINAL}"):
            path.unlink()
        charts = {title: ["Multiline", tags] for title, tags in CHARTS.items()}
        layout = summary.custom_scalars({"charts": charts})  # type: ignore[no-untyped-call]
        writer.file_writer.add_summary(layout, self._from_step)

    def _open(self, **how: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what TensorBoard's thread runs into is raised by the next call of its writer; it need not print it
        self._hook, threading.excepthook = threading.excepthook, self._in_thread
        self._writer = self._attempt(SummaryWriter, self._directory, **how)

    def _close(self) -> None:
        self.draw(lambda writer: writer.close())
        if threading.excepthook == self._in_thread:
            threading.excepthook = self._hook

    def _attempt(self, act: Callable[..., object], *arguments: object, **how: object) -> object:
        try:
            return act(*arguments, **how)
        except Exception as error:  # TensorBoard's writers raise what their threads ran into, of any kind
            self._writer, self._curves = None, False
            log.warning(f"TensorBoard's curves end here: {error}. Training goes on.")
            return None


def fenced(text: str) -> str:
    """A text as a block of code in Markdown, whatever it contains; of a long one the beginning. Long lines go
    on in the next after a `↩`: the page does not wrap them."""
    short = text[:SHOWN_CHARACTERS] + ("..." if len(text) > SHOWN_CHARACTERS else "")
    fence = "~" * (2 + max(map(len, re.findall("~*", short))))
    shown = short.translate(VISIBLE).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    wrapped = re.sub(f"(.{{{SHOWN_COLUMNS}}})(?=.)", "\\1↩\n", shown)
    return f"~{fence}\n{wrapped}\n~{fence}"
