"""The machine that a figure was measured on."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


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
    (given,) = sys.argv[1:] or [f"{name}={default}"]
    return int(given.removeprefix(f"{name}="))
