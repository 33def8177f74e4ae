"""conf/ + overrides -> typed settings, by Hydra, with our answers to what is wrong."""

import copy
import io
import json
import re
import shlex
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import hydra
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from charlstm.config.convert import RequestError, convert, keys_of, nearest_key, takes_text, unknown_key
from charlstm.files import PROJECT

CONF = PROJECT / "conf"

DIRECTORIES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
PLACES = {"train": "data.path", "limit": "out", "runs": "path"}  # what a path is for that has no key
# texts that may be the word null, as it stands; after any other key it is none
WORDS = ("data.text", "data.alphabet", "text", "stop")
QUOTED = r"""('(\\.|[^'\\])*'|"(\\.|[^"\\])*")"""
SEVERAL = re.compile(rf"choice\(.*\)|{QUOTED}(,\s*{QUOTED})+", re.DOTALL)

S = TypeVar("S")

# for conf/data/python.yaml: the one value that is another on every machine
OmegaConf.register_new_resolver("python_library", lambda: sysconfig.get_path("stdlib"), replace=True)


def compose(name: str, settings_type: type[S], overrides: Sequence[str]) -> S:
    """The settings of `conf/<name>.yaml` with overrides as typed; RequestError lists every problem."""
    right, problems = check_keys(name, settings_type, overrides)
    # charlstm may be called from a program that uses Hydra, which has but one state
    state, job = GlobalHydra.instance(), JobRuntime.instance().get("name")
    callers, state.hydra = state.hydra, None
    try:
        with files_read_once(), hydra.initialize_config_dir(str(CONF), job_name=job, version_base="1.3"):
            settings = settings_of(hydra.compose(name, right), settings_type)
    except RequestError as error:
        problems += error.problems
    except (HydraException, OmegaConfBaseException) as error:
        problem, unknown, _ = " ".join(str(error).split()).partition(". To append to your config use +")
        if unknown:  # a key of Hydra's own: with a + it would be taken and do nothing
            problem += "; --cfg hydra shows what there is"
        problems.append(problem)
    finally:
        state.hydra = callers
    if problems:
        raise RequestError(problems)
    return settings


@contextmanager
def files_read_once() -> Iterator[None]:
    """Within this context Hydra reads each file of `conf/` once, so that every run of a sweep gets what was
    there when it began. What is wrong with a file is a RequestError with its place."""
    Plugins.instance()  # which registers Hydra's own sources
    sources = SourcesRegistry.instance().types
    before = sources["file"]
    if before is not FileConfigSource:
        sources["file"], FileConfigSource.read = FileConfigSource, {}
    try:
        yield
    finally:
        sources["file"] = before


class FileConfigSource(file_config_source.FileConfigSource):  # by this name other processes' Hydra knows it
    read: ClassVar[dict[str, ConfigResult]]

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.mine = self.read  # goes with it to other processes

    def __deepcopy__(self, _: object) -> "FileConfigSource":
        return copy.copy(self)  # with the same files

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if str(path) not in self.mine:
            text = _text(path)
            try:
                header, config = self._get_header_dict(text), OmegaConf.load(io.StringIO(text))
            except Exception as error:  # of YAML's parser, OmegaConf, or Hydra's for the first line
                mark = getattr(error, "problem_mark", None)
                problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
                raise _misfit(path, text[: mark.index] if mark else "", problem) from None
            first = re.search(r"^[^#\s]", text, re.MULTILINE)
            if not first:
                raise _misfit(path, "", "has no keys; give it some, or delete it")
            if not isinstance(config, DictConfig):
                raise _misfit(path, text[: first.start()], "is a list; give keys with values, as seed: 1")
            group, is_in_group, _ = config_path.partition("/")
            if is_in_group and group in ("task", "experiment") and header["package"] != "_global_":
                raise _misfit(path, "", "must begin with the line # @package _global_")
            self.mine[str(path)] = ConfigResult(self.provider, f"file://{self.path}", config, header)
        return copy.deepcopy(self.mine[str(path)])


def _text(path: Path) -> str:
    try:
        blob = path.read_bytes()
        text = blob.decode("utf-8")
    except OSError as error:
        raise RequestError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise _misfit(path, blob[: error.start].decode(), "is not UTF-8 here; save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise _misfit(path, "", "begins with a byte order mark; save it as UTF-8 without one")
    return text


def _misfit(path: Path, before: str, problem: str) -> RequestError:
    """The answer to what is wrong with a file after the text `before`."""
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return RequestError([f"{path}, line {line}, column {column}: {problem}"])


def quote_free_text(arguments: Sequence[str], settings_type: type[Any], several: bool = False) -> list[str]:
    """The arguments with the values of free-text keys quoted, so that they pass Hydra unchanged, and its
    directories, but for interpolations; left are directories in quotes and, where there may be several, what
    asks for a run each, as 'a','b' or choice(a,b), and null for what may be none."""
    hints = {key: hint for key, hint in keys_of(settings_type).items() if takes_text(hint)}
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        is_directory = key in DIRECTORIES
        is_left = re.fullmatch(QUOTED, value) if is_directory else several and SEVERAL.fullmatch(value)
        is_none = value == "null" and key not in WORDS and type(None) in get_args(hints.get(key))
        is_text = equals and (is_directory or key in hints) and not is_left and not is_none
        quoted.append(f"{key}={quote(value, is_directory)}" if is_text else argument)
    return quoted


def quote(value: str, may_interpolate: bool = False) -> str:
    """A text in quotes, so that it passes Hydra unchanged."""
    if not may_interpolate:  # OmegaConf: \${ is a literal ${, and backslashes before it are doubled
        value = re.sub(r"(\\*)\$\{", lambda m: 2 * m[1] + r"\${", value)
    # Hydra: within quotes \' is a quote, and backslashes before one, or before the end, are doubled
    value = re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), value)
    return f"'{value}'"


def groups() -> dict[str, list[str]]:
    """The groups of values in `conf/`, such as `experiment`, with what can be chosen of each."""
    folders = (path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
    return {path.name: sorted(choice.stem for choice in path.glob("*.yaml")) for path in folders}


def downloads() -> set[tuple[str, str]]:
    """The URLs, and the SHA-256 of what is there, that `conf/data` names."""
    known = (OmegaConf.load(path) for path in (CONF / "data").glob("*.yaml"))
    return {(str(OmegaConf.select(one, "url")), str(OmegaConf.select(one, "sha256"))) for one in known}


def literal(value: Any) -> str:
    """A value as Hydra's grammar has it."""
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return quote(value) if isinstance(value, str) else repr(value)


def check_keys(
    name: str, settings_type: type[Any], overrides: Sequence[str], several: bool = False
) -> tuple[list[str], list[str]]:
    """Split overrides, which may have `several` values, into those that Hydra can take and what is wrong."""
    known, choices = list(keys_of(settings_type)), groups()
    right, problems = [], []
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException:
            near = nearest_key(override, known, 0.9)
            key = f"{near}=..." if near else f"{PLACES.get(name, 'ckpt')}={shlex.quote(override)}"
            mend = "put values with special signs in quotes" if "=" in override else f"write {key}"
            problems.append(f"{override}: not of the form key=value; {mend}")
            continue
        key = parsed.key_or_group
        is_group, is_sweep = key in choices and name == "train", parsed.is_sweep_override()
        asked = getattr(parsed.value(), "list", []) if is_sweep else [parsed.value()]
        if not (is_group or key.startswith(("hydra.", "hydra/")) or key in known):
            problems.append(unknown_key(key, [*known, *choices] if name == "train" else known))
        elif is_sweep and not several:
            mend = "add --multirun to run them one after another" if name == "train" else "put a list in [ ]"
            problems.append(f"{override}: several values; {mend}")
        elif is_group and any(getattr(one, "text", one) not in [*choices[key], None] for one in asked):
            problems.append(f"{override}: no such {key}; there are {' | '.join(choices[key])}")
        else:
            right.append(override)
    return right, problems


def settings_of(config: DictConfig, settings_type: type[S]) -> S:
    """What Hydra composed, as typed settings; RequestError lists every problem."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return convert(settings_type, {str(key): value for key, value in values.items()})


def keys_with_comments(name: str, settings_type: type[Any], chosen: Sequence[str] = ()) -> str:
    """The keys of `conf/<name>.yaml` with their comments and their defaults, or what those are when groups of
    values such as task=lm are chosen, as `--help` shows them. Raises RequestError."""
    text = _text(CONF / f"{name}.yaml")
    text = re.sub(r"\Adefaults:\n(  .*\n)*", "", text.partition("\nhydra:")[0]).strip()
    if not chosen:
        return text
    usual, values = (compose(name, settings_type, overrides) for overrides in ([], chosen))
    group: list[str] = []

    def set_anew(line: re.Match[str]) -> str:
        group[len(line[1]) // 2 :] = [line[2]]
        value = attrgetter(".".join(group))
        is_as_usual = not line[3] or value(values) == value(usual)
        return line[0] if is_as_usual else f"{line[1]}{line[2]}: {typed(value(values))}"

    return re.sub(r"^( *)(\w+):(.*)", set_anew, text, flags=re.MULTILINE)


def typed(value: Any) -> str:
    """A value as it is typed: null, true, [0.9, 0.1, 0]."""
    return value if isinstance(value, str) else json.dumps(value)
