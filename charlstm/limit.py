"""Find how much a model can learn by heart: the longest random text that it writes back without a mistake.

    python -m charlstm.limit                                           of an LSTM of 1 x 16
    python -m charlstm.limit "model.hidden=[16,35]" "model.layers=[1,3]" of four models, one after another
    python -m charlstm.limit train.epochs=300 out=runs/limit           with fewer passes over each text

Each trial is a run of train.py, task=memorize, on random characters, and has its own directory in out. Texts
are doubled until one is not recalled; then the space between is bisected. Bits per parameter are those of the
longest text that was recalled; soft are the bits that the weights save, recalled or not. A search that was
stopped goes on when it is asked for again with the same out. All keys, with their defaults:
"""

import json
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from charlstm import capacity, command_line, directory, limit_report, run, streams, trial
from charlstm.capacity import Shape, Trial
from charlstm.limit_report import RECORD
from charlstm.settings import TrainSettings
from charlstm.tool_settings import LimitSettings
from charlstm.trial import TrialError

log = logging.getLogger("charlstm.limit")


def shapes(settings: LimitSettings) -> list[Shape]:
    """The models that are asked for, each once."""
    model = settings.model
    return list(dict.fromkeys(Shape(*choice) for choice in product(model.cell, model.layers, model.hidden)))


def first_length(settings: LimitSettings, shape: Shape) -> int:
    """Characters of the first trial."""
    return settings.start or capacity.first_length(trial.parameters(settings, shape), settings.symbols)


def check(settings: LimitSettings) -> None:
    """Look at all of a request that can be wrong before anything is made. Imports no torch, unless CUDA is
    asked for.

    Raises:
        ValueError: head and symbols do not fit together, a first trial does not fit into memory, or `out`
            is no folder for this search.
    """
    for shape in shapes(settings):
        text = capacity.random_text(first_length(settings, shape), settings.symbols, settings.seed)
        asked = command_line.complete(trial.overrides(settings, shape, Path(trial.TEXT)), TrainSettings)
        first = command_line.compose("train", TrainSettings, asked)
        run.check(replace(first, data=replace(first.data, path=None, text=text)))
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
    """Check against the settings of the search that is gone on with."""
    try:
        before = json.loads((out / RECORD).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, LookupError, TypeError):
        raise ValueError(f"out = {out}: holds something other than a search; name a new folder") from None
    for key, value in limit_report.recorded(settings).items():
        if before.get(key) != value:
            raise ValueError(
                f"{key} = {value}: the search in out = {out} has {before.get(key)}; give the same, or name a "
                "new folder"
            )


def find(settings: LimitSettings) -> int:
    """Search for the limit of each model; says and saves what comes of it in `settings.out`. Returns the exit
    code: that of a run that was stopped, which ends the search, or 1 if one went wrong, which ends that
    model's.

    Raises:
        ValueError: another process searches there, or what is there is damaged.
        OSError: there is no such folder, or it cannot be written.
    """
    out, trials, code = Path(settings.out), list[Trial](), 0
    with directory.owned(out, "out"), _interruptible() as raise_again:
        machine = limit_report.machine()
        limit_report.save_record(out, settings, machine, trials, finished=False)
        log.info(limit_report.header())
        for shape in shapes(settings):

            def recalls(length: int, shape: Shape = shape) -> bool:
                trials.append(trial.done(settings, shape, length, raise_again))
                limit_report.save_record(out, settings, machine, trials, finished=False)
                log.info(limit_report.row(trials[-1].figures()))
                return trials[-1].recalled

            try:
                capacity.search(first_length(settings, shape), settings.precision, recalls)
            except TrialError as error:
                code = error.code
            except KeyboardInterrupt:  # between two trials; they answer it themselves
                code = 130
            if code > 128:
                break
        if trials:
            limit_report.save_record(out, settings, machine, trials, finished=not code)
            limit_report.save_pictures(out, trials)
            for line in limit_report.conclusion(out, trials):
                log.info(line)
    return code


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Within this context a Ctrl-C is not lost where a library's bare `except` swallows it: the function that
    is yielded raises it once more."""
    received = False

    def interrupt(*_: object) -> None:
        nonlocal received
        received = True
        raise KeyboardInterrupt

    def raise_again() -> None:
        if received:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield raise_again
    finally:
        signal.signal(signal.SIGINT, before)


def main() -> None:
    """Search as the command line asks."""
    code = 1
    with streams.output():
        settings = command_line.ask("limit", LimitSettings)
        check(settings)
        terminal = streams.Terminal(sys.stdout)
        log.addHandler(terminal)
        log.setLevel(logging.INFO)
        log.propagate = False  # trials have a log of their own
        try:
            code = find(settings)
        except OSError as error:
            print(f"error: out = {settings.out}: the search cannot go on: {error}", file=sys.stderr)
            sys.exit(1)
        if code:
            arguments = [argument for argument in sys.argv[1:] if not argument.startswith("out=")]
            again = shlex.join(["python", "-m", "charlstm.limit", *arguments, f"out={settings.out}"])
            log.info(f"{'Stopped' if code > 128 else 'Not complete'}; to go on: {again}")
    sys.exit(code)


if __name__ == "__main__":
    main()
