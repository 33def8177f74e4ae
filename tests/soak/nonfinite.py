"""What becomes of a run in which a number goes wrong?

    python -m tests.soak.nonfinite [cases=360]

Puts NaN or an infinity into a loss, a gradient, a weight, the learning rate, the hidden state or a score at
random steps of small runs of both tasks, under both policies of `train.on_nonfinite`: once, three times in a
row, or from then on for ever. After every save every checkpoint in the run directory is read: none may have a
number that is not finite. What is said must name the step, and the end must be as the policy has it: skipped;
back at the last good state with half the learning rate; stopped with exit code 1. The exit code is 1 if not.
"""

import itertools
import logging
import math
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import count, describe
from charlstm import checkpoint
from charlstm.config.settings import TrainSettings
from charlstm.sampling import writer
from charlstm.scoring import held_out
from charlstm.tasks import memorize_run
from charlstm.training import loop, losses
from charlstm.training.loop import Training
from tests.soak import runs
from tests.soak.runs import LM, STREAMS

STEPS, SAVES = 36, 4
TASKS = {
    "memorize": [*STREAMS, f"train.epochs={STEPS // 3}"],
    "lm": [*LM, f"train.steps={STEPS}", "eval.times=9", "eval.baselines=false", "train.averaging=0.2"],
}
COMMON = [f"save.steps={SAVES}", "save.keep=100", "threads=1"]
WHAT = ("loss", "gradient", "weight", "learning rate", "hidden state", "score")
LASTING = ("weight", "hidden state")  # which are what they are until the run goes back
TIMES = {"once": 1, "3 in a row": 3, "for ever": 10**9}


class Injection:
    """Puts `value` into one of `WHAT`, so many times from a step on."""

    def __init__(self, what: str, value: float, step: int, times: int) -> None:
        self.what, self.value, self.step, self.left = what, value, step, times
        self.now = False

    def before_step(self, training: Training) -> None:
        """Decide whether this step is one of them."""
        self.now = training.step >= self.step and self.left > 0
        if not self.now or self.what == "score":
            return
        if self.what == "hidden state" and training.state is None:
            self.now = False  # it is zero, there is none
            return
        self.left -= 1
        with torch.no_grad():
            if self.what == "weight":
                next(iter(training.model.rnn.parameters()))[1, 1] = self.value
            if self.what == "hidden state":
                training.state = tuple(part.fill_(self.value) for part in training.state or ())

    def loss(self, scores: Any, targets: Any) -> Any:
        """The loss, or one that is not finite, or whose gradient is not."""
        loss = losses.cross_entropy(scores, targets)
        if self.now and self.what == "loss":
            return loss * self.value
        if self.now and self.what == "gradient":
            scores.register_hook(lambda gradient: gradient * self.value)
        return loss

    def lr(self, original: Callable[..., float]) -> Callable[..., float]:
        """As the optimiser's."""
        return lambda *given: self.value if self.now and self.what == "learning rate" else original(*given)

    def score(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Of the valid part, or of a text that is written from memory."""

        def scored(*given: Any, **named: Any) -> Any:
            found = original(*given, **named)
            if not (self.now and self.what == "score"):
                return found
            self.left -= 1
            if isinstance(found, int):
                raise FloatingPointError("the state is not finite")
            return found._replace(nats=self.value)

        return scored


@contextmanager
def injected(injection: Injection) -> Iterator[None]:
    """Within this context it happens."""
    with ExitStack() as stack:
        for patch in (
            runs.patched(losses, "LOSSES", {"cross_entropy": injection.loss}),
            runs.patched(loop, "learning_rate", injection.lr(loop.learning_rate)),
            runs.patched(held_out, "carried", injection.score(held_out.carried)),
            runs.patched(writer, "recall", injection.score(writer.recall)),
            runs.patched(memorize_run, "WORTH_A_FREE_RUN", 0.0),
        ):
            stack.enter_context(patch)
        yield


def bad_numbers(directory: Path) -> list[str]:
    """Those checkpoints in a run directory that have a number that is not finite."""
    bad = []
    for path in sorted(directory.glob("*.safetensors")):
        trained = checkpoint.load(path)
        arrays = {**trained.weights, **trained.arrays}
        bad += [f"{path.name}: {name}" for name, array in arrays.items() if not np.isfinite(array).all()]
        if re.search(r"NaN|Infinity", path.read_bytes().split(b"\0", 1)[0].decode("latin-1")):
            bad.append(f"{path.name}: metadata")
        if not all(
            map(math.isfinite, _numbers([trained.training and asdict(trained.training), trained.figures]))
        ):
            bad.append(f"{path.name}: numbers")
    return bad


def _numbers(values: Any) -> Iterator[float]:
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _numbers(value)
    elif isinstance(values, float):
        yield values


class Heard(logging.Handler):
    """What a run says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def go(chosen: TrainSettings, directory: Path, injection: Injection) -> tuple[int, str, list[str]]:
    """Train with it; returns the exit code, what was said, and bad numbers seen after any save."""
    heard, bad, save = Heard(), list[str](), checkpoint.save

    def checked(*given: Any) -> None:
        save(*given)
        bad.extend(bad_numbers(directory))

    log = logging.getLogger("charlstm")
    log.addHandler(heard)
    log.propagate = False
    try:
        with injected(injection), runs.patched(checkpoint, "save", checked):
            code = runs.trained(chosen, directory, before_step=injection.before_step)
    finally:
        log.removeHandler(heard)
        log.propagate = True
    return code, "\n".join(heard.lines), bad + bad_numbers(directory)


def expected(task: str, what: str, policy: str, times: str) -> tuple[int, str]:
    """The exit code, and how what must be said looks."""
    if policy == "stop":
        return 1, r"error: .*step (\d+)"
    if times == "for ever":
        return 1, r"error: .*step (\d+).* after 3 returns to an earlier state"
    if times == "once" and what not in (*LASTING, "score"):
        return 0, r"At step (\d+): .* in 1 of the last steps, which were left out"
    if what == "hidden state" and task == "memorize":  # it is zero again in the next epoch, 3 steps long
        return 0, r"(?:At|Went back to) step (\d+)"
    return 0, r"Went back to step \d+, with 0\.5 times the learning rate: .*step (\d+)"


def problem(task: str, what: str, policy: str, times: str, seed: int, folder: Path) -> str | None:
    """What is wrong with a run, if anything."""
    chance = random.Random(f"{task} {what} {policy} {times} {seed}")
    step, value = chance.randrange(3, STEPS - 8), chance.choice([math.nan, math.inf, -math.inf])
    injection = Injection(what, value, step, TIMES[times])
    given = [o.replace("text.txt", f"{folder / 'text.txt'}") for o in TASKS[task]]
    chosen = runs.settings(*given, *COMMON, f"train.on_nonfinite={policy}", f"seed={seed}")
    code, said, bad = go(chosen, folder / f"{task} {what} {policy} {times} {seed}", injection)
    wanted, pattern = expected(task, what, policy, times)
    if bad:
        return f"saved: {bad[:3]}"
    if code != wanted:
        return f"exit code {code}, not {wanted}, {value} from step {step} on: {said[-300:]}"
    if not (found := re.search(pattern, said)):
        return f"{value} from step {step} on; said nothing like {pattern!r}: {said[-300:]}"
    named = int(found[1])
    # found at the next figures (memorize: 3 steps), after 3 in a row, at the next save or the next score
    return (
        None
        if step - SAVES <= named <= step + 9 or times == "for ever"
        else f"names step {named}, it was {step}"
    )


def main(cases: int) -> int:
    """Print the table of so many of all cases, taken by chance; returns 1 if there is a problem."""
    print(describe())
    print(f"{'task':9} {'what':14} {'policy':7} {'times':11} {'runs':>5} {'wrong':>6}")
    every = list(itertools.product(TASKS, WHAT, ("skip", "stop"), TIMES, range(5)))
    chosen = sorted(random.Random(0).sample(every, min(cases, len(every))))
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.write_text(folder, 3000)
        runs.ready_to_fork()
        for row, these in itertools.groupby(chosen, lambda case: case[:4]):
            found = [problem(*case, folder) for case in these]
            problems = [text for text in found if text]
            wrong += len(problems)
            task, what, policy, times = row
            print(
                f"{task:9} {what:14} {policy:7} {times:11} {len(found):5} {len(problems):6}"
                f"{''.join(f'  {text}' for text in problems[:1])}",
                flush=True,
            )
    print(f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(count("cases", 360)))
