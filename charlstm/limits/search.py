"""The search for the limit of each model: trials, one after another, until the longest text is known."""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

from charlstm.config import compose
from charlstm.config.settings import ModelConfig, TrainSettings
from charlstm.config.tool_settings import LimitSettings
from charlstm.limits import capacity, plot, report, trial
from charlstm.limits.capacity import Shape, Trial
from charlstm.model.numpy_model import parameter_count
from charlstm.runs import directory, signals
from charlstm.tasks import table

log = logging.getLogger("charlstm.limit")


def shapes(settings: LimitSettings) -> list[Shape]:
    """The models that are asked for, each once. Raises ValueError if there is none."""
    model = settings.model
    for key in ("cell", "layers", "hidden"):
        if not getattr(model, key):
            raise ValueError(f"model.{key} = []: must be a value, or a list of such")
    return list(dict.fromkeys(Shape(*choice) for choice in product(model.cell, model.layers, model.hidden)))


def first_length(settings: LimitSettings, shape: Shape) -> int:
    """Characters of the first trial: as asked, or the fewest with 1 bit per parameter. Raises ValueError if
    the hidden units do not fit `model.head=none`."""
    V = settings.symbols + 2  # the start and the end token
    model = settings.model
    config = ModelConfig(**vars(shape), embedding=model.embedding, head=model.head, engine="fused")
    config.fit_vocabulary(V)
    return settings.start or math.ceil(parameter_count(config, V) / math.log2(settings.symbols))


def check(settings: LimitSettings) -> None:
    """Raise ValueError for all of a request that can be wrong, before anything is made."""
    for shape in shapes(settings):
        text = capacity.random_text(first_length(settings, shape), settings.symbols, settings.seed)
        wanted = trial.overrides(settings, shape, len(text), Path(trial.TEXT))
        asked = compose.quote_free_text(wanted, TrainSettings)
        first = compose.compose("train", TrainSettings, asked)
        table.plan(replace(first, data=replace(first.data, path=None, text=text)))
    if not settings.out:
        raise ValueError("out = : names no folder; give one, such as out=runs/limit")
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        is_new = not any(out.iterdir())
    except OSError as error:
        raise ValueError(f"out = {out}: cannot be made: {error.strerror}; name another folder") from None
    if not is_new:
        _fit(settings, out)


def _fit(settings: LimitSettings, out: Path) -> None:
    """Check against the settings of the search that is continued."""
    try:
        before = json.loads((out / report.RECORD).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, LookupError, TypeError):
        raise ValueError(f"out = {out}: holds something other than a search; name a new folder") from None
    for key, value in report.recorded(settings).items():
        if before.get(key) != value:
            raise ValueError(
                f"{key} = {value}: the search in out = {out} has {before.get(key)}; give the same, or name a "
                "new folder"
            )


def find(settings: LimitSettings, program: Callable[[str], str]) -> int:
    """Search for the limit of each model; says and saves what comes of it in `settings.out`. Returns the exit
    code: that of a run that was stopped, which ends the search, or 1 if one went wrong, which ends that
    model's. `program` is as for `report.conclusion`. Raises ValueError if another process searches there, or
    what is there is damaged, and OSError if there is no such folder, or it cannot be written."""
    out, trials, code = Path(settings.out), list[Trial](), 0
    with directory.owned(out, "out"), signals.noted_interrupts() as received:

        def raise_again() -> None:
            if received:
                raise KeyboardInterrupt

        report.save_record(out, settings, trials)
        if not plot.available():
            log.info(f"The picture {plot.NEEDED}.")
        log.info(report.header())
        for shape in shapes(settings):

            @cache
            def recalls(length: int, seed: int, shape: Shape = shape) -> bool:
                trials.append(trial.done(replace(settings, seed=seed), shape, length, raise_again))
                report.save_record(out, settings, trials)
                log.info(report.row(trials[-1].figures()))
                return trials[-1].recalled

            try:
                _search(settings, first_length(settings, shape), recalls)
            except trial.TrialError as error:
                (code,) = error.args
            except KeyboardInterrupt:  # between two trials; they answer it themselves
                code = 130
            if code > 128:
                break
        if trials:
            report.save_record(out, settings, trials, finished=not code)
            report.save_pictures(out, trials)
            for line in report.conclusion(out, trials, program):
                log.info(line)
    return code


def _search(settings: LimitSettings, start: int, recalls: Callable[[int, int], bool]) -> None:
    """Find the longest length that any seed recalls, then, from there downwards, the longest of each."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    precision = settings.precision
    longest = capacity.search(start, precision, lambda length: any(recalls(length, seed) for seed in seeds))
    coarse = capacity.lengths(max(precision, 1.1))  # with finer steps it would take dozens of trials
    lengths = [longest, *(length for length in reversed(coarse) if length < longest)]
    for seed in seeds:
        any(recalls(length, seed) for length in lengths if longest)
