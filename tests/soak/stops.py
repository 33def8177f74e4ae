"""What do SIGINT, SIGTERM and SIGUSR1 do to a run?

    python -m tests.soak.stops [count=50]

Sends SIGINT and SIGTERM in turn to runs of both tasks, at random moments from their start on, and exactly
while they save and while they score; resumes them after each. Exit codes must be 130 and 143, the end, after
all that, that of an undisturbed run, bit for bit, and no more than one step may begin after the signal. How
long it takes from there to the exit is shown beside the longest step and save, which it has to wait for.
Before that, SIGUSR1 must save, and a second signal must end a run that hangs in a save at once and leave the
checkpoint before it untouched. The exit code is 1 if anything is not so.
"""

import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import count, describe
from charlstm import checkpoint
from charlstm.runs import directory
from charlstm.runs.signals import StopSignals
from charlstm.sampling import writer
from charlstm.scoring import held_out
from charlstm.training.loop import Training
from tests.soak import runs
from tests.soak.runs import LM, STREAMS, Started

CASES = {
    "memorize": [*STREAMS, "train.epochs=300", "save.steps=20", "threads=1"],
    "lm": [*LM, "train.steps=500", "eval.times=25", "save.steps=20", "threads=1"],
}
NUMBERS = (signal.SIGINT, signal.SIGTERM)
HANGS = 600  # seconds


class Watch:
    """Within a run: how long steps and saves take, and from the signal to the end; it may send the signal.

    Args:
        number: of the signal.
        at: save | score: send it then, the `after`-th time; random: it comes from elsewhere.
        report: the file for what was measured.
    """

    def __init__(self, number: int, at: str, after: int, report: Path) -> None:
        self.number, self.at, self.left, self.report = number, at, after, report
        self.longest = {"step": 0.0, "save": 0.0}
        self.received: float | None = None
        self.late = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        stop = StopSignals._stop

        def heard(signals: StopSignals, *given: Any) -> None:
            self.received = time.monotonic()
            stop(signals, *given)

        with ExitStack() as stack:
            for patch in (
                runs.patched(StopSignals, "_stop", heard),
                runs.patched(Training, "make_step", self._timed("step", Training.make_step)),
                runs.patched(directory, "save_last", self._timed("save", directory.save_last)),
                runs.patched(checkpoint, "_compare", self._sending("save", checkpoint._compare)),
                runs.patched(held_out, "carried", self._sending("score", held_out.carried)),
                runs.patched(writer, "likeliest", self._sending("score", writer.likeliest)),
            ):
                stack.enter_context(patch)
            try:
                yield
            finally:
                took = time.monotonic() - self.received if self.received else None
                self.report.write_text(json.dumps(self.longest | {"took": took, "late": self.late}))

    def _timed(self, what: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            begin = time.monotonic()
            self.late += what == "step" and self.received is not None
            try:
                return do(*given)
            finally:
                self.longest[what] = max(self.longest[what], time.monotonic() - begin)

        return timed

    def _sending(self, what: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def sending(*given: Any, **named: Any) -> Any:
            # the signals of a run are heard from its first step on
            if what == self.at and self.longest["step"]:
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), self.number)
            return do(*given, **named)

        return sending


def stopped(case: str, folder: Path, seed: int, count: int, rows: dict[str, list[Any]]) -> list[str]:
    """Stop one run `count` times and go on to the end; returns problems."""
    chance = random.Random(seed)
    where, resumed, problems = folder / f"{case}{seed}", False, []
    for k in range(count + 1):
        at = ("random", "save", "score")[k % 3] if k < count else "never"
        number = NUMBERS[(k + k // 3) % 2]
        watch = Watch(number, at, chance.randrange(1, 4), folder / "report.json")
        arguments = [f"resume={where}"] if resumed else CASES[case]
        started = Started([*arguments, f"hydra.run.dir={where}"], folder, True, watch)
        if at == "random":
            if k % 4:  # of training, and not of the start
                _until(partial(_is_under_way, started))
            if started.wait(chance.uniform(0, 0.6)) is None:
                started.send(number)
        code = started.wait()
        resumed = directory.holds_a_run(where)
        if code == 0:
            break
        watched = json.loads(watch.report.read_text()) if watch.report.exists() else {"took": None}
        watch.report.unlink(missing_ok=True)
        if code != 128 + number:
            problems.append(f"{at}: exit code {code} for signal {number}: {started.said()[-300:]}")
            return problems
        if "Traceback" in started.said():
            problems.append(f"{at}: {started.said()[-500:]}")
        if watched["took"] is None:
            rows["while it started"].append((0.0, 0.0))
            continue
        within = watched["step"] + watched["save"]
        rows[{"random": "at any moment", "save": "in a save", "score": "in a score"}[at]].append(
            (watched["took"], within)
        )
        if watched["late"] > 1:
            problems.append(f"{at}: {watched['late']} steps were begun after the signal")
    return problems


def by_usr1(folder: Path) -> list[str]:
    """Ask a run that would save at its end alone to save, twice."""
    where = folder / "usr1"
    heard = folder / "heard"

    def tell(_: Training) -> None:
        if callable(signal.getsignal(signal.SIGUSR1)):  # not yet in the steps that are timed beforehand
            heard.touch()

    arguments = [*LM, "train.steps=1000000", "threads=1", f"hydra.run.dir={where}"]
    started = Started(arguments, folder, True, partial(runs.before_each_step, tell))
    _until(heard.exists)
    steps = []
    for _ in range(2):
        before = (where / "last.safetensors").exists() and (where / "last.safetensors").stat().st_ino
        started.send(signal.SIGUSR1)
        last = where / "last.safetensors"
        _until(lambda: last.exists() and last.stat().st_ino != before)  # noqa: B023
        steps.append(checkpoint.load(last).step)
    running = started.wait(0) is None
    started.send(signal.SIGKILL)
    started.wait()
    return [] if running and 0 < steps[0] < steps[1] else [f"SIGUSR1: saved at steps {steps}"]


def twice(folder: Path, number: int) -> list[str]:
    """Send two signals to a run that hangs in a save."""
    where = folder / f"twice{number}"
    hanging = folder / f"hanging{number}"

    @contextmanager
    def slow() -> Iterator[None]:
        compare = checkpoint._compare

        def hangs(path: Path, blob: bytearray) -> None:
            compare(path, blob)
            if checkpoint.parse(blob, path).step >= 60:
                hanging.touch()
                time.sleep(HANGS)

        with runs.patched(checkpoint, "_compare", hangs):
            yield

    started = Started([*CASES["lm"], f"hydra.run.dir={where}"], folder, True, slow)
    _until(hanging.exists)
    before = (where / "last.safetensors").read_bytes()
    started.send(number)
    time.sleep(0.3)
    still = started.wait(0) is None
    begin = time.monotonic()
    started.send(number)
    code, took = started.wait(), time.monotonic() - begin
    intact = (where / "last.safetensors").read_bytes() == before
    checkpoint.load(where / "last.safetensors")
    good = (
        still and code == 128 + number and took < HANGS / 10 and intact and "Traceback" not in started.said()
    )
    return [] if good else [f"second signal {number}: exit code {code} after {took:.1f} s: {started.said()}"]


def _is_under_way(started: Started) -> bool:
    return "parameters" in started.said() or started.wait(0) is not None


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not done():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def main(count: int) -> int:
    """Print the table; returns 1 if anything is not as it should be."""
    runs.ready_to_fork()
    print(describe())
    rows: dict[str, list[Any]] = {
        name: [] for name in ("while it started", "at any moment", "in a save", "in a score")
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.write_text(folder)
        problems = by_usr1(folder) + twice(folder, signal.SIGTERM) + twice(folder, signal.SIGINT)
        print(f"SIGUSR1, and a second signal in a save: {len(problems)} problems", flush=True)
        expected = {
            case: runs.digests(runs.finished(arguments, folder, True)) for case, arguments in CASES.items()
        }
        seed = 0
        while sum(map(len, rows.values())) < count and not problems:
            case = list(CASES)[seed % 2]
            problems += stopped(case, folder, seed, min(count, 12), rows)
            if not problems:
                problems += runs.different(folder / f"{case}{seed}", expected[case])
            seed += 1
    print(f"{'signal':18} {'sent':>5} {'to the exit, median':>20} {'longest':>8} {'longest step + save':>20}")
    for moment, times in rows.items():
        took, within = [t for t, _ in times], [w for _, w in times]
        middle = statistics.median(took) if took else 0.0
        longest, most = max(took, default=0.0), max(within, default=0.0)
        print(f"{moment:18} {len(times):5} {middle:19.3f}s {longest:7.3f}s {most:19.3f}s")
    print("\n".join(problems) or f"all as it should be; {seed} runs end as undisturbed ones")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(count("count", 50)))
