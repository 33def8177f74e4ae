"""The command line -> typed settings, by Hydra, with our answers to what is wrong.

Hydra alone stops at the first problem, advises `+key` for a typo, makes the run directory before anything
is checked, and reads `data.text=a,b` as a sweep. So every request is composed and checked once before Hydra
runs it, and values of keys that take free text are quoted for Hydra's grammar first.
"""

import os
import re
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from charlstm import resume
from charlstm.checkpoint import LAST
from charlstm.config import RequestError, convert, keys_of, takes_text, unknown_key
from charlstm.directory import holds_a_run, owned
from charlstm.streams import answered, output

CONF = Path(__file__).resolve().parent.parent / "conf"

S = TypeVar("S")

# for conf/data/python.yaml: the one value that is another on every machine
OmegaConf.register_new_resolver("python_library", lambda: sysconfig.get_path("stdlib"), replace=True)


def ask(name: str, settings_type: type[S]) -> S:
    """The settings that the command line asks for; `--help` and wrong requests end the process here.

    Args:
        name: of the YAML file in `conf/`.
        settings_type: the dataclass that its keys fill.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print((sys.modules["__main__"].__doc__ or "").strip(), _keys_with_comments(name), sep="\n\n")
        sys.exit(0)
    with answered():
        return compose(name, settings_type, complete(arguments, settings_type))


def run(
    name: str, settings_type: type[S], check: Callable[[S], object], job: Callable[[S, Path], int]
) -> None:
    """Let Hydra make the run directory and run a job in it: once, or with `--multirun` once for each choice.

    Args:
        name, settings_type: as for `ask`.
        check: raises ValueError for what can be seen only by looking at files; runs before any directory
            is made.
        job: gets the settings and the run directory; returns the exit code.
    """
    exit_codes = []
    flags = {argument for argument in sys.argv[1:] if argument.startswith("-")}
    is_simple = flags <= {"-h", "--help"}  # any other flag, such as --multirun, is Hydra's to understand

    def run_one(config: DictConfig) -> None:
        settings, directory = _settings(config, settings_type), Path(HydraConfig.get().runtime.output_dir)
        if not is_simple:
            check(settings)
        try:
            with answered():
                code = job(settings, directory)
        except OSError as error:
            print(f"error: {directory}: the run cannot go on: {error}", file=sys.stderr)
            sys.exit(1)
        exit_codes.append(code)
        if code > 128:  # stopped by a signal, and so are the runs that would come after it
            sys.exit(code)

    with _interrupted(), output():
        if is_simple:
            check(ask(name, settings_type))
        is_multirun = bool(flags & {"-m", "--multirun"})
        if is_multirun:
            overrides = [argument for argument in sys.argv[1:] if "=" in argument and argument not in flags]
            _, problems = _check_keys(name, settings_type, overrides, several=True)
            if any(override.startswith("resume=") for override in overrides):
                problems.append("resume: goes on with one run; leave out --multirun")
            if problems:
                raise RequestError(problems)
        else:
            sys.argv[1:] = complete(sys.argv[1:], settings_type)
        key = "hydra.sweep.dir" if is_multirun else "hydra.run.dir"
        with _answered_directory(key), _own_directory(key, sys.argv[1:], make=is_simple):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(run_one)()
    sys.exit(max(exit_codes, default=0))


@contextmanager
def _interrupted() -> Iterator[None]:
    """Within this context Ctrl-C ends the process with a line, whatever libraries make of it."""
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except BaseException:
        if not interrupted:
            raise
        print("Stopped at once; what was saved before is untouched.", file=sys.stderr)
        sys.exit(130)


@contextmanager
def _answered_directory(key: str) -> Iterator[None]:
    """Within this context a run directory that cannot be made is a ValueError that names it."""
    # lets exceptions through, in place of a traceback of Hydra's own
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (OSError, ValueError) as error:
        # logging hides that it cannot open its file behind a ValueError
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or isinstance(cause, BrokenPipeError):
            raise
        raise ValueError(
            f"{key}: {cause.filename or 'the run directory'} cannot be made: {cause.strerror}; "
            "name a folder that can be written"
        ) from None


def compose(name: str, settings_type: type[S], overrides: Sequence[str]) -> S:
    """The settings of `conf/<name>.yaml` with overrides as on the command line.

    Raises:
        RequestError: lists every problem of the request.
    """
    right, problems = _check_keys(name, settings_type, overrides)
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, right)
        settings = _settings(config, settings_type)
    except RequestError as error:
        problems += error.problems
    except (HydraException, OmegaConfBaseException) as error:
        problem, unknown, _ = " ".join(str(error).split()).partition(". To append to your config use +")
        # a key of Hydra's own: with a + it would be taken and do nothing
        problems.append(problem + "; --cfg hydra shows what there is" * bool(unknown))
    if problems:
        raise RequestError(problems)
    return settings


def complete(arguments: Sequence[str], settings_type: type[Any]) -> list[str]:
    """The arguments, quoted for Hydra; with `resume=...` those of the run that it names come before them.

    Raises:
        ValueError: there is no such run, or a group of values or another task was asked for besides.
    """
    quoted = quote_free_text(arguments, settings_type)
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if "resume" not in given or "resume" not in keys_of(settings_type):
        return quoted
    if not given["resume"]:
        raise ValueError("resume = : names no run; give a run directory or one of its checkpoints")
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir()):
        if group in given and group != "task":
            raise ValueError(
                f"{group} = {given[group]}: does not go together with resume, which takes all values from "
                "the run; give single keys"
            )
    stored = resume.stored_settings(given["resume"])
    if given.get("task", stored["task"]) != stored["task"]:
        raise ValueError(
            f"task = {given['task']}: the run that is resumed has {stored['task']}; leave it out"
        )
    known = keys_of(settings_type)
    taken = {key: value for key, value in stored.items() if key in known and key not in given}
    return [f"{key}={_literal(value)}" for key, value in taken.items()] + quoted


def _literal(value: Any) -> str:
    """A value as Hydra's grammar has it."""
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _quote(value) if isinstance(value, str) else repr(value)


def quote_free_text(arguments: Sequence[str], settings_type: type[Any]) -> list[str]:
    """The arguments with the values of free-text keys quoted, so that they pass Hydra unchanged."""
    free = {key for key, hint in keys_of(settings_type).items() if takes_text(hint)}
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        quoted.append(f"{key}={_quote(value)}" if equals and key in free else argument)
    return quoted


def _quote(value: str) -> str:
    # OmegaConf: \${ is a literal ${, and backslashes before it are doubled
    value = re.sub(r"(\\*)\$\{", lambda m: 2 * m[1] + r"\${", value)
    # Hydra: within quotes \' is a quote, and backslashes before one, or before the end, are doubled
    value = re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), value)
    return f"'{value}'"


def _check_keys(
    name: str, settings_type: type[Any], overrides: Sequence[str], several: bool = False
) -> tuple[list[str], list[str]]:
    """Split overrides, with several values or without, into those that Hydra can take and the problems of
    the others."""
    known = list(keys_of(settings_type))
    groups = {
        path.name: sorted(p.stem for p in path.glob("*.yaml"))
        for path in CONF.iterdir()
        if path.is_dir() and path.name != "hydra"
    }
    right, problems = [], []
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException:
            problems.append(f"{override}: not of the form key=value; put values with special signs in quotes")
            continue
        key = parsed.key_or_group
        is_group, is_sweep = key in groups and name == "train", parsed.is_sweep_override()
        if not (is_group or key.startswith(("hydra.", "hydra/")) or key in known):
            problems.append(unknown_key(key, [*known, *groups] if name == "train" else known))
        elif is_sweep and not several:
            mend = "add --multirun to run them one after another" if name == "train" else "put a list in [ ]"
            problems.append(f"{override}: several values; {mend}")
        elif is_group and not is_sweep and parsed.value() not in [*groups[key], None]:
            problems.append(f"{override}: no such {key}; there are {' | '.join(groups[key])}")
        else:
            right.append(override)
    return right, problems


@contextmanager
def _own_directory(key: str, overrides: Sequence[str], make: bool) -> Iterator[None]:
    """See that nothing is harmed in the directory that the command line names, if it does; with `make`, own
    it, before Hydra writes the first file there."""
    given = {key: value for key, _, value in (argument.partition("=") for argument in overrides)}
    going_on = Path(_value(given, "resume") or os.devnull).resolve()
    name = _value(given, key)
    if not name or "${" in name:  # which Hydra will know
        yield
        return
    directory = Path(name)
    with ExitStack() as held:
        if make:
            directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(owned(directory))
        is_own = going_on in (directory.resolve(), (directory / LAST).resolve())
        for path in directory.glob("*/") if key == "hydra.sweep.dir" else [directory]:
            has_result = (path / "result.json").exists()
            if holds_a_run(path) and not has_result and not is_own:
                raise ValueError(
                    f"{key} = {directory}: holds a run that can be gone on with; name a new one, or give "
                    f"resume={path}"
                )
            if has_result or (any(path.glob("*.safetensors")) and not is_own):
                raise ValueError(f"{key} = {directory}: holds the result of another run; name a new one")
        yield


def _value(given: Mapping[str, str], key: str) -> str:
    """A value of the command line as Hydra reads it; empty where there is none."""
    if key not in given:
        return ""
    return str(OverridesParser.create().parse_override(f"{key}={given[key]}").value() or "")


def _settings(config: DictConfig, settings_type: type[S]) -> S:
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return convert(settings_type, {str(key): value for key, value in values.items()})


def _keys_with_comments(name: str) -> str:
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    return re.sub(r"\Adefaults:\n(  .*\n)*", "", text.partition("\nhydra:")[0]).strip()
