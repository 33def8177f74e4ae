"""Does a run that is killed and resumed end as one that is not?

    python -m tests.soak.kills [count=200]

Kills train.py by `kill -9` at random moments, while it starts, trains, scores and saves, resumes it,
kills that, and so on to the end. Then SHA-256 of weights, moments, averages, hidden state, generators,
numbers, results and TensorBoard's curves are compared with those of an undisturbed run: all must be equal.
A third of the runs and those of two threads are real commands; the others are copies of a process that has
torch imported, which saves their start. The exit code is 1 if anything differs.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.machine import count, describe
from charlstm.runs import directory
from tests.soak import runs
from tests.soak.runs import LM, MEMORIZE, STREAMS, Started

CASES = {
    "memorize lstm, streams": [*STREAMS, "train.epochs=500", "save.steps=10", "threads=1"],
    "lm lstm, averages": [*LM, "train.steps=1200", "eval.times=12", "save.steps=10", "threads=1"],
    "memorize gru, 2 threads": [*STREAMS, "model.cell=gru", "train.epochs=60", "save.steps=3", "threads=2"],
    "lm lstm, 2 threads": [
        *LM,
        *("train.steps=100", "eval.times=20", "save.steps=3", "threads=2", "model.hidden=40"),
    ],
    "memorize rnn, one sequence": [
        *MEMORIZE,
        *("model.cell=rnn_tanh", "train.epochs=700", "save.steps=9", "threads=1", "train.lr=0.003"),
    ],
    "lm gru of records": [
        *LM,
        *("model.cell=gru", "data.records=line", "train.steps=1000", "eval.times=10", "save.steps=13"),
        *("threads=1", "save.keep=2", "train.warmup=100", "train.decay=cosine"),
    ],
    "lm plain engine": [
        *LM,
        *("model.engine=plain", "train.steps=300", "train.window=8", "eval.times=6", "save.steps=5"),
        "threads=1",
    ],
}


class Chain:
    """One run, killed over and over until it is done."""

    def __init__(self, arguments: list[str], folder: Path, seed: int, forked: bool) -> None:
        self.arguments, self.folder, self.forked = arguments, folder, forked
        self.random = random.Random(seed)
        self.where = folder / f"run{seed}.0"
        self.resumed: Path | None = None
        self.moments: Counter[str] = Counter()
        self.problems: list[str] = []
        self._number, self._seed = 0, seed

    def step(self, most: float) -> bool:
        """Start or go on, and kill within so many seconds; returns whether it came to its end before."""
        arguments = [*self.arguments, f"hydra.run.dir={self.where}"]
        if self.resumed:
            arguments = [f"resume={self.resumed}", f"hydra.run.dir={self.where}"]
        started = Started(arguments, self.folder, self.forked)
        code = started.wait(self.random.uniform(0, most))
        if code is None:
            started.send(9)
            code = started.wait()
        if code == 0 or (self.where / "result.json").exists():  # all is done when that is there
            return True
        if code != 137:
            self.problems.append(f"exit code {code}: {started.said()[-500:]}")
            return True
        self.moments[self._moment()] += 1
        if directory.holds_a_run(self.where):
            self.resumed = self.where
        elif (self.where / "best.safetensors").exists():  # a model is not written over
            self._number += 1
            self.where = self.folder / f"run{self._seed}.{self._number}"
        if self.resumed == self.where and self.random.random() < 0.5:  # to go on in the same, or in another
            self._number += 1
            self.where = self.folder / f"run{self._seed}.{self._number}"
        return False

    def _moment(self) -> str:
        if not self.where.exists() or not directory.holds_a_run(self.where):
            return "before its first state"
        return "while it saved" if list(self.where.glob(".charlstm-*.part")) else "between two saves"


def main(count: int) -> int:
    """Print a row for each run that came to its end; returns 1 if one of them differs."""
    runs.ready_to_fork()
    print(describe())
    print(f"{'run':28} {'as':8} {'kills':>6} {'start':>6} {'saving':>7} {'else':>6}  differs in", flush=True)
    kills, wrong, real = 0, 0, 0
    moments: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.write_text(folder)
        expected, chains = {}, 0
        while kills < count:
            case = list(CASES)[chains % len(CASES)]
            forked = "threads=2" not in CASES[case] and chains % 3 != 2
            if case not in expected:
                expected[case] = runs.digests(runs.finished(CASES[case], folder))
            chain = Chain(CASES[case], folder, chains, forked)
            chains += 1
            while not chain.step((2.0 if forked else 7.0) if kills + chain.moments.total() < count else 1e3):
                pass
            differs = chain.problems or runs.different(chain.where, expected[case])
            wrong += bool(differs)
            kills += chain.moments.total()
            real += 0 if forked else chain.moments.total()
            moments += chain.moments
            columns = [chain.moments[m] for m in ("before its first state", "while it saved")]
            print(
                f"{case:28} {'copies' if forked else 'commands':8} {chain.moments.total():6} {columns[0]:6} "
                f"{columns[1]:7} {chain.moments['between two saves']:6}  {', '.join(differs) or '-'}",
                flush=True,
            )
    print(f"{kills} kills, {real} of them of real commands, of {chains} runs: {dict(moments)}")
    print(f"{wrong} of {chains} runs differ from undisturbed ones")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(count("count", 200)))
