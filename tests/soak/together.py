"""Do runs that begin at once, or want the same directory, leave each other alone?

    python -m tests.soak.together [count=20]

Starts so many runs within a second, without naming a directory: each must get one of its own. Then starts two
at once, ever again, with the same new directory, and two that would go on in the same one: one of them must
train and end as if it were alone, with its own configuration, log and curves; the other must be refused with
exit code 2 and a line that names the directory. And while a run is under way, one that wants its directory is
refused and touches nothing. The exit code is 1 if anything is not so.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import count, describe
from tests.soak import runs
from tests.soak.runs import STREAMS, Started

QUICK = [*STREAMS, "threads=1", "save.steps=20"]
REFUSED = ("another run is writing there", "holds a run that can be resumed", "holds the result of")


def many(count: int, folder: Path) -> list[str]:
    """So many in a second."""
    begin = time.monotonic()
    started = [Started([*QUICK, f"seed={k}", "train.epochs=2"], folder, True) for k in range(count)]
    took = time.monotonic() - begin
    codes = [run.wait() for run in started]
    results = list(folder.glob("outputs/*/*/result.json"))
    seeds = {runs.last(path.parent).provenance["seed"] for path in results}
    print(f"{count} runs started in {took:.2f} s: {len(results)} directories", flush=True)
    good = not any(codes) and len(results) == len(seeds) == count
    return [] if good else [f"{count} runs: exit codes {codes}, {len(seeds)} results"]


def in_one(folder: Path, k: int) -> list[str]:
    """Two at once in one new directory."""
    where = folder / f"one{k}"
    both = [
        Started([*QUICK, "train.epochs=40", f"seed={seed}", f"hydra.run.dir={where}"], folder, True)
        for seed in (2 * k, 2 * k + 1)
    ]
    return _one_of(both, where, f"new directory {k}", [2 * k, 2 * k + 1])


def going_on(folder: Path, k: int, stopped: Path) -> list[str]:
    """Two at once that go on in one directory."""
    where = folder / f"on{k}"
    shutil.copytree(stopped, where)
    both = [
        Started([f"resume={where}", f"hydra.run.dir={where}", f"train.epochs={epochs}"], folder, True)
        for epochs in (60, 61)
    ]
    problems = _one_of(both, where, f"resuming {k}", [0, 0])
    epochs = 60 if both[0].wait() == 0 else 61
    if not problems and runs.result(where)["epochs"] != epochs:
        problems.append(f"resuming {k}: not the epochs of the one that was not refused")
    return problems


def _one_of(both: list[Started], where: Path, name: str, seeds: list[int]) -> list[str]:
    codes = [run.wait() for run in both]
    if sorted(map(str, codes)) != ["0", "2"]:
        return [f"{name}: exit codes {codes}: {[run.said()[-300:] for run in both]}"]
    winner = codes.index(0)
    said = both[1 - winner].said()
    problems = []
    if said.count("\n") != 1 or str(where) not in said or not any(reason in said for reason in REFUSED):
        problems.append(f"{name}: the refusal: {said}")
    config = (where / "config" / "config.yaml").read_text()
    if f"\nseed: {seeds[winner]}\n" not in config:
        problems.append(f"{name}: the configuration is that of the other")
    logged = (where / "train.log").read_text()
    if logged.count("Not by heart") + logged.count("Exact") != 1:
        problems.append(f"{name}: the log is of both: {logged}")
    return problems + runs.wrong_order(runs.curves(where))


def untouched(folder: Path, stopped: Path) -> list[str]:
    """One that wants the directory of a run that is under way."""
    where = folder / "busy"
    shutil.copytree(stopped, where)
    busy = Started(
        [f"resume={where}", f"hydra.run.dir={where}", "train.epochs=1000000", "save.steps=null"], folder, True
    )
    while "Resumes from step" not in (where / "train.log").read_text():
        time.sleep(0.01)
    time.sleep(0.3)
    problems = []
    for arguments in ([f"resume={where}"], QUICK):
        before = _state(where)
        other = Started([*arguments, f"hydra.run.dir={where}"], folder)
        code = other.wait()
        if code != 2 or REFUSED[0] not in other.said() or "Traceback" in other.said():
            problems.append(f"{arguments}: exit code {code}: {other.said()}")
        if _state(where) != before:
            problems.append(f"{arguments}: touched what it was refused")
    busy.send(9)
    busy.wait()
    return problems


def _state(where: Path) -> dict[Path, tuple[int, bytes]]:
    """Of all files but the curves, which the run that is under way writes."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in where.rglob("*")
        if path.is_file() and not path.name.startswith("events")
    }


def main(count: int) -> int:
    """Print what came of each; returns 1 if there is a problem."""
    runs.ready_to_fork()
    print(describe())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        problems = many(count, folder)
        rounds = max(count // 2, 1)
        for k in range(rounds):
            problems += in_one(folder, k)
        print(f"{rounds} times two runs in one new directory: one trains, one is refused", flush=True)
        stopped = folder / "stopped"
        first = Started([*QUICK, "train.epochs=1000000", f"hydra.run.dir={stopped}"], folder, True)
        while not (stopped / "last.safetensors").exists():
            time.sleep(0.01)
        first.send(15)
        first.wait()
        for k in range(rounds):
            problems += going_on(folder, k, stopped)
        print(f"{rounds} times two that go on in one directory: one goes on, one is refused", flush=True)
        problems += untouched(folder, stopped)
        print("two that want the directory of a run that is under way: refused, nothing touched")
    print("\n".join(problems) or "all as it should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(count("count", 20)))
