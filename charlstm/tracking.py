"""What a run shows: TensorBoard's curves, the progress bar, and `result.json`."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger("charlstm")

SHOWN_CHARACTERS = 2000


def progress_bar(total: int, description: str | None = None) -> "tqdm[Any]":
    """A bar over `total` characters on standard error, for people, and only where it takes over a second."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit="char",
        unit_scale=True,
        delay=1,
        leave=False,
        dynamic_ncols=True,
        disable=sys.stderr is None or not sys.stderr.isatty(),
    )


class Tracker:
    """The curves and the progress bar of one run; use it as a context.

    Args:
        directory: the run directory, where TensorBoard finds its events.
        total: how many units there are at most, for the time left.
        unit: epoch or step.
    """

    def __init__(self, directory: Path, total: int, unit: str = "epoch") -> None:
        # imported here: it takes half a second that a wrong request need not wait for
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self._writer = SummaryWriter(directory)
        # a bar is for people: None switches it off where standard error is no terminal
        self._bar = tqdm(
            total=total, unit=unit, disable=None, leave=False, file=sys.stderr, dynamic_ncols=True
        )

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._writer.close()

    def advance(self, shown: str, units: int = 1) -> None:
        """Move the progress bar, with a few figures beside it."""
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(units)

    def curves(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Add a point to each curve; None is left out."""
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def text(self, step: int, name: str, text: str) -> None:
        """Show a text on TensorBoard's text page, as it is."""
        # TensorBoard renders Markdown: indented by four blanks it is a code block whatever it contains
        shown = text[:SHOWN_CHARACTERS] + ("..." if len(text) > SHOWN_CHARACTERS else "")
        self._writer.add_text(name, "\n".join(f"    {line}" for line in shown.splitlines()), step)


def write_result(directory: Path, result: Mapping[str, Any]) -> None:
    """Write a run's final figures to `result.json`, for programs."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    (directory / "result.json").write_text(text + "\n", encoding="utf-8")


def say_next_steps(path: Path) -> None:
    """Say where the checkpoint lies and what to do with it."""
    shown = Path(os.path.relpath(path))
    shown = path if ".." in shown.parts else shown
    log.info(f"checkpoint  {shown}")
    log.info(f"write       python sample.py ckpt={shown.parent}")
    log.info(
        f"curves      tensorboard --logdir {shown.parts[0] if not shown.is_absolute() else shown.parent}"
    )
