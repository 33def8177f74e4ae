"""The machine that a figure was measured on."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

T = TypeVar("T", int, float, str)


def describe() -> str:
    """One line: processor, cores, Python and torch."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {version('torch')}"
    )


def count(name: str, default: int) -> int:
    """The number that the command line gives as `name=3`, or the default."""
    return arguments(**{name: default})[0]


def arguments(**defaults: T) -> list[T]:
    """What the command line gives as `name=value`, of the type of the default, or the default."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if unknown := given.keys() - defaults.keys():
        sys.exit(f"error: {', '.join(sorted(unknown))}: there is only {', '.join(defaults)}")
    return [type(default)(given.get(name, default)) for name, default in defaults.items()]  # type: ignore[call-arg]
