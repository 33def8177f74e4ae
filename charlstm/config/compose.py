"""conf/ + overrides -> typed settings, by Hydra, with our answers to what is wrong."""

import re
import sysconfig
from collections.abc import Sequence
from typing import Any, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from charlstm.config.convert import RequestError, convert, keys_of, takes_text, unknown_key
from charlstm.files import PROJECT

CONF = PROJECT / "conf"

S = TypeVar("S")

# for conf/data/python.yaml: the one value that is another on every machine
OmegaConf.register_new_resolver("python_library", lambda: sysconfig.get_path("stdlib"), replace=True)


def compose(name: str, settings_type: type[S], overrides: Sequence[str]) -> S:
    """The settings of `conf/<name>.yaml` with overrides as on the command line.

    Raises:
        RequestError: lists every problem of the request.
    """
    right, problems = check_keys(name, settings_type, overrides)
    # charlstm may be called from a program that uses Hydra, which has but one state
    state, job = GlobalHydra.instance(), JobRuntime.instance().get("name")
    callers, state.hydra = state.hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), job_name=job, version_base="1.3"):
            config = hydra.compose(name, right)
        settings = settings_of(config, settings_type)
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


def quote_free_text(arguments: Sequence[str], settings_type: type[Any]) -> list[str]:
    """The arguments with the values of free-text keys quoted, so that they pass Hydra unchanged."""
    free = {key for key, hint in keys_of(settings_type).items() if takes_text(hint)}
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        quoted.append(f"{key}={quote(value)}" if equals and key in free else argument)
    return quoted


def quote(value: str) -> str:
    """A text in quotes, so that it passes Hydra unchanged."""
    # OmegaConf: \${ is a literal ${, and backslashes before it are doubled
    value = re.sub(r"(\\*)\$\{", lambda m: 2 * m[1] + r"\${", value)
    # Hydra: within quotes \' is a quote, and backslashes before one, or before the end, are doubled
    value = re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), value)
    return f"'{value}'"


def groups() -> dict[str, list[str]]:
    """The groups of values in `conf/`, such as `experiment`, with what can be chosen of each."""
    folders = (path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
    return {path.name: sorted(choice.stem for choice in path.glob("*.yaml")) for path in folders}


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
    """Split overrides, with several values or without, into those that Hydra can take and the problems of
    the others."""
    known, choices = list(keys_of(settings_type)), groups()
    right, problems = [], []
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException:
            problems.append(f"{override}: not of the form key=value; put values with special signs in quotes")
            continue
        key = parsed.key_or_group
        is_group, is_sweep = key in choices and name == "train", parsed.is_sweep_override()
        if not (is_group or key.startswith(("hydra.", "hydra/")) or key in known):
            problems.append(unknown_key(key, [*known, *choices] if name == "train" else known))
        elif is_sweep and not several:
            mend = "add --multirun to run them one after another" if name == "train" else "put a list in [ ]"
            problems.append(f"{override}: several values; {mend}")
        elif is_group and not is_sweep and parsed.value() not in [*choices[key], None]:
            problems.append(f"{override}: no such {key}; there are {' | '.join(choices[key])}")
        else:
            right.append(override)
    return right, problems


def settings_of(config: DictConfig, settings_type: type[S]) -> S:
    """What Hydra composed, as typed settings; RequestError lists every problem."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return convert(settings_type, {str(key): value for key, value in values.items()})


def keys_with_comments(name: str) -> str:
    """The keys of `conf/<name>.yaml` with their defaults and comments, as `--help` shows them."""
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    return re.sub(r"\Adefaults:\n(  .*\n)*", "", text.partition("\nhydra:")[0]).strip()
