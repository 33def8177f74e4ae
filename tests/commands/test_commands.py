"""train.py and sample.py from outside: real processes, as a user runs them."""

import contextlib
import io
import json
import os
import pty
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SENTENCE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from warm import PYTHON

from charlstm import checkpoint
from charlstm.config.compose import compose
from charlstm.config.settings import TrainSettings
from charlstm.files import PROJECT
from charlstm.runs import resume
from charlstm.training import machine

RESULT_KEYS = [
    *("task", "steps", "chars_seen", "train_seconds", "chars_per_second", "loss", "params", "device"),
    *("precision", "threads", "checkpoint", "recalled", "recalled_at_epoch"),
]


def test_the_main_job(trained):
    said = (trained / "standard output").read_text("utf-8")
    result = json.loads((trained / "result.json").read_text("utf-8"))
    assert result["recalled"] is True
    assert result["recalled_at_epoch"] == result["epochs"]
    assert not set(RESULT_KEYS) - result.keys()
    assert f"\n{SENTENCE}\n" in said
    assert "Exact" in said
    assert f"after {result['epochs']} epochs and {result['train_seconds']:.1f} s" in said
    assert "sample.py ckpt=" in said
    assert "tensorboard --logdir" in said
    assert Path(result["checkpoint"]) == trained / "best.safetensors"


def test_the_run_directory_is_complete(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config", "train.log", "best.safetensors", "result.json"} < names
    assert "layers: 2" in (trained / "config" / "config.yaml").read_text()
    assert "Exact" in (trained / "train.log").read_text("utf-8")


def test_the_command_that_a_resumed_run_leaves_asks_for_the_same(trained, command, tmp_path):
    epochs = json.loads((trained / "result.json").read_text("utf-8"))["epochs"]
    more = [f"train.epochs={epochs + 1}", "train.stop_at_recall=false", "tensorboard=false"]
    done = command("train.py", f"resume={trained}", *more, "hydra.run.dir=on")
    assert (done.returncode, done.stderr) == (0, "")
    again = (tmp_path / "on" / "config" / "again.sh").read_text("utf-8")
    asked, saved = resume.complete(shlex.split(again.partition("train.py ")[2])[:-1])  # but for the "$@"
    settings = compose("train", TrainSettings, asked)
    kept = checkpoint.load(tmp_path / "on" / "last.safetensors").training.settings
    assert replace(settings, threads=kept.threads) == kept
    assert saved.path.parent == trained


def test_the_curves_of_the_main_job(trained):
    curves = EventAccumulator(str(trained))
    curves.Reload()
    figures = ("accuracy", "learning_rate", "gradient_norm", "chars_per_second")
    names = {"bits_per_char/train", *(f"train/{figure}" for figure in figures)}
    now_and_then = {"train/free_run", "train/peak_memory_MiB"}
    now_and_then |= {
        f"final/{name}" for name in ("bits_per_char", "accuracy", "recalled", "free_run", "params", "steps")
    }
    now_and_then |= {"final/train_seconds"} | {
        f"weight_norm/{layer}" for layer in ("rnn_l0", "rnn_l1", "head")
    }
    assert set(curves.Tags()["scalars"]) == names | now_and_then
    assert [e.value for e in curves.Scalars("train/free_run")][-1] == len(SENTENCE) + 1  # the end token, too
    epochs = json.loads((trained / "result.json").read_text())["epochs"]
    for name in names:
        assert [e.step for e in curves.Scalars(name)] == list(range(1, epochs + 1))
    written = [e.tensor_proto.string_val[0].decode() for e in curves.Tensors("written/text_summary")]
    assert len(written) > 1
    assert written[-1] == f"{len(SENTENCE)} characters, all right\n\n~~~\n{SENTENCE}\n~~~"


def test_sample_writes_the_sentence_and_nothing_else(command, trained):
    for ckpt in (trained, trained / "best.safetensors"):
        done = command("sample.py", f"ckpt={ckpt}")
        assert (done.returncode, done.stdout, done.stderr) == (0, SENTENCE, "")


def test_sample_goes_on_from_a_prompt(command, trained):
    assert command("sample.py", f"ckpt={trained}", "prompt=hello pytorch. how").stdout == SENTENCE
    assert command("sample.py", f"ckpt={trained}", "length=5").stdout == SENTENCE[:5]
    assert command("sample.py", f"ckpt={trained}", "length=0").stdout == ""


def test_sample_is_repeatable_by_its_seed(command, trained):
    texts = [command("sample.py", f"ckpt={trained}", "temperature=3", f"seed={s}").stdout for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_sample_in_a_terminal_ends_its_line(trained):
    leader, follower = pty.openpty()
    arguments = [*PYTHON, str(PROJECT / "sample.py"), f"ckpt={trained}"]
    with subprocess.Popen(arguments, stdout=follower) as process:
        os.close(follower)
        written = b""
        with contextlib.suppress(OSError):  # which is how Linux reports the end of a terminal
            while piece := os.read(leader, 1000):
                written += piece
    os.close(leader)
    assert process.returncode == 0
    assert written.replace(b"\r\n", b"\n").decode() == SENTENCE + "\n"


class WatchedTerminal(io.RawIOBase):
    """A terminal that notes each piece that reaches it; a real one may hand over several at once."""

    def __init__(self):
        super().__init__()
        self.pieces = []

    def isatty(self):
        return True

    def writable(self):
        return True

    def write(self, piece):
        self.pieces.append(bytes(piece).decode())
        return len(piece)


def test_sample_in_a_terminal_comes_character_by_character(trained, monkeypatch):
    terminal = WatchedTerminal()
    monkeypatch.setattr(sys, "argv", ["sample.py", f"ckpt={trained}"])
    with io.TextIOWrapper(io.BufferedWriter(terminal)) as standard_output, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", standard_output)
        runpy.run_path(str(PROJECT / "sample.py"), run_name="__main__")
    assert terminal.pieces == [*SENTENCE, "\n"]


def test_sample_into_a_closed_pipe_is_quiet(trained):
    arguments = [*PYTHON, str(PROJECT / "sample.py"), f"ckpt={trained}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full: Linux only")
def test_sample_on_a_full_disk_says_so(trained):
    for argument in (f"ckpt={trained}", "--help"):
        arguments = [*PYTHON, str(PROJECT / "sample.py"), argument]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
        assert done.stderr == "error: standard output cannot be written: No space left on device\n"
        assert done.returncode == 1


def test_sample_without_standard_output_is_quiet(trained):
    line = shlex.join([*PYTHON, str(PROJECT / "sample.py"), f"ckpt={trained}"]) + " >&-"
    done = subprocess.run(line, shell=True, stderr=subprocess.PIPE, timeout=300)
    assert (done.returncode, done.stderr) == (0, b"")


WRONG = {
    ("train.py", "model.layer=3"): "error: model.layer: no such key; did you mean model.layers?",
    (
        "train.py",
        "model.layers=-1",
    ): "error: model.layers = -1: must be a whole number, at least 1 and at most 100",
    (
        "train.py",
        "model.layers=x",
    ): "error: model.layers = x: must be a whole number, at least 1 and at most 100",
    ("train.py", "data.path=missing.txt"): "error: data.path = missing.txt: no such file (looked in ",
    ("train.py", "data.path=empty.txt"): "error: data.path = empty.txt: the text is empty",
    ("train.py", "data.alphabet=abc"): "error: data.path = data/hello.txt has 'h' (U+0068) at position 0",
    ("train.py", "data.text=aé", "data.alphabet=abc"): "error: data.text has 'é' (U+00E9) at position 1",
    ("train.py", "data.alphabet=aa"): "error: the alphabet has 'a' (U+0061) twice",
    ("train.py", "data.text="): "error: data.text: the text is empty",
    ("train.py", "experiment=notebook", "model.hidden=34"): "error: model.hidden = 34: with model.head=none",
    ("train.py", "data=nothing"): "error: data=nothing: no such data; there are hello | python | shakespeare",
    ("train.py", "data.split=[0.9,0.2,0]"): "error: data.split = [0.9, 0.2, 0]: must be three numbers",
    ("train.py", "data.unit=byte"): "error: data.unit = byte: is for task=lm",
    ("train.py", "data.records=lines"): "error: data.records = lines: must be none | line | blank | file",
    ("train.py", "train.layout=sequence", "train.batch=2"): "error: train.batch = 2: train.layout=sequence",
    ("train.py", "model.layers=1,2"): "error: model.layers=1,2: several values; add --multirun",
    ("train.py", "hydra.run.dir=used"): "error: hydra.run.dir = used: holds the result of another run",
    ("sample.py",): "error: ckpt: missing",
    ("sample.py", "ckpt=nothing"): "error: nothing: no such checkpoint",
    ("sample.py", "ckpt=empty.txt"): "error: empty.txt: not a charlstm checkpoint",
    ("sample.py", "ckpt=."): "error: best.safetensors: no such checkpoint",
    ("sample.py", "ckpt=RUN", "temperature=-1"): "error: temperature = -1: must be a number, at least 0",
    ("sample.py", "ckpt=RUN", "temperature=nan"): "error: temperature = nan: must be a number, at least 0",
    ("sample.py", "ckpt=RUN", "prompt=Hé"): "error: prompt has 'H' (U+0048) at position 0",
    ("sample.py", "ckpt=RUN", "lenght=3"): "error: lenght: no such key; did you mean length?",
}


@pytest.mark.parametrize(
    ("request_", "expected"), WRONG.items(), ids=lambda r: " ".join(r) if isinstance(r, tuple) else ""
)
def test_wrong_requests_get_one_clear_line(command, trained, tmp_path, request_, expected):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "result.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    done = command(*(part.replace("RUN", str(trained)) for part in request_))
    assert done.returncode == 2
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before  # no run directory is left behind


def test_help_shows_every_key_with_its_comment(command):
    said = command("train.py", "--help")
    assert said.returncode == 0
    assert "# Recurrent layers, one on top of the other.\n  layers: 2" in said.stdout
    assert "ckpt: null" in command("sample.py", "-h").stdout


def test_two_runs_at_once_get_two_directories(tmp_path):
    arguments = [*PYTHON, str(PROJECT / "train.py"), "train.epochs=1"]
    processes = [subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    for process in processes:
        process.stdout.close()
    assert len(list((tmp_path / "outputs").glob("*/*/result.json"))) == 2


def test_several_runs_by_multirun(command, tmp_path):
    done = command("train.py", "seed=1,2", "--multirun", "train.epochs=2", "hydra.sweep.dir=a, é#[1]=2")
    assert done.returncode == 0, done.stderr
    results = sorted((tmp_path / "a, é#[1]=2").glob("*/result.json"))
    assert [path.parent.name for path in results] == ["0_seed-1", "1_seed-2"]
    losses = {json.loads(path.read_text())["loss"] for path in results}
    assert len(losses) == 2


@pytest.mark.parametrize(("flags", "key"), [([], "hydra.run.dir"), (["--multirun"], "hydra.sweep.dir")])
def test_paths_begin_where_they_were_typed_and_at_home(command, tmp_path, monkeypatch, flags, key):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "mine.txt").write_text("mine")
    more = ["seed=1", "train.epochs=2", "hydra.job.chdir=true", "data.path=mine.txt", f"{key}=~/runs"]
    done = command("train.py", *flags, *more)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "home" / "runs" / ("0" if flags else "")
    assert json.loads((run / "result.json").read_text())["checkpoint"] == str(run / "best.safetensors")
    assert checkpoint.load(run / checkpoint.LAST).training.folder == str(tmp_path)
    assert command("sample.py", f"ckpt=~/runs/{run.name if flags else ''}").returncode == 0
    if not flags:  # the text is found again
        done = command("train.py", "resume=~/runs", "train.epochs=3", "data.path=~/../mine.txt")
        assert done.returncode == 0, done.stderr
        (resumed,) = (tmp_path / "outputs").glob("*/*")  # named by what was typed, not by all it was before
        assert resumed.name.partition("_")[2] == "data.path-mine.txt_resume-runs_train.epochs-3"


def test_other_texts(command, tmp_path):
    (tmp_path / "my text, = 'é'.txt").write_text("Ünïcödé, ja!\r\n", encoding="utf-8", newline="")
    done = command("train.py", "data.path=my text, = 'é'.txt", "model.layers=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert command("sample.py", "ckpt=run").stdout == "Ünïcödé, ja!\r\n"
    done = command("train.py", "data.text=${a}, 'b' = c", "model.cell=gru", "hydra.run.dir=a (é), {b} #1=2")
    assert done.returncode == 0, done.stderr
    assert command("sample.py", "ckpt=a (é), {b} #1=2").stdout == "${a}, 'b' = c"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_run_that_is_stopped_saves_first(tmp_path, number, code):
    arguments = ["experiment=notebook", "train.epochs=100000", "save.every=0.2s", "hydra.run.dir=run"]
    process = subprocess.Popen(
        [*PYTHON, str(PROJECT / "train.py"), *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code
    assert "checkpoint  run/last.safetensors" in said
    assert "train.py resume=run" in said
    assert checkpoint.load(tmp_path / "run").step > 0
    assert not (tmp_path / "run" / "result.json").exists()  # it is not over
    done = subprocess.run(
        [*PYTHON, str(PROJECT / "sample.py"), "ckpt=run"],
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0


def test_training_that_blows_up_says_so(command, tmp_path):
    overrides = ["train.lr=100", "train.clip=0", "model.cell=rnn_relu", "hydra.run.dir=run"]
    done = command("train.py", *overrides)
    assert done.returncode == 1
    assert done.stdout.count("Went back to step 0, with ") == 3
    assert "error: the loss or a gradient was no finite number 3 times in a row before step" in done.stdout
    assert "train.py resume=run train.lr=10" in done.stdout
    assert [path.name for path in tmp_path.glob("run/*.safetensors")] == ["last.safetensors"]
    done = command("train.py", "resume=run", "train.lr=0.001", "hydra.run.dir=again")
    assert done.returncode == 0
    assert "train.lr = 0.001 (was 100.0)" in done.stdout


@pytest.mark.parametrize("program", [["train.py"], ["-m", "charlstm", "train"]])
def test_a_save_is_asked_for_while_the_program_is_still_read_and_a_hangup_is_ignored(tmp_path, program):
    # as `nohup` starts it
    given = ["experiment=notebook", "train.epochs=1000000", "train.stop_at_recall=false", "save.every=null"]
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *program, *given, f"hydra.run.dir={tmp_path / 'run'}"],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stderr is not None
    # Hydra is read next, and torch long after it
    while not process.stderr.readline().endswith(" hydra._internal\n"):
        assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    reader = threading.Thread(target=process.stderr.read)
    reader.start()
    while not (tmp_path / "run" / "last.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    reader.join()
    process.stderr.close()


def started(code, **variables):
    """A new Python that runs this code where nobody has said how threads wait, but for these variables."""
    said = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in said}
    environment |= {"PYTHONPATH": str(PROJECT), **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="elsewhere OpenMP waits as it likes")
@pytest.mark.parametrize(
    ("own", "spins"),
    [({}, "'4000'"), ({"GOMP_SPINCOUNT": "7"}, "'7'"), ({"OMP_WAIT_POLICY": "passive"}, "'0'")],
)
def test_threads_wait_briefly_unless_the_user_says_how(own, spins):
    said = started("import charlstm, torch", OMP_DISPLAY_ENV="verbose", **own).stderr
    assert f"GOMP_SPINCOUNT = {spins}" in said


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of a process")
@pytest.mark.skipif(machine.available_cores() == 1, reason="needs two cores")
@pytest.mark.parametrize("command", ["train", "sample", "score", "limit"])
def test_numpy_computes_on_one_thread_unless_the_user_says_otherwise(command):
    code = f"import charlstm.cli.{command}, os, numpy; print(len(os.listdir('/proc/self/task')))"
    assert int(started(code).stdout) == 1
    if command == "sample":
        assert int(started(code, OPENBLAS_NUM_THREADS="2").stdout) == 2
