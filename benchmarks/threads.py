"""Training steps on one thread and on all.

    python -m benchmarks.threads [rounds=5]                                 by hidden x streams
    python -m benchmarks.threads size=1x512 busy=2 [rounds=5] [precision=auto]
    python -m benchmarks.threads size=1x512 busy=2 late=40 [precision=auto]

The first stands behind `threads=auto` of a text to be learnt by heart (`machine.ONE_THREAD_WORK`). The second
is of a language model, beside so many processes that want the cores, too: one that chooses for itself, one
thread, all of them as we let them wait for each other, and as OpenMP by itself would. Each is a process of
its own, and they take turns of a second. The third is of a training with a budget that began on all cores of
an idle machine, and of one on one thread, for so many seconds after the others have come.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import torch

from benchmarks.machine import arguments, describe
from benchmarks.notebook import milliseconds
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.limits.capacity import random_text
from charlstm.model.torch_model import Model
from charlstm.tasks import table, worker
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import loop, machine

SIZES = [(35, 1), (128, 1), (128, 8), (128, 32), (256, 16), (512, 16)]
STEPS = 2
SECONDS = 1.0  # of a turn
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def by_size(repeats: int) -> None:
    """Print a row for each size; the two take turns."""
    cores = machine.available_cores()
    vocabulary = Vocabulary("abcdefghijklmnopqrstuvwxyz")
    print(
        f"{'hidden':>6} {'streams':>7} {'product':>8} {'1 thread':>10} {f'{cores} threads':>10} {'ratio':>6}"
    )
    for hidden, batch in SIZES:
        overrides = [f"model.hidden={hidden}", "train.layout=streams", f"train.batch={batch}"]
        settings = command_line.compose("train", TrainSettings, [*overrides, "train.epochs=1000000"])
        text = vocabulary.framed(vocabulary.encode("hello" * (13 * batch)))
        epochs = loop.of_text(Model(settings.model, len(vocabulary)), text, settings.train).figures()
        rounds = []
        for _ in range(repeats + 1):
            pair = []
            for threads in (1, cores):
                machine.prepare(0, threads)
                pair.append(milliseconds(lambda epochs=epochs: next(epochs), STEPS))
            rounds.append(pair)
        one, all_ = (statistics.median(pair[k] for pair in rounds[1:]) for k in (0, 1))
        print(
            f"{hidden:6} {batch:7} {hidden * batch:8} {one:8.1f}ms {all_:8.1f}ms {one / all_:6.2f}",
            flush=True,
        )


def _language_model(size: str, threads: str, precision: str) -> TrainSettings:
    layers, hidden = size.split("x")
    overrides = [
        f"model.layers={layers}",
        f"model.hidden={hidden}",
        "train.batch=32",
        "train.window=64",
        "train.budget=1h",
    ]
    overrides += ["task=lm", f"threads={threads}", f"precision={precision}"]
    settings = command_line.compose("train", TrainSettings, overrides)
    return replace(settings, data=replace(settings.data, text=random_text(200_000, 60, seed=0)))


def take_turns(size: str, threads: str, precision: str) -> None:
    """A process of `beside_others`: for each line of standard input, a turn; the seconds of each step."""
    plan = table.plan(_language_model(size, threads, precision))
    training = worker.training_of(plan)
    print(f"{plan.machine.precision}, {plan.machine.shown_threads}", flush=True)
    for _ in sys.stdin:
        times, end = list[float](), time.perf_counter() + SECONDS
        while not times or time.perf_counter() < end:
            times.append(milliseconds(partial(training.run, lambda: True), 1))
        print(json.dumps(times), flush=True)


def beside_others(size: str, busy: int, precision: str, rounds: int) -> None:
    """Print a row for each way to compute, beside so many busy loops."""
    cores = str(machine.available_cores())
    ways = {
        "by itself": ("auto", {}),
        "one thread": ("1", {}),
        "all cores": (cores, {}),
        "all, OpenMP's own waiting": (cores, {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}),
    }
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    code = "import sys; from benchmarks import threads; threads.take_turns(*sys.argv[1:])"
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    ready, times = {}, {name: list[float]() for name in ways}
    try:
        for name, (threads, own) in ways.items():
            child = subprocess.Popen(
                [sys.executable, "-c", code, size, threads, precision],
                env=environment | own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(child)
            ready[name] = child, child.stdout.readline().strip()
        for n in range(rounds + 1):
            for name, (child, _) in ready.items():
                child.stdin.write("\n")
                child.stdin.flush()
                taken = json.loads(child.stdout.readline())
                times[name] += taken if n else []  # the first warms up
    finally:
        for process in processes:
            process.kill()
    print(f"{size}, {busy} busy loops; milliseconds of a step; speed beside that of one thread")
    print(f"{'':26} {'':21} {'shortest':>8} {'median':>8} {'mean':>8} {'speed':>6}")
    one = statistics.mean(times["one thread"])
    for name, taken in times.items():
        mean = statistics.mean(taken)
        print(
            f"{name:26} {ready[name][1]:21} {min(taken):8.1f} {statistics.median(taken):8.1f} {mean:8.1f} "
            f"{one / mean:6.2f}",
            flush=True,
        )


def after_others_came(size: str, busy: int, precision: str, seconds: int) -> None:
    """Print what a step takes from the moment on when so many busy loops have come."""
    means = []
    for threads in (1, machine.available_cores()):
        settings = _language_model(size, "auto", precision)
        plan = table.plan(settings)
        vars(plan)["decided"] = replace(plan.decided, threads=threads)
        training = worker.training_of(plan)
        torch.set_num_threads(threads)
        idle = statistics.median(milliseconds(partial(training.run, lambda: True), 1) for _ in range(20))
        if training.threads is not None:
            training.threads.pace = idle / 1000
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        begin, before = time.perf_counter(), training.step
        try:
            while (passed := time.perf_counter() - begin) < seconds:
                training.run(lambda: True)
        finally:
            for process in others:
                process.kill()
                process.wait()
        means.append(1000 * passed / (training.step - before))
        print(
            f"{size}, began on {threads}: {idle:.1f} ms a step before, {means[-1]:.1f} on average after",
            flush=True,
        )
    print(f"speed beside that of one thread: {means[0] / means[1]:.2f}")


def main(rounds: int, size: str, busy: int, precision: str, late: int) -> None:
    """One of the three."""
    print(describe())
    if late:
        after_others_came(size, busy, precision, late)
    elif size:
        beside_others(size, busy, precision, rounds)
    else:
        by_size(rounds)


if __name__ == "__main__":
    main(*arguments(rounds=5, size="", busy=0, precision="auto", late=0))
