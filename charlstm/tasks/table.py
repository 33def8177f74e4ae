"""The tasks: a request -> a plan, of the kind that its task has."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.config.settings import Task, TrainSettings
from charlstm.config.values import Duration, refuse
from charlstm.runs.initial import check_shape
from charlstm.runs.plan import Plan
from charlstm.runs.report import Outcome
from charlstm.runs.resume import Saved
from charlstm.tasks import copying, language_model, memorize
from charlstm.training import machine, memory
from charlstm.training.clock import Clock
from charlstm.training.processes import Order, size, together

if TYPE_CHECKING:
    from charlstm.runs.run import Run

log = logging.getLogger("charlstm")

TASKS = {"memorize": memorize.plan, "lm": language_model.plan, "copy": copying.plan}

OF_ONE_TASK: dict[Task, dict[str, object]] = {
    "lm": {"accumulate": 1, "averaging": 0.0, "steps": None, "patience": None},
    "memorize": {"weight_bits": None},
}
"""Keys of `train` that work with one task only, as they are when that is not asked for."""


def plan(
    settings: TrainSettings, saved: Saved | None = None, began: float | None = None, typed: Iterable[str] = ()
) -> Plan:
    """Look at all of a request that can be wrong before anything is made. Imports no torch, unless CUDA or a
    precision is asked for. Raises ValueError if text, alphabet, model and layout do not fit together, or not
    into memory, or the machine has not what is asked for.

    `saved` is the run that is resumed, `began` when the command did, by `time.monotonic`, from which its
    budget counts, None: just now, and `typed` what was asked for, `key=value` or the key alone."""
    began = time.monotonic() if began is None else began
    for task, usual in OF_ONE_TASK.items():
        if task != settings.task:
            refuse("train", settings.train, usual, f"works with task={task} only")
    made = TASKS[settings.task](settings, saved)
    check_shape(settings, made.settings, {word.lstrip("+").partition("=")[0] for word in typed})
    if settings.task != "lm" and size() > 1:
        raise ValueError(
            f"task = {settings.task}: several processes train task=lm only; start it without torchrun"
        )
    memory.check(made.settings.model, made.config, len(made.vocabulary), made.window, memory.physical())
    if settings.device == "cuda":
        machine.choose_device("cuda")
    if settings.task == "lm" and settings.precision not in ("auto", "float32"):
        machine.check_kernel(settings.precision, machine.choose_device(settings.device))
    train, before = made.settings.train, saved.state if saved is not None else None
    budget = None if train.budget is None or train.steps is not None else Duration.seconds(train.budget)
    spent = 0.0 if before is None else before.driver.spent or before.numbers.seconds
    return dataclasses.replace(made, clock=Clock(budget, began, spent))


def started(plan: Plan, path: Path) -> "Run":
    """The run of a plan, ready to go, in the directory `path`. Needs torch."""
    from charlstm.tasks.copying_run import Copy
    from charlstm.tasks.language_model_run import LanguageModel
    from charlstm.tasks.memorize_run import Memorize

    runs: dict[Task, Callable[[Any, Path], Run]] = {"memorize": Memorize, "lm": LanguageModel, "copy": Copy}
    return runs[plan.settings.task](plan, path)


def run(plan: Plan, path: Path, planned: Callable[[], object] = lambda: None) -> Outcome:
    """Say what a plan is, carry it out in the directory `path`; `planned` is called when all is decided."""
    # what cannot be written to the log must not end the run, nor be a traceback
    logging.raiseExceptions = False
    begun = None
    try:
        for line in plan.describe():
            log.info(line)
        planned()
        if (processes := together()) is not None:
            from charlstm.tasks import worker

            assert isinstance(plan, language_model.LanguageModelPlan)
            processes.tell(Order.START)
            processes.give(worker.handed_out(plan))
        begun = started(plan, path)
        return begun.go()
    except (MemoryError, RuntimeError) as error:
        if not machine.is_out_of_memory(error):
            raise
        place = f"at step {begun.training.step + 1}" if begun else "before the first step"
        saved = ". What was saved before is untouched." if begun else ""
        log.error(f"error: out of memory {place}; {memory.MEND}{saved}")
        return Outcome(1)
