"""A run as Hydra calls for it: alone, or one of a sweep, in this process or in one of a launcher of Hydra."""

import json
import logging
import math
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from charlstm import files
from charlstm.cli.terminal import Terminal, escaped, give_up_output, print_error, show
from charlstm.config.compose import settings_of
from charlstm.config.settings import TrainSettings
from charlstm.runs.directory import check_unused, holds_a_run
from charlstm.runs.report import Outcome, quoted, shown
from charlstm.runs.resume import Saved, find
from charlstm.runs.signals import StopSignals, noted_interrupts, serve

EXTRAS = {"joblib": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The extra of charlstm that brings a launcher of Hydra."""

FINAL = {  # figures of `result.json` by which runs are ranked; 1: the smaller the better
    "memorize": {"free_run": -1, "epochs": 1},
    "lm": {"test_bpc": 1, "valid_bpc": 1},
    "copy": {"longest": -1, "bits_per_hidden_unit": -1},
}


class Sweep:
    """The runs that have ended: for each what it is ranked by, and what is shown of it, by name."""

    def __init__(self) -> None:
        self._ended: list[tuple[list[float], dict[str, str]]] = []

    def add(self, values: str, directory: Path) -> str:
        """Take in what a run with these values left in its directory; returns a line about it."""
        try:
            result = json.loads((directory / "result.json").read_text("utf-8"))
        except (OSError, ValueError):
            result = {}
        signs = FINAL.get(result.get("task"), {})
        found = {name: result[name] for name in signs if result.get(name) is not None}
        row = {name: f"{value:.5g}" for name, value in found.items()}
        rank = [signs[name] * value for name, value in found.items()] or [math.inf]
        self._ended.append((rank, row | {"values": values, "directory": str(shown(directory))}))
        return f"{values}: {', '.join(map(' '.join, row.items())) or 'no result'}"

    def lines(self, folder: Path) -> list[str]:
        """A table with a row for each run, if any, which is left in `summary.tsv`, too. Raises OSError."""
        if not self._ended:
            return []
        rows = [row for _, row in sorted(self._ended, key=lambda one: one[0])]
        names = sorted(dict.fromkeys(chain(*rows)), key=["values", "directory"].__contains__)
        table = [names, *([row.get(name, "-") for name in names] for row in rows)]
        with files.whole(folder / "summary.tsv") as file:
            for cells in table:
                file.write("\t".join(map(escaped, cells)).encode(errors="backslashreplace") + b"\n")
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]


def check_launcher(name: str) -> None:
    """Raise ValueError if a launcher is not installed."""
    package = f"hydra_plugins.hydra_{name.partition('_')[0]}_launcher"
    if name in EXTRAS and not (find_spec("hydra_plugins") and find_spec(package)):
        raise ValueError(f'hydra/launcher = {name}: needs pip install "charlstm[{EXTRAS[name]}]"')


@dataclass
class Job:
    """Hydra calls it for each run, in other processes a copy of it; `plan` is as for `command_line.run`."""

    plan: Callable[[Any, Saved | None, float | None, Sequence[str]], Any]
    carry_out: Callable[[Any, Path], Outcome]
    of: int | str = 0  # how many runs the sweep has, `?` if nobody knows; 0: it is none
    saved: Saved | None = None
    began: float | None = None
    planned: Any = None  # if it is made
    codes: list[int] = field(default_factory=list)  # of the runs that have ended
    sweep: Sweep = field(default_factory=Sweep)
    home: int = field(default_factory=os.getpid)  # the process that all began with
    started: str = field(default_factory=lambda: sys.argv[0])  # how that was called
    beside: int = 0  # so many runs share this machine's cores; 0: it is not that of `home`
    going: Any = None  # a file of the sweep that is there while `home` wants the runs of other processes

    def __call__(self, config: DictConfig) -> Outcome:
        hydra, is_home = HydraConfig.get(), os.getpid() == self.home
        os.chdir(hydra.runtime.cwd)  # with hydra.job.chdir, too, paths begin where they were typed
        run = partial(self._outcome, config, Path(hydra.runtime.output_dir))
        if self.of:  # what each says is in its log
            for handler in logging.getLogger().handlers:
                handler.setLevel(logging.WARNING if isinstance(handler, Terminal) else logging.NOTSET)
        if not is_home:
            sys.argv[0] = self.started
            os.environ["TQDM_DISABLE"] = "1"  # nobody can read several bars in one place
        outcome = run() if is_home or not self.beside else self._served(run)
        self._note(outcome, hydra)
        if outcome.stopped and is_home:  # and so are the runs that would come after it
            sys.exit(outcome.code)
        return outcome

    def launch(self, launcher: Any, overrides: Any, initial_job_idx: int) -> Any:
        """What a launcher of Hydra returns of these runs; those that other processes made are taken in."""
        name = type(launcher).__name__
        self.going = going = Path(HydraConfig.get().sweep.dir).absolute() / ".charlstm-going"
        if name == "BasicLauncher":
            return launcher.launch(overrides, initial_job_idx)
        self.beside = 0 if name == "SlurmLauncher" else len(overrides)
        if name == "JoblibLauncher":
            at_once = import_module("joblib").effective_n_jobs(launcher.joblib["n_jobs"])
            self.beside = min(self.beside, at_once)
            os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # of what this process left
        if name == "LocalLauncher":  # or its helpers would give a run one second to save
            launcher.params["setup"] = ["trap '' INT"]
        package = str(Path(__file__).parents[2])
        os.environ["PYTHONPATH"] = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])
        going.touch()
        # runs that are on their way are saved then, and those that would come end at once
        signals = StopSignals(then=partial(going.unlink, missing_ok=True))
        try:
            with signals if self.beside else nullcontext():
                returned = launcher.launch(overrides, initial_job_idx)
                outcomes = [(one.return_value, one.hydra_cfg.hydra) for one in returned]
        except Exception as error:  # a process was killed, a queue refuses
            print_error(f"hydra.launcher: {textwrap.shorten(str(error), 300, placeholder=' ...')}")
            sys.exit(signals.exit_code() or 1)
        finally:
            going.unlink(missing_ok=True)
        for outcome, hydra in outcomes:
            self._note(outcome, hydra, is_told=name != "JoblibLauncher")  # whose processes have told it here
        if code := signals.exit_code() or max((one.code for one, _ in outcomes if one.stopped), default=0):
            sys.exit(code)
        return returned

    def last_lines(self, is_whole: bool) -> Iterator[str]:
        """The table of a sweep, and, if it is not whole, how it goes on."""
        if self.going is not None:
            yield from self.sweep.lines(self.going.parent)
            if not is_whole:
                key = f"hydra.sweep.dir={quoted(shown(self.going.parent))}"
                yield f"Not all is done; the same command with {key} does what is missing."

    def _note(self, outcome: Outcome, hydra: Any, is_told: bool = True) -> None:
        self.codes.append(outcome.code)
        if outcome.problems and is_told:
            print_error(outcome)
        if self.of and outcome != Outcome(0):
            line = self.sweep.add(hydra.job.override_dirname, Path(hydra.runtime.output_dir))
            if is_told:
                print_line(f"{hydra.job.num + 1} of {self.of}: {line}")

    def _served(self, run: Callable[[], Outcome]) -> Outcome:
        """The outcome of a run beside others, with its share of the cores, if it is still wanted."""
        os.environ["LOCAL_WORLD_SIZE"] = str(self.beside)
        is_wanted = serve(self.home, self.going)
        with suppress(KeyboardInterrupt), noted_interrupts(signal.SIGTERM):
            if is_wanted():
                return run()
        return Outcome(0)

    def _attempt(self, config: DictConfig, path: Path) -> Outcome:
        settings, saved = settings_of(config, TrainSettings), self.saved
        if self.of and holds_a_run(path):  # the sweep is continued
            saved = find(path)
        plan = self.planned or self.plan(settings, saved, self.began, HydraConfig.get().overrides.task)
        if plan is None:
            return Outcome(0)
        if self.of and saved and (plan.resumed.changed or plan.resumed.other_data):
            check_unused(path, "hydra.sweep.subdir")  # two runs have been given one directory
        is_done = self.of and (path / "result.json").exists()
        return Outcome(0, checkpoint=path) if is_done else self.carry_out(plan, path)

    def _outcome(self, config: DictConfig, path: Path) -> Outcome:
        """The outcome of a run; what ends it is in its log, too, and ends no other run."""
        trace = None
        try:
            return self._attempt(config, path)
        except (ValueError, OmegaConfBaseException) as error:
            problems, code = getattr(error, "problems", [" ".join(str(error).split())]), 2
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            problems, code = [f"{path}: the run cannot go on: {error}"], 1
        except Exception as error:
            if not self.of:
                raise
            problems, code, trace = [f"{type(error).__name__}: {error}"], 1, error
        if self.of:
            overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
            which = f"{shown(path)} ({textwrap.shorten(' '.join(overrides), 200, placeholder='...')})"
            problems = [f"{which}: {problem}" for problem in problems]
        log = logging.getLogger("charlstm.end")
        if log.handlers:  # or standard error would have it twice
            log.error("error: %s", "\n".join(problems), exc_info=trace)
        return Outcome(code, problems=tuple(problems))


def observe(job: Job) -> None:
    """From now on `job.launch` stands between Hydra's sweepers and its launchers."""
    plugins = Plugins.instance()

    def instantiate(**given: Any) -> Any:
        return SimpleNamespace(launch=partial(job.launch, Plugins.instantiate_launcher(plugins, **given)))

    vars(plugins)["instantiate_launcher"] = instantiate


def print_line(line: str) -> None:
    """Print a line of a sweep, which goes on where nobody takes it."""
    try:
        show(f"{line}\n", flush=True)
    except OSError as error:
        give_up_output(error)
