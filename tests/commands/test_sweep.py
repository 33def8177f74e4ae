"""train.py --multirun: every run has what there was when it began, and what goes wrong with one is heard."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import resuming

from charlstm import checkpoint
from charlstm.cli import sweep as cli_sweep
from charlstm.cli import train
from charlstm.files import PROJECT

# a sweep in a copy of the project, whose first run changes conf/ and the text
CHANGED = """
import sys
from pathlib import Path
from charlstm.cli import train
run = train.carried_out
def carried_out(plan, path):
    outcome = run(plan, path)
    if path.name[0] == "0":
        Path("conf/train.yaml").write_text("hidden: [")
        Path("text").write_text("another")
    return outcome
train.carried_out = carried_out
train.main()
"""
FAST = ["model.hidden=4", "model.layers=1", "train.epochs=1", "threads=1", "tensorboard=false"]


def sweep(folder, *arguments, code="from charlstm.cli import train; train.main()"):
    return subprocess.run(
        [sys.executable, "-c", code, "--multirun", "hydra.sweep.dir=sweep", *FAST, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder if (folder / "charlstm").exists() else PROJECT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Three runs, of a text that would be several values if it were not one."""
    folder = tmp_path_factory.mktemp("swept")
    text = "To be, or 'not' ${x}\\\nto be"
    return (
        folder,
        text,
        sweep(folder, f"data.text={text}", "seed=1,2", "model.cell=gru,lstm", "train.lr=0.01"),
    )


NAMES = [
    "0_model.cell-gru_seed-1",
    "1_model.cell-lstm_seed-1",
    "2_model.cell-gru_seed-2",
    "3_model.cell-lstm_seed-2",
]


def test_a_text_is_one_value_and_runs_are_named_by_what_they_do_not_share(swept):
    folder, text, done = swept
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (folder / "sweep").iterdir() if path.is_dir()) == NAMES
    for name in NAMES:
        result = json.loads((folder / "sweep" / name / "result.json").read_text())
        assert result["chars_seen"] == len(text) + 1  # the end token, too


def test_a_line_for_each_run_and_a_table_of_all(swept):
    folder, _, done = swept
    results = {name: json.loads((folder / "sweep" / name / "result.json").read_text()) for name in NAMES}
    *lines, header, first, second, third, last = done.stdout.splitlines()
    values = [
        "model.cell=gru,seed=1",
        "model.cell=lstm,seed=1",
        "model.cell=gru,seed=2",
        "model.cell=lstm,seed=2",
    ]
    assert lines == [
        f"{n} of 4: {one}: free_run {results[name]['free_run']}, epochs 1"
        for n, (one, name) in enumerate(zip(values, NAMES, strict=True), 1)
    ]
    assert header.split() == ["free_run", "epochs", "values", "directory"]
    rows = [line.split() for line in (first, second, third, last)]
    best_first = sorted(NAMES, key=lambda name: -results[name]["free_run"])
    assert [row[-1] for row in rows] == [f"sweep/{name}" for name in best_first]
    saved = [line.split("\t") for line in (folder / "sweep" / "summary.tsv").read_text().splitlines()]
    assert saved == [header.split(), *rows]
    assert "Not by heart after 1 epochs" in (folder / "sweep" / NAMES[0] / "train.log").read_text()


def test_all_runs_are_checked_before_the_first_begins(tmp_path):
    done = sweep(tmp_path, "seed=1,-1,2,-3", "data.text=a,b")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line[:25] for line in done.stderr.splitlines()] == [
        "error: seed = -1: must be",
        "error: seed = -3: must be",
    ]
    assert not (tmp_path / "sweep").exists()


def test_a_look_at_all_runs_of_a_sweep_trains_none(tmp_path):
    done = sweep(tmp_path, "seed=1,2", "check=true")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Nothing was trained") == 2
    assert not list(tmp_path.glob("sweep/*/result.json"))


def test_a_run_that_stumbles_ends_no_other(tmp_path):
    code = """
from charlstm.cli import train
def carried_out(plan, path):
    raise (OSError(28, "No space left on device") if path.name[0] == "0" else KeyError("x"))
train.carried_out = carried_out
train.main()
"""
    done = sweep(tmp_path, "seed=1,2", "hydra.sweep.subdir=${hydra.job.num}", code=code)
    assert done.returncode == 1
    assert "error: sweep/0 (model.hidden=4 " in done.stderr
    assert ": the run cannot go on: [Errno 28] No space left on device\n" in done.stderr
    assert "): KeyError: 'x'\n" in done.stderr
    assert "Traceback" in (tmp_path / "sweep" / "1" / "train.log").read_text()


def test_two_runs_get_no_directory_together(tmp_path):
    done = sweep(tmp_path, "seed=1,2", "hydra.sweep.subdir=x")
    assert done.returncode == 2
    assert "seed=2): hydra.sweep.subdir = " in done.stderr
    assert json.loads((tmp_path / "sweep" / "x" / "result.json").read_text())["steps"] == 1


def test_a_sweep_has_what_there_was_when_it_began(tmp_path):
    for name in ("charlstm", "conf"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    (tmp_path / "text").write_text("the text")
    done = sweep(tmp_path, "data.path=text", "seed=1,2", code=CHANGED)
    assert (tmp_path / "text").read_text() == "another"
    assert "seed=2): data.path = text: the text has changed since the sweep began" in done.stderr
    assert done.stderr.count("error: ") == 2
    before, after = (
        (tmp_path / "sweep" / k / "config" / "config.yaml").read_text() for k in ("0_seed-1", "1_seed-2")
    )
    assert before.replace("seed: 1", "seed: 2") == after


LM = ["task=lm", "model.hidden=12", "model.layers=1", "train.batch=6", "train.window=7", "train.steps=1500"]
LM += ["train.lr=0.01", "train.budget=null", "train.dropout.hidden=0.1", "train.dropout.weight=0.1"]
LM += ["precision=float32", "tensorboard=false", "eval.baselines=false", "save.every=null", "save.steps=50"]
RUNS = {1: "0_seed-1", 2: "1_seed-2"}


def launch(folder, launcher, seeds="1,2", *more):
    """A sweep in a process group of its own, as a terminal starts it."""
    (folder / "text").write_text(resuming.text(4000))
    keys = [f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep", *LM, "data.path=text", f"seed={seeds}"]
    keys += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []  # on a single core, too
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "train.py"), "--multirun", *keys, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


@pytest.fixture(autouse=True)
def nobody_stays(tmp_path):
    """A test that fails leaves no process either."""
    yield
    for process in working_in(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def all_saved(folder):
    return all((folder / "sweep" / name / "last.safetensors").exists() for name in RUNS.values())


def until(is_so, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def working_in(folder, program=""):
    """The processes whose folder this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder and program in (process / "cmdline").read_text():
                found.append(int(process.name))
    return found


def assert_as_alone(folder):
    """Every run has come to what it comes to alone, bit for bit, with its share of the cores."""
    cores = len(os.sched_getaffinity(0))
    for seed, name in RUNS.items():
        threads = json.loads((folder / "sweep" / name / "result.json").read_text())["threads"]
        assert 1 <= threads <= max(cores // 2, 1)
        keys = [*LM, f"data.path={folder / 'text'}", f"seed={seed}", f"threads={threads}"]
        resuming.assert_same(folder / "sweep" / name, resuming.go(folder / name, *keys))


def digests(folder):
    """SHA-256 of a run's weights, of those that it was trained to and of the best."""
    found = []
    for name in ("last", "best"):
        weights = checkpoint.load(folder / f"{name}.safetensors").weights
        found += [hashlib.sha256(weights[key].tobytes()).hexdigest() for key in sorted(weights)]
    return found


def assert_resumed_and_told(folder, output):
    for name in RUNS.values():
        assert "Resumes from step" in (folder / "sweep" / name / "train.log").read_text()
    header, *rows = [line.split() for line in output.splitlines()[-3:]]
    assert header == ["test_bpc", "valid_bpc", "values", "directory"]
    assert {row[-1] for row in rows} == {f"sweep/{name}" for name in RUNS.values()}
    saved = (folder / "sweep" / "summary.tsv").read_text()
    assert [line.split("\t") for line in saved.splitlines()] == [header, *rows]


LINUX = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="processes are found in /proc")


@LINUX
def test_killed_by_joblib_a_sweep_leaves_no_process_and_goes_on_with_what_is_missing(tmp_path):
    begun = launch(tmp_path, "joblib")
    until(lambda: all_saved(tmp_path))
    begun.kill()
    until(lambda: not working_in(tmp_path), seconds=10)
    begun.communicate()  # which waits for whoever holds its output
    begun = launch(tmp_path, "joblib")
    output, error = begun.communicate(timeout=120)
    assert (begun.returncode, error) == (0, "")
    assert_resumed_and_told(tmp_path, output)
    assert_as_alone(tmp_path)
    results = [tmp_path / "sweep" / name / "result.json" for name in RUNS.values()]
    before = [result.stat().st_mtime_ns for result in results]
    again, _ = launch(tmp_path, "basic").communicate(timeout=120)
    assert sorted(again.splitlines()) == sorted(output.splitlines())
    assert [result.stat().st_mtime_ns for result in results] == before


STOPS = [("basic", "SIGTERM"), ("joblib", "SIGINT"), ("submitit_local", "SIGTERM")]
LONG = [("basic", "SIGINT"), ("joblib", "SIGTERM"), ("submitit_local", "SIGINT")]


@LINUX
@pytest.mark.parametrize(
    ("launcher", "name"), STOPS + [pytest.param(*row, marks=pytest.mark.soak) for row in LONG]
)
def test_stopped_by_a_signal_it_saves_says_what_is_done_and_goes_on(tmp_path, launcher, name):
    """What is on its way is saved as it is, what was to come is not begun. Ctrl-C goes to all processes."""
    at_once = ["hydra.sweeper.max_batch_size=2"] if launcher == "submitit_local" else []
    # would be saved at its end alone
    begun = launch(tmp_path, launcher, "1,2,3", "save.steps=null", "train.steps=1000000", *at_once)
    on_their_way = list(RUNS.values())[: 1 if launcher == "basic" else 2]
    logs = [tmp_path / "sweep" / run / "train.log" for run in on_their_way]
    until(lambda: all(log.exists() and "parameters" in log.read_text() for log in logs))
    time.sleep(1)
    number = getattr(signal, name)
    os.killpg(begun.pid, number) if name == "SIGINT" else os.kill(begun.pid, number)
    output, error = begun.communicate(timeout=60)
    assert begun.returncode == 128 + number, error
    assert "error" not in error
    until(lambda: not working_in(tmp_path), seconds=10)
    assert [run for run in on_their_way if not (tmp_path / "sweep" / run / "last.safetensors").exists()] == []
    to_come = tmp_path / "sweep" / "2_seed-3" / "train.log"  # joblib's workers took it, and left it
    assert not to_come.exists() or to_come.read_text() == ""
    header, *rows, last = output.splitlines()[-2 - len(on_their_way) :]
    assert header.split() == ["values", "directory"]
    assert {row.split()[-1] for row in rows} == {f"sweep/{run}" for run in on_their_way}
    assert last == "Not all is done; the same command with hydra.sweep.dir=sweep does what is missing."
    assert (tmp_path / "sweep" / "summary.tsv").read_text().count("\n") == 1 + len(on_their_way)


@LINUX
def test_preempted_under_submitit_a_run_goes_on_in_its_directory(tmp_path):
    begun = launch(tmp_path, "submitit_local")
    until(lambda: all_saved(tmp_path))
    for process in working_in(tmp_path, "submitit.core._submit"):
        os.kill(process, signal.SIGUSR2)
    output, error = begun.communicate(timeout=120)
    assert (begun.returncode, error) == (0, "")
    assert output.startswith("1 of 2: seed=1: test_bpc ")
    assert_resumed_and_told(tmp_path, output)
    assert_as_alone(tmp_path)


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "sweep"), ("submitit_slurm", "slurm")])
def test_a_launcher_that_is_not_there_is_named_by_its_extra(monkeypatch, capsys, launcher, extra):
    monkeypatch.setattr(cli_sweep, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["train.py", "--multirun", f"hydra/launcher={launcher}", "seed=1,2"])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 2
    said = f'error: hydra/launcher = {launcher}: needs pip install "charlstm[{extra}]"\n'
    assert capsys.readouterr().err == said


@pytest.mark.soak
def test_every_run_of_six_is_as_alone_by_every_launcher(tmp_path):
    """SHA-256 of all weights."""
    keys = [*LM, "threads=1", "train.steps=300"]
    (tmp_path / "text").write_text(resuming.text(4000))
    names = [f"{k}_seed-{k}" for k in range(6)]
    for name in names:
        resuming.go(tmp_path / name, *keys, f"data.path={tmp_path / 'text'}", f"seed={name[-1]}")
    alone = [digests(tmp_path / name) for name in names]
    assert len({tuple(one) for one in alone}) == 6
    for launcher in ("basic", "joblib", "submitit_local"):
        (tmp_path / launcher).mkdir()
        begun = launch(tmp_path / launcher, launcher, "range(6)", "threads=1", "train.steps=300")
        output, error = begun.communicate(timeout=300)
        assert (begun.returncode, error) == (0, "")
        assert [digests(tmp_path / launcher / "sweep" / name) for name in names] == alone
        header, *rows = [line.split() for line in output.splitlines()[-7:]]
        assert header == ["test_bpc", "valid_bpc", "values", "directory"]
        assert {row[-1] for row in rows} == {f"sweep/{name}" for name in names}
        print(f"{launcher}: six runs as alone, one table")
