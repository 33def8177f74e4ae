"""What TensorBoard costs a training: time, and bytes on the disk.

    python -m benchmarks.tensorboard [steps=60] [rounds=2] [path=FILE]

The model that `task=lm` takes for a text by default, tinyshakespeare, is trained for so many steps, in turn
with TensorBoard and without. However long a run is, it has as many evaluations, texts and pictures, so their
time is set against the budget that is the default; what curves cost, by the step. Little is held out: the
time of scores is the same with and without, and would only add noise.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.machine import arguments, describe
from charlstm.config.compose import compose
from charlstm.config.settings import TrainSettings
from charlstm.config.values import Duration
from charlstm.tasks import table


def run(keys: list[str], path: Path) -> tuple[float, float]:
    """Seconds of the training of a run, and of all else from its first step to its end."""
    begun = table.started(table.plan(compose("train", TrainSettings, keys)), path)
    begin = time.perf_counter()
    assert begun.go().code == 0
    return begun.training.seconds, time.perf_counter() - begin - begun.training.seconds


def main() -> None:
    steps, rounds, text = arguments(steps=60, rounds=2, path="")
    asked = ["task=lm", f"data.path={text}" if text else "data=shakespeare"]
    usual = table.plan(compose("train", TrainSettings, asked)).settings
    budget = Duration.seconds(usual.train.budget or "5m")
    print(f"{describe()}\nLSTM of {usual.model.layers} x {usual.model.hidden}, budget {budget:.0f} s")
    same = [f"train.steps={steps}", f"model.hidden={usual.model.hidden}", f"train.lr={usual.train.lr}"]
    same += ["eval.baselines=false", "data.split=[0.99,0.005,0.005]"]
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for n in range(rounds):
            for shown in (True, False)[:: 1 if n % 2 else -1]:
                path = Path(folder, f"{n}_{shown}")
                path.mkdir()
                times[shown].append(run([*asked, *same, f"tensorboard={str(shown).lower()}"], path))
                training, rest = times[shown][-1]
                print(
                    f"{'with' if shown else 'without':8} {training:6.2f} s of training, {rest:5.2f} s besides"
                )
                if shown:
                    drawn = [*path.glob("events.*"), *path.glob("projector/*")]
                    size = sum(file.stat().st_size for file in drawn)
    # the shortest of each: what else the machine does only adds
    step, rest = (min(column) for column in zip(*times[True], strict=True))
    step_without, rest_without = (min(column) for column in zip(*times[False], strict=True))
    extra, curves = rest - rest_without, step / step_without - 1
    print(
        f"texts and pictures take {extra:.2f} s, {extra / budget:.2%} of {budget:.0f} s; a step {curves:+.1%}"
    )
    print(f"TensorBoard takes {size / 2**20:.2f} MiB on the disk")


if __name__ == "__main__":
    main()
