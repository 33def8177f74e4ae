"""Train a character-level LSTM.

    charlstm train                                   learn data/hello.txt by heart
    charlstm train data.text="any sentence" seed=7   another text, other random numbers
    charlstm train data.path=some.txt model.layers=3
    charlstm train data.path=book.txt task=lm        learn to write like a book
    charlstm train data=python task=lm check=true    look before
    charlstm train experiment=notebook               a published experiment (conf/experiment/)
    charlstm train experiment=copy                   how many random symbols its state can hold
    charlstm train --multirun seed=0,1,2             several runs, one after another

Every run makes a directory under outputs/ (or hydra.run.dir=...). --cfg job shows the configuration
without running, --hydra-help what else Hydra can do. All keys, with the defaults of task=memorize
(add task=lm to see those of that task, or task=copy, or an experiment):
"""

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from charlstm.cli import command_line, terminal
from charlstm.config.compose import WORDS, typed
from charlstm.config.convert import keys_of
from charlstm.config.settings import DataConfig, TrainSettings
from charlstm.runs.plan import Plan
from charlstm.runs.report import Outcome, quoted, shown
from charlstm.runs.resume import Saved
from charlstm.tasks import table
from charlstm.text.corpus import Fingerprint
from charlstm.training import processes

log = logging.getLogger("charlstm")


def main() -> None:
    with terminal.answered():
        processes.check()
        if processes.size() > 1 and {"-m", "--multirun"} & {*sys.argv}:
            raise ValueError("--multirun: several processes train one run; start it without torchrun")
    if processes.rank():
        sys.exit(train_along())
    try:
        command_line.run(terminal.as_started(__doc__), partial(planned, texts={}), carried_out)
    except SystemExit as ended:
        together = processes.together()
        if together is not None and (together.are_met or not ended.code):
            with suppress(ConnectionError):  # torchrun ends the others only where one fails
                together.tell(processes.Order.END)
            together.part()
        raise


def train_along() -> int:
    """The part of a process that trains with others, but for the first; returns the exit code."""
    from charlstm.tasks import worker

    try:
        worker.serve()
    except (ConnectionError, ValueError) as error:
        print(f"process {processes.rank()}: {error}", file=sys.stderr)
        return 1
    finally:
        if (together := processes.together()) is not None:
            together.part()
    return 0


def planned(
    settings: TrainSettings,
    saved: Saved | None,
    began: float | None = None,
    typed: Sequence[str] = (),
    texts: dict[DataConfig, Fingerprint] | None = None,
) -> Plan | None:
    """The plan; with `check=true` it is printed, and there is nothing to carry out. `began` and
    `typed` are as for `table.plan`; `texts`, those of the earlier runs of a sweep, must not have changed."""
    plan = table.plan(settings, saved, began, typed)
    if texts is not None and texts.setdefault(settings.data, plan.data) != plan.data:
        raise ValueError(f"data.path = {settings.data.path}: the text has changed since the sweep began")
    if not settings.check:
        return plan
    for line in plan.describe():
        terminal.show(f"{line}\n", flush=True)
    print("Nothing was trained; leave out check=true to do it.")
    return None


def carried_out(plan: Plan, path: Path) -> Outcome:
    """The outcome of the run in the directory `path`; what to do next is said."""
    outcome = table.run(plan, path, planned=partial(_keep_command, plan, path, {}))
    if "train.steps" in plan.chosen and outcome.steps is not None:
        _keep_command(plan, path, {"train.steps": outcome.steps})
    if outcome.checkpoint is not None:
        for line in next_steps(outcome, outcome.checkpoint, plan.settings.tensorboard):
            log.info(line)
    return outcome


def _keep_command(plan: Plan, path: Path, made: dict[str, object]) -> None:
    """Write to `config/again.sh` what gives the same run again, with what was chosen for this machine; of a
    language model with a budget one of as many steps as were `made`."""
    folder = path / str(HydraConfig.get().output_subdir)
    if not folder.is_dir():  # hydra.output_subdir=null
        return
    given = dict(override.partition("=")[::2] for override in HydraConfig.get().overrides.task)
    mine = {key: attrgetter(key)(plan.settings) for key in keys_of(TrainSettings) if key in given}
    values = given | mine | plan.chosen | made
    none = [key for key in WORDS if values.get(key, "") is None]  # as it is without the key
    keys = shlex.join(f"{key}={typed(value)}" for key, value in values.items() if key not in none)
    command = f"cd {shlex.quote(str(Path.cwd()))} && {this_command()} {keys}"
    (folder / "again.sh").write_text(f'{command} "$@"\n', encoding="utf-8", errors="surrogateescape")


def this_command() -> str:
    """What started this run; of several processes by torchrun, to which each machine adds where they meet."""
    if (size := processes.size()) == 1:
        return terminal.this_command("train")
    here, started = processes.on_this_machine(), Path(sys.argv[0])
    nodes = f" --nnodes {size // here}" if size > here else ""
    what = quoted(started) if started.name == "train.py" else "-m charlstm train"
    return f"{terminal.program('torchrun')}{nodes} --nproc-per-node {here} {what}"


def next_steps(outcome: Outcome, checkpoint: Path, curves: bool = True) -> Iterator[str]:
    """Where the checkpoint lies and what to do with it, a line each; `curves` says whether there are any."""
    path = shown(checkpoint)
    run = path.parent
    yield f"checkpoint  {path}"
    if outcome.resume is not None:
        keys = " ".join([f"resume={quoted(run)}", *map(quoted, outcome.resume)])
        yield f"resume      {this_command()} {keys}"
    prompt = f" prompt={quoted(outcome.prompt)}" if outcome.prompt else ""
    yield f"write       {terminal.this_command('sample')} ckpt={quoted(run)}{prompt}"
    if curves:
        folder = run if run.is_absolute() else Path(*run.parts[:1])
        yield f"curves      {terminal.this_command('tensorboard')} --logdir {quoted(folder)}"
