"""conf/ + overrides -> typed settings, by Hydra, with our answers to what is wrong.

Hydra alone stops at the first problem, advises `+key` for a typo, and reads `data.text=a,b` as a sweep. So
every request is composed and checked here once, and values of keys that take free text are quoted for Hydra's
grammar first.
"""

import re
import sysconfig
from collections.abc import Sequence
from typing import Any, TypeVar

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
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
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(name, right)
        settings = settings_of(config, settings_type)
    except RequestError as error:
        problems += error.problems
    except (HydraException, OmegaConfBaseException) as error:
        problem, unknown, _ = " ".join(str(error).split()).partition(". To append to your config use +")
        # a key of Hydra's own: with a + it would be taken and do nothing
        problems.append(problem + "; --cfg hydra shows what there is" * bool(unknown))
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
    # OmegaConf: \${ is a literal ${, and backslashes before it are doubled
    value = re.sub(r"(\\*)\$\{", lambda m: 2 * m[1] + r"\${", value)
    # Hydra: within quotes \' is a quote, and backslashes before one, or before the end, are doubled
    value = re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), value)
    return f"'{value}'"


def check_keys(
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


def settings_of(config: DictConfig, settings_type: type[S]) -> S:
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return convert(settings_type, {str(key): value for key, value in values.items()})


def keys_with_comments(name: str) -> str:
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    return re.sub(r"\Adefaults:\n(  .*\n)*", "", text.partition("\nhydra:")[0]).strip()
