"""The command line -> typed settings, by Hydra, with our answers to what is wrong: every request is checked
before Hydra, which stops at the first problem and makes the run directory first, runs it."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from charlstm import BEGAN
from charlstm.cli.arguments import arrange
from charlstm.cli.sweep import Job, check_launcher, observe, print_line
from charlstm.cli.terminal import answered, output, print_error
from charlstm.config.compose import CONF, check_keys, compose, files_read_once, quote_free_text
from charlstm.config.convert import RequestError
from charlstm.config.settings import TrainSettings
from charlstm.runs.directory import claimed
from charlstm.runs.report import Outcome
from charlstm.runs.resume import Saved, complete
from charlstm.runs.signals import noted_interrupts


def run_name(first: object, values: str) -> str:
    """A run's directory: its beginning or number and values, of a path the last part; needs no quotes."""
    last = re.sub("[^,=/]*/", "", f"{first}_{values}").replace("=", "-")
    return re.sub("[^A-Za-z0-9.-]+", "_", last)[:80].strip("_")


OmegaConf.register_new_resolver("run_name", run_name, replace=True)

S = TypeVar("S")


def ask(name: str, settings_type: type[S], doc: str) -> S:
    """The settings that the command line asks for, of the keys of `conf/<name>.yaml`. Wrong requests and
    `--help`, which says `doc` before the keys, end the process here."""
    with answered():
        keys, _ = arrange(name, settings_type, doc)
        return compose(name, settings_type, quote_free_text(keys, settings_type))


def run(
    doc: str,
    plan: Callable[[TrainSettings, Saved | None, float | None, Sequence[str]], Any],
    carry_out: Callable[[Any, Path], Outcome],
) -> None:
    """Plan the training that is asked for, let Hydra make the run directory, and carry the plan out in it:
    once, or with `--multirun` once for each choice. `doc` is as for `ask`.

    `plan` gets the settings, the state of the run that is resumed, when the command began, None for a job of
    a sweep, which begins when it is planned, and the keys with values that were typed. It raises ValueError
    for all that can be wrong, before any directory is made; None: there is nothing to carry out."""
    job = Job(plan, carry_out)
    is_multirun = bool({"-m", "--multirun"} & {*sys.argv})
    with _interrupted(*((signal.SIGTERM,) if is_multirun else ())), output(), files_read_once():
        hydras = [flag for action in get_args_parser()._actions for flag in action.option_strings]
        keys, flags = arrange("train", TrainSettings, doc, hydras)
        if is_multirun:
            keys, each = _of_sweep(keys)
            job.of = len(each) or "?"
            _check_all(each, lambda words: plan(compose("train", TrainSettings, words), None, None, words))
        else:
            typed = len(keys)
            keys, job.saved = complete(keys)
            if job.saved:
                keys.append(_in_no_name(key.partition("=")[0] for key in keys[:-typed]))
            job.began = BEGAN
        if not flags:
            job.planned = plan(compose("train", TrainSettings, keys), job.saved, job.began, keys)
            if job.planned is None:
                sys.exit(0)
        sys.argv[1:] = keys + flags
        observe(job)
        with _answered_directory("hydra.sweep.dir" if is_multirun else "hydra.run.dir"), OwnDirectory.held:
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(job.__call__)()
            finally:
                for line in job.last_lines(is_whole=sys.exc_info()[0] is None):
                    print_line(line)
        if is_multirun and (failed := sum(map(bool, job.codes))):
            print_error(f"{failed} of {len(job.codes)} runs failed")
    sys.exit(max(job.codes, default=0))


def _in_no_name(keys: Iterable[str]) -> str:
    """What makes Hydra leave these keys out of the name of a run."""
    return f"hydra.job.config.override_dirname.exclude_keys=[{','.join(keys)}]"


def _of_sweep(keys: list[str]) -> tuple[list[str], list[list[str]]]:
    """The keys of a sweep with values, quoted for Hydra, and those of each of its runs, as far as they are
    known before; RequestError for what is wrong with them."""
    quoted = quote_free_text(keys, TrainSettings, several=True)
    _, problems = check_keys("train", TrainSettings, quoted, several=True)
    if any(key.startswith("resume=") for key in keys):
        problems.append("resume: resumes one run; leave out --multirun")
    if problems:
        raise RequestError(problems)
    parsed = OverridesParser.create().parse_overrides(quoted)
    for one in parsed:
        if one.key_or_group == "hydra/launcher":
            check_launcher(str(one.value()))
    # runs are named by what they do not share
    quoted.append(_in_no_name(one.key_or_group for one in parsed if not one.is_sweep_override()))
    if any(one.key_or_group.startswith(("hydra/sweeper", "hydra.sweeper")) for one in parsed):
        return quoted, []
    return quoted, [run for batch in BasicSweeper.split_arguments(parsed, None) for run in batch]


def _check_all(each: list[list[str]], check: Callable[[list[str]], object]) -> None:
    """Check all runs of a sweep before the first begins. RequestError has what is wrong with any of them."""
    problems: dict[str, None] = {}  # each once
    for overrides in each:
        try:
            check([*overrides, "check=false"])
        except ValueError as error:
            problems |= dict.fromkeys(getattr(error, "problems", [str(error)]))
    if problems:
        raise RequestError(list(problems))


@contextmanager
def _interrupted(*others: int) -> Iterator[None]:
    """Within this context Ctrl-C and `others` end the process with a line, whatever libraries make of it."""
    with noted_interrupts(*others) as received:
        try:
            yield
        except BaseException:
            if not received:
                raise
            print("Stopped at once; what was saved before is untouched.", file=sys.stderr)
            sys.exit(128 + received[0])


@contextmanager
def _answered_directory(key: str) -> Iterator[None]:
    """Within this context a run directory that cannot be made is a ValueError that names it."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets exceptions through, in place of a traceback of Hydra's own
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


class OwnDirectory(Callback):
    """Called by Hydra, as `conf/train.yaml` says, before it writes; holds the directory until `run` ends."""

    held = ExitStack()

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        self._hold("hydra.run.dir", config, "")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        sweep: Any = OmegaConf.to_container(config.hydra.sweep)
        self._hold("hydra.sweep.dir", config, sweep["subdir"])

    def _hold(self, key: str, config: DictConfig, subdir: str) -> None:
        HydraConfig.instance().set_config(config)  # which values such as ${hydra:job.name} are looked up in
        with answered(), _answered_directory(key):  # of what a callback raises Hydra makes a warning
            path = Path(str(OmegaConf.select(config, key)))
            for name in (subdir, str(config.hydra.output_subdir), f"{config.hydra.job.name}.log"):
                if not (path / name).resolve().is_relative_to(path.resolve()):
                    raise ValueError(f"{key} = {path}: {name} is not in it, but a run writes only there")
            resumed = OmegaConf.select(config, "resume")
            self.held.enter_context(claimed(path, key, Path(resumed) if resumed else None, bool(subdir)))
