"""Does a run of two processes, one of which is killed, end as one that is left alone?

    python -m tests.soak.several [count=20] [seed=0]

torchrun starts two processes of train.py. Of these either is killed by `kill -9` at a random moment, while it
starts, trains, scores or saves: the other and torchrun must end, too. The run is resumed, one of its
processes is killed, and so on to the end. Then SHA-256 of weights, moments, averages, every stream's state,
every process's generator, numbers, results and TensorBoard's curves are compared with those of an undisturbed
run of two processes: all must be equal. The exit code is 1 if anything differs or a process stays.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import arguments, describe
from charlstm.files import PROJECT
from charlstm.runs import directory
from tests.soak import runs
from tests.soak.runs import ENVIRONMENT, LM

RUN = [*LM, "train.steps=3000", "eval.times=20", "save.steps=20", "threads=1", "eval.baselines=false"]
MOST = 9.0  # seconds from the start of the processes to the kill; they train from the fourth or so
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(PROJECT / "train.py")]


class Two:
    """Two processes under torchrun; what they say goes to a file."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.said_in = folder / f"said.{time.monotonic_ns()}"
        with self.said_in.open("wb") as said:
            self.agent = subprocess.Popen(
                [*TORCHRUN, *arguments], cwd=folder, env=ENVIRONMENT, stdout=said, stderr=subprocess.STDOUT
            )
        self.workers: dict[int, int] = {}  # process ids by rank
        while self.agent.poll() is None and len(self.workers) < 2:
            time.sleep(0.01)
            self.workers = dict(map(self._rank, self._children()))
            self.workers.pop(-1, None)

    def kill(self, rank: int, seconds: float) -> bool:
        """Kill one after so many seconds; returns whether the run was not over by then."""
        try:
            self.agent.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(self.workers[rank], 9)
            return True
        return False

    def wait(self) -> int:
        """torchrun's exit code."""
        return self.agent.wait(120)

    def left(self) -> list[int]:
        """The processes that are still there, and not only their numbers."""
        return [pid for pid in self.workers.values() if _read(pid, "cmdline")]

    def _children(self) -> list[int]:
        return list(map(int, _read(self.agent.pid, f"task/{self.agent.pid}/children").split()))

    def _rank(self, pid: int) -> tuple[int, int]:
        """Its rank, -1 if it has none, and itself."""
        variables = _read(pid, "environ").split(b"\0")
        return next((int(one[5:]) for one in variables if one.startswith(b"RANK=")), -1), pid


def _read(pid: int, name: str) -> bytes:
    """What /proc says of a process; nothing if that has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def main(count: int, seed: int) -> int:
    """Print a row for each run that came to its end; returns 1 if one of them differs."""
    print(describe())
    chosen, kills, wrong, chains = random.Random(seed), [0, 0], 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.write_text(folder)
        undisturbed = folder / "undisturbed"
        if Two([*RUN, f"hydra.run.dir={undisturbed}"], folder).wait():
            raise RuntimeError("the undisturbed run failed")
        expected = runs.digests(undisturbed)
        while sum(kills) < count:
            where, problems, killed, trained = folder / f"run{chains}", [], 0, 0
            chains += 1
            while not (where / "result.json").exists() and not problems:
                trained += (is_begun := directory.holds_a_run(where)) and bool(killed)
                resume = [f"resume={where}"] if is_begun else RUN
                two, rank = Two([*resume, f"hydra.run.dir={where}"], folder), chosen.randrange(2)
                is_killed = sum(kills) < count and two.kill(rank, chosen.uniform(0, MOST))
                code = two.wait()
                kills[rank] += is_killed
                killed += is_killed
                if code != is_killed and not (where / "result.json").exists():
                    problems.append(f"exit code {code}: {two.said_in.read_text()[-1000:]}")
                if left := two.left():
                    problems.append(f"processes {left} are still there")
            problems += [] if problems else runs.different(where, expected)
            wrong += bool(problems)
            print(
                f"killed {killed} times, {trained} resumed: differs in {', '.join(problems) or '-'}",
                flush=True,
            )
    print(f"{kills[0]} kills of the first process and {kills[1]} of the second, of {chains} runs")
    print(f"{wrong} of {chains} runs differ from an undisturbed one")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*arguments(count=20, seed=0)))
