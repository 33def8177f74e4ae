"""The words of a command line -> keys with values, and flags, in whatever order they were typed."""

import os
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from charlstm import __version__
from charlstm.cli.terminal import visible
from charlstm.config.compose import groups, keys_with_comments
from charlstm.config.convert import RequestError, keys_of, nearest_key
from charlstm.runs.directory import RUNS, saved_in

PATHS = {"data.path", "data.old", "init", "resume", "ckpt", "path", "out", "prompt_file"}
PATHS |= {"hydra.run.dir", "hydra.sweep.dir"}


def arrange(name: str, settings_type: type[Any], doc: str, flags: Collection[str] = ()) -> list[list[str]]:
    """The arguments with keys, and those that are one of `flags` with their values: Hydra takes them in this
    order. `--help` and `--version` end the process here. RequestError if there are other flags."""
    words, keys, found, problems = sys.argv[1:], [], [], []
    of_groups = groups() if name == "train" else {}
    if {"-h", "--help"} & {*words}:
        if chosen := [word for word in words if word.partition("=")[0] in of_groups]:
            doc = re.sub("defaults of .*", f"defaults of {' '.join(chosen)}:", doc, flags=re.DOTALL)
        print(doc.strip(), keys_with_comments(name, settings_type, chosen), sep="\n\n")
        sys.exit(0)
    if "--version" in words:
        print(f"charlstm {__version__}")
        sys.exit(0)
    while words:
        word, values = words.pop(0), []
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            keys.append(_with_paths(word))
            continue
        if not equals and words and "=" not in words[0] and not words[0].startswith("--"):
            values = [words.pop(0)]
        if flag in flags:
            found += [word, *values]
        elif key := nearest_key(flag.lstrip("-").replace("-", "_"), [*keys_of(settings_type), *of_groups]):
            value = shlex.quote("".join(values) or value or "...")
            problems.append(f"{flag}: keys have no dashes; write {key}={value}")
        else:
            problems.append(f"{flag}: no such flag; see --help")
    if problems:
        raise RequestError(problems)
    sys.argv[1:] = keys + found
    return [keys, found]


def _with_paths(word: str) -> str:
    """`key=value` with the user's home in place of `~` in a path, where a shell, after the `=`, leaves it,
    and the newest run in place of `latest`; ValueError if there is none."""
    key, equals, value = word.partition("=")
    if key not in PATHS:
        return word
    paths = list(map(os.path.expanduser, value.split(",")))
    if key in ("ckpt", "init", "resume") and "latest" in paths and not Path("latest").exists():
        run = str(saved_in(RUNS, f"{key} = latest")[-1])
        paths = [run if path == "latest" else path for path in paths]
        print(f"{key}=latest is {visible(run)}", file=sys.stderr, flush=True)
    return key + equals + ",".join(paths)
