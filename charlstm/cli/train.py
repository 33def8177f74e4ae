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
without running, --hydra-help what else Hydra can do. All keys, with their defaults:
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from charlstm.cli import command_line, terminal
from charlstm.config.settings import TrainSettings
from charlstm.runs.plan import Plan
from charlstm.runs.report import Outcome, shown
from charlstm.runs.resume import Saved
from charlstm.tasks import table

log = logging.getLogger("charlstm")


def main() -> None:
    """Train as the command line asks."""
    command_line.run("train", TrainSettings, terminal.as_started(__doc__), planned, carried_out)


def planned(settings: TrainSettings, saved: Saved | None) -> Plan | None:
    """The plan; with `check=true` it is printed, and there is nothing to carry out."""
    plan = table.plan(settings, saved)
    if not settings.check:
        return plan
    for line in plan.describe():
        print(line)
    print("Nothing was trained; leave out check=true to do it.")
    return None


def carried_out(plan: Plan, path: Path) -> Outcome:
    """The outcome of the run in the directory `path`; what to do next is said."""
    outcome = table.run(plan, path)
    if outcome.checkpoint is not None:
        for line in next_steps(outcome, outcome.checkpoint):
            log.info(line)
    return outcome


def next_steps(outcome: Outcome, checkpoint: Path) -> Iterator[str]:
    """Where the checkpoint lies and what to do with it, a line each."""
    path = shown(checkpoint)
    yield f"checkpoint  {path}"
    if outcome.resume is not None:
        yield " ".join(
            ["resume     ", terminal.this_command("train"), f"resume={path.parent}", *outcome.resume]
        )
    prompt = f' prompt="{outcome.prompt}"' if outcome.prompt else ""
    yield f"write       {terminal.this_command('sample')} ckpt={path.parent}{prompt}"
    yield f"curves      tensorboard --logdir {path.parent if path.is_absolute() else path.parts[0]}"
