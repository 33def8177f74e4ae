"""`python -m benchmarks.threads [rounds=5]`: training steps on one thread and on all, by hidden x streams.

It stands behind `threads=auto` (`machine.ONE_THREAD_WORK`).
"""

import statistics

from benchmarks.machine import count, describe
from benchmarks.notebook import milliseconds
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.model.torch_model import Model
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import loop, machine

SIZES = [(35, 1), (128, 1), (128, 8), (128, 32), (256, 16), (512, 16)]
STEPS = 2


def main(repeats: int) -> None:
    """Print a row for each size; the two take turns."""
    cores = machine.available_cores()
    vocabulary = Vocabulary("abcdefghijklmnopqrstuvwxyz")
    print(describe())
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


if __name__ == "__main__":
    main(count("rounds", 5))
