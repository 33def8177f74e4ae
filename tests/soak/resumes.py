"""Does it matter how often, and where, a run is stopped?

    python -m tests.soak.resumes [most=7]

Stops small runs by SIGTERM after every k steps, k = 1 ... 7, in the middle and at the end of epochs, between
and at evaluations, and resumes them, for odd k in the same directory, for even k in another each time.
SHA-256 of everything that is left, losses included, must be that of an undisturbed run; and however often a
run is scored or shown, it must train alike. The exit code is 1 if not.
"""

import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import count, describe
from charlstm.config.settings import TrainSettings
from charlstm.training.loop import Training
from tests.soak import runs
from tests.soak.runs import LM, STREAMS

SHORT = ["train.steps=46", "eval.baselines=false", "data.split=[0.3,0.7,0]", "threads=1", "save.keep=3"]
MEMORIZE = [*STREAMS, "train.epochs=8", "threads=1"]
CASES = {
    "memorize": [*MEMORIZE, "train.sample_every=1"],
    "memorize, shown seldom": [*MEMORIZE, "train.log_every=3", "train.sample_every=5"],
    "memorize, not shown": [*MEMORIZE, "tensorboard=false"],
    "lm, scored often": [*LM, *SHORT, "eval.times=23"],
    "lm, scored seldom": [*LM, *SHORT, "eval.times=2"],
    "lm, not shown": [*LM, *SHORT, "eval.times=5", "tensorboard=false"],
    "lm, figures seldom": [*LM, *SHORT, "eval.times=1", "train.steps=80"],
}
TRAINING = ("weights", "moments", "averages", "hidden state", "generators")


def in_pieces(chosen: TrainSettings, folder: Path, k: int) -> Path:
    """Train, stopped after every k steps; returns the last directory."""
    made = 0

    def stop(training: Training) -> None:
        nonlocal made
        made += 1
        if made % k == 0 and training.step + 1 < training.steps:
            signal.raise_signal(signal.SIGTERM)

    directory, number, resumed = folder / f"every {k}.0", 0, None
    while (code := runs.trained(chosen, directory, resumed, stop)) == 143:
        resumed, number, made = directory, number + 1, 0
        directory = directory if k % 2 else folder / f"every {k}.{number}"
    if code:
        raise RuntimeError(f"exit code {code}")
    return directory


def main(most: int) -> int:
    """Print a row for each kind of run; returns 1 if any differs."""
    runs.ready_to_fork()
    print(describe())
    print(f"{'run':24} {'epochs':>7} {'stopped every k steps: differs in'}")
    wrong, trainings = 0, dict[str, tuple[str, ...]]()
    for case, overrides in CASES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            runs.write_text(folder, 3000)
            given = [o.replace("text.txt", f"{folder / 'text.txt'}") for o in overrides]
            chosen = runs.settings(*given)
            whole = folder / "undisturbed"
            runs.trained(chosen, whole)
            expected = runs.digests(whole)
            differs = {k: runs.different(in_pieces(chosen, folder, k), expected) for k in range(1, most + 1)}
            epochs = runs.result(whole)["epochs"]
        alike = tuple(expected[kind] for kind in TRAINING)
        if "figures" not in case:  # which has more steps
            first = trainings.setdefault(case.partition(",")[0], alike)
            if first != alike:
                differs[0] = ["trains otherwise than where it is shown and scored at other steps"]
        wrong += any(differs.values())
        shown = "; ".join(f"{k}: {', '.join(kinds) or '-'}" for k, kinds in differs.items())
        print(f"{case:24} {epochs:7} {shown}", flush=True)
    print(f"{wrong} of {len(CASES)} kinds of runs depend on where they are stopped")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(count("most", 7)))
