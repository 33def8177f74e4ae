"""What a run leaves for people and programs at its end: `result.json` and what to do next."""

import json
import logging
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from charlstm import __version__, files

log = logging.getLogger("charlstm")


def write_result(directory: Path, result: Mapping[str, Any]) -> None:
    """Write a run's final figures to `result.json`, for programs.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    with files.whole(directory / "result.json") as file:
        file.write(text.encode() + b"\n")


def shown(path: Path) -> Path:
    """A path as it is typed from here."""
    relative = Path(os.path.relpath(path))
    return path if ".." in relative.parts else relative


def say_next_steps(checkpoint: Path, go_on: bool = False, prompt: str = "") -> None:
    """Say where the checkpoint lies and what to do with it; and how to go on with a run that was stopped.

    Args:
        prompt: what a model that cannot begin by itself needs to read first.
    """
    path = shown(checkpoint)
    log.info(f"checkpoint  {path}")
    if go_on:
        log.info(f"go on       python train.py resume={path.parent}")
    log.info(f"write       python sample.py ckpt={path.parent}" + f' prompt="{prompt}"' * bool(prompt))
    log.info(f"curves      tensorboard --logdir {path.parent if path.is_absolute() else path.parts[0]}")


def continue_curves(before: Path, directory: Path) -> None:
    """Take over the curves of the run in the directory `before`, where they can be had."""
    if before.resolve() != directory.resolve():
        for events in sorted(before.glob("events.out.tfevents.*")):
            try:
                shutil.copyfile(events, directory / events.name)
            except OSError as error:
                log.warning(f"{events}: not taken over: {error.strerror}")


def versions() -> dict[str, Any]:
    """Of what the figures depend on."""
    of = {name: version(name) for name in ("torch", "numpy")}
    return {"charlstm": __version__, "python": platform.python_version()} | of


def shown_machine(machine: dict[str, Any]) -> str:
    """Device and threads in words."""
    return f"{machine['device']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
