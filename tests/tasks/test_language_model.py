"""`task=lm` from a text to what a run leaves: from outside as real processes, and some of it by parts."""

import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from types import SimpleNamespace

import numpy as np
import pytest
import referee
import torch
from conftest import settings
from resuming import Time, carry_out, go, plan
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from warm import PYTHON

from charlstm import checkpoint
from charlstm.files import PROJECT
from charlstm.model.torch_model import Model
from charlstm.scoring import baselines, held_out, surprisal
from charlstm.scoring.surprisal import NATS_PER_BIT
from charlstm.state import Decided
from charlstm.tasks import language_model_run, table
from charlstm.text import corpus
from charlstm.training import machine, recipe, speed
from charlstm.training.clock import Clock

RUNS = ("first run", "second")
TINY = ["task=lm", "train.steps=30", "model.hidden=16", "train.batch=4", "train.window=16", "eval.times=3"]
TINY += ["device=cpu"]
ONE_THREAD = [*TINY, "threads=1", "precision=float32"]

RESULT_KEYS = [
    *("task", "steps", "chars_seen", "train_seconds", "chars_per_second", "loss", "params", "device"),
    *("precision", "threads", "checkpoint", "valid_bpc", "valid_nats", "test_bpc", "best_step"),
]


def generated(characters, seed=0):
    """A text of made-up words, with some characters beyond ASCII."""
    random = np.random.default_rng(seed)
    letters = list("etaoinshrdlu" * 3 + "bcfgkmpwyéß")
    words = ["".join(random.choice(letters, random.integers(2, 8))) for _ in range(80)]
    lines = [" ".join(words[n] for n in random.integers(80, size=8)) for _ in range(characters // 20)]
    return "\n".join(lines)[: characters - 1] + "\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of 20,000 characters."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(generated(20_000), encoding="utf-8")
    return path


def outside(directory, script, *arguments):
    return subprocess.run(
        [*PYTHON, *([script] if script == "-m" else [str(PROJECT / script)]), *arguments],
        cwd=PROJECT if script == "-m" else directory,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    """The run directory of one run, and what it said."""
    directory = tmp_path_factory.mktemp("lm") / "run"
    done = outside(directory.parent, "train.py", f"data.path={text}", *TINY, f"hydra.run.dir={directory}")
    assert (done.returncode, done.stderr) == (0, "")
    return directory, done.stdout


def result_of(directory):
    return json.loads((directory / "result.json").read_text("utf-8"))


def parts_of(text, *overrides):
    return corpus.read(settings(*TINY, f"data.path={text}", *overrides).data)


def test_the_run_directory_is_complete(finished):
    directory, said = finished
    names = {path.name.split(".")[0] or path.name for path in directory.iterdir()}
    of_run = {".charlstm", "config", "train", "best", "last", "step_000020", "result"}
    assert names == of_run | {"events", "projector", "projector_config"}
    result = result_of(directory)
    assert not set(RESULT_KEYS) - result.keys()
    assert (result["task"], result["steps"], result["chars_seen"]) == ("lm", 30, 30 * 4 * 16)
    assert result["best_step"] in (10, 20, 30)
    assert result["valid_bpc"] == pytest.approx(result["valid_nats"] / NATS_PER_BIT)
    assert Path(result["checkpoint"]) == directory / "best.safetensors"
    assert checkpoint.load(directory).figures.items() <= result.items()
    logged = (directory / "train.log").read_text("utf-8")
    assert all(line in logged for line in said.splitlines())
    for expected in (
        "20,000 characters",
        "train 18,000",
        "30 steps of 64 characters",
        "tensorboard --logdir",
    ):
        assert expected in said


def test_the_scores_are_those_of_the_checkpoint(finished, text):
    directory, said = finished
    result, trained, parts = result_of(directory), checkpoint.load(directory), parts_of(text)
    model = Model(trained.config, len(trained.vocabulary))
    model.load_state_dict({name: torch.from_numpy(w) for name, w in trained.weights.items()})
    start = trained.vocabulary.start
    assert held_out.carried(model, parts.valid, start).nats == pytest.approx(result["valid_nats"], abs=1e-6)
    assert held_out.carried(model, parts.test, start).nats == pytest.approx(result["test_nats"], abs=1e-6)
    windows = held_out.fresh_windows(model, parts.valid, start).nats
    assert windows == pytest.approx(result["valid_windows_nats"], abs=1e-6)
    bpc, bpb, nats = (result[f"valid_{unit}"] for unit in ("bpc", "bpb", "nats"))
    assert f"{bpc:9.4f} {bpb:9.4f} {nats:9.4f} {math.exp(nats):10.4g}  valid part, state carried\n" in said
    # 30 steps leave it far from the words, but frequent letters are known
    assert result["test_bpc"] < math.log2(len(trained.vocabulary)) - 0.3


def test_score_finds_the_same(finished, text, tmp_path):
    directory, _ = finished
    parts, result = parts_of(text), result_of(directory)
    for part in ("valid", "test"):
        (tmp_path / part).write_text(parts.vocabulary.decode(getattr(parts, part)), encoding="utf-8")
        done = outside(
            tmp_path, "-m", "charlstm", "score", f"ckpt={directory}", f"path={tmp_path / part}", "format=json"
        )
        assert done.returncode == 0, done.stderr
        (total,) = json.loads(done.stdout)["totals"]
        assert total["bits_per_char"] == pytest.approx(result[f"{part}_bpc"], abs=1e-4)
        assert total["bits_per_byte"] == pytest.approx(result[f"{part}_bpb"], abs=1e-4)


TEXTS = {
    "words": generated(40_000, seed=1),
    "prose": "\n".join(topics.values())[:60_000],
    "code": Path(statistics.__file__).read_text("utf-8"),
}
SPLIT = "data.split=[0.6,0.2,0.2]"
UNBROKEN = [("words", 20, "float32"), ("prose", 60, "auto"), ("code", 150, "auto"), ("prose", 600, "float32")]


@pytest.mark.parametrize(("name", "steps", "precision"), UNBROKEN)
def test_the_score_is_that_of_one_unbroken_text(name, steps, precision, tmp_path):
    (tmp_path / "text").write_text(TEXTS[name], encoding="utf-8")
    request = [f"data.path={tmp_path / 'text'}", SPLIT, "task=lm", f"train.steps={steps}", "train.batch=8"]
    request += ["train.window=32", "model.hidden=64", "model.layers=1", "eval.baselines=false"]
    directory = go(tmp_path / "run", *request, f"precision={precision}", "threads=1", "tensorboard=false")
    trained, parts = checkpoint.load(directory), parts_of(tmp_path / "text", SPLIT)
    for part in ("valid", "test"):
        ids = getattr(parts, part)
        assert len(ids) > 2 * held_out.STREAM  # which is read by several streams
        bits = surprisal.bits(trained.model(), trained.vocabulary, ids)
        assert result_of(directory)[f"{part}_bpc"] == pytest.approx(bits.mean(), abs=0.005)
        stretches = bits[: len(bits) // 1000 * 1000].reshape(-1, 1000).mean(axis=1)
        assert stretches.max() < math.log2(len(trained.vocabulary))


def test_a_budget_and_as_many_steps_again(text, tmp_path):
    request = [f"data.path={text}", *TINY[:1], *TINY[2:], "train.budget=4s", "model.engine=plain"]
    done = outside(tmp_path, "train.py", *request, "tensorboard=false", "hydra.run.dir=first run")
    assert (done.returncode, done.stderr) == (0, "")
    again = tmp_path / "first run" / "config" / "again.sh"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", again, "hydra.run.dir=second"],
        cwd="/",
        env=os.environ | {"PATH": path},
        check=True,
        timeout=120,
    )
    first, second = (checkpoint.load(tmp_path / name) for name in RUNS)
    assert first.figures["steps"] == second.figures["steps"] > 0
    assert first.training is second.training is None
    decided = [checkpoint.load(tmp_path / name / "last.safetensors").training.task.decided for name in RUNS]
    assert decided[1].steps == second.figures["steps"]
    for key in ("precision", "threads"):
        assert first.figures[key] == second.figures[key]


def test_the_curves(finished):
    curves = EventAccumulator(str(finished[0]))
    curves.Reload()
    train = ("accuracy", "learning_rate", "gradient_norm", "chars_per_second", "peak_memory_MiB")
    bits = ("train", "valid", "valid_averaged", *language_model_run.LINES)
    norms = {f"weight_norm/{layer}" for layer in ("embedding", "rnn_l0", "head")}
    final = ("bits_per_char", "accuracy", "valid_bpc", "test_bpc", "params", "steps", "train_seconds")
    norms |= {f"final/{name}" for name in final}
    names = {f"train/{name}" for name in train} | {f"bits_per_char/{name}" for name in bits} | norms
    assert set(curves.Tags()["scalars"]) == names
    of = {name: curves.Scalars(f"bits_per_char/{name}") for name in bits}
    assert [e.step for e in of["train"]] == list(range(1, 31))
    assert all([e.step for e in of[name]] == [10, 20, 30] for name in bits[1:])
    result = result_of(finished[0])
    best = min(e.value for name in ("valid", "valid_averaged") for e in of[name])
    assert best == pytest.approx(result["valid_bpc"], rel=1e-6)
    for name in language_model_run.LINES:  # a line beside them
        expected = pytest.approx(result["baselines_bpc"][name], rel=1e-6)  # float32 there
        assert [e.value for e in of[name]] == [expected] * 3
    weights = checkpoint.load(finished[0] / "last.safetensors").weights
    head = math.sqrt(sum(np.sum(weights[f"head.{name}"] ** 2, dtype=float) for name in ("weight", "bias")))
    assert curves.Scalars("weight_norm/head")[-1].value == pytest.approx(head, rel=1e-6)
    assert 10 < curves.Scalars("train/peak_memory_MiB")[-1].value < 1e5
    written = [e.tensor_proto.string_val[0].decode() for e in curves.Tensors("written/text_summary")]
    assert len(set(written)) == 3
    assert all(re.findall("^temperature (.*)", one, re.M) == ["0.5", "0.8", "1.0"] for one in written)


def test_sample_writes_on(finished, text):
    done = outside(
        text.parent, "sample.py", f"ckpt={finished[0]}", "length=50", "temperature=1", "seed=3", "prompt=the "
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the ")
    assert set(done.stdout) <= set(text.read_text("utf-8"))
    assert len(done.stdout) == len("the ") + 50


def test_looking_before_trains_nothing(text, tmp_path):
    done = outside(tmp_path, "train.py", f"data.path={text}", *TINY, "check=true")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing was trained" in done.stdout
    for expected in ("20,000 characters", "valid 1,000", "30 steps of 64 characters", "parameters"):
        assert expected in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_stopped_saves_first(text, tmp_path):
    arguments = [f"data.path={text}", *TINY, "train.steps=1000000", "save.every=0.2s", "hydra.run.dir=run"]
    with subprocess.Popen(
        [*PYTHON, str(PROJECT / "train.py"), *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "last.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert "Stopped by SIGINT" in said
    assert "checkpoint  run/last.safetensors" in said
    assert "train.py resume=run" in said
    assert 0 < checkpoint.load(tmp_path / "run").step < 1_000_000
    assert not (tmp_path / "run" / "result.json").exists()  # it is not over


WRONG = {
    ("train.budget=soon",): "error: train.budget = soon: must be a time such as 90s, 15m or 2h",
    ("train.layout=sequence",): "error: train.layout = sequence, train.loss = cross_entropy: task=lm trains",
    ("train.loss=mse",): "error: train.layout = streams, train.loss = mse: task=lm trains",
    ("data.split=[1,1,0]",): "error: data.split = ",
    ("data.path=missing",): "error: data.path = missing",
    ("model.head=none",): "error: model.hidden = 16: with model.head=none",
    ("train.dropout.hidden=1",): "error: train.dropout.hidden = 1: must be a number, at least 0",
    ("train.weight_bits=8",): "error: train.weight_bits = 8: works with task=memorize only; leave it out",
    ("task=memorize", "train.batch=1"): "error: train.steps = 30: works with task=lm only",
}


@pytest.mark.parametrize(("overrides", "expected"), WRONG.items(), ids=lambda r: " ".join(r))
def test_wrong_requests_get_one_clear_line(text, tmp_path, overrides, expected):
    ours = [a for a in TINY if a.partition("=")[0] not in {o.partition("=")[0] for o in overrides}]
    given = [*([] if "data.path=missing" in overrides else [f"data.path={text}"]), *ours, *overrides]
    done = outside(tmp_path, "train.py", *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([*TINY, "train.batch=4"], "train.batch = 4: train.accumulate = 3 cannot share its streams evenly; "),
        ([], "train.accumulate = 3: works with task=lm only; leave it out"),
    ],
)
def test_what_cannot_be_dealt_into_parts_is_said(text, keys, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        plan(f"data.path={text}", "train.accumulate=3", *keys)


def test_the_text_comes_first_and_the_measuring_is_said(text, monkeypatch):
    monkeypatch.setattr(speed, "fastest", lambda *_: (speed.Choice("float32", 1), 0.01))
    planned = plan(*TINY, f"data.path={text}")
    lines = planned.describe()
    said = [next(lines) for _ in range(4)]
    assert said[:2] == list(planned.corpus.describe())
    assert said[2].startswith(
        "Chosen by the text's length, each unless it is given: train.optimizer='adamw' train.lr=0.02 "
    )
    assert said[3].startswith("Measuring some steps, for about 2 s")
    assert "decided" not in vars(planned)  # till here nothing was measured
    assert next(lines) == "lstm of 1 x 16, 7,435 parameters; cpu, float32, 1 thread"


def test_an_emulated_precision_is_said(text, monkeypatch):
    monkeypatch.setattr(speed, "PROBE_SECONDS", 0.0)
    emulated = "precision = bfloat16: this machine emulates it, which float32 is often faster than"
    for has, is_said in ((set(), True), ({"avx512_bf16"}, False)):
        monkeypatch.setattr(machine, "capabilities", lambda _, has=has: has)
        planned = plan(*TINY, f"data.path={text}", "precision=float32")
        given = replace(planned.settings, precision="bfloat16")
        planned = replace(planned, settings=given)
        planned.__dict__["decided"] = Decided(precision="bfloat16", threads=1, seconds_per_step=1, steps=9)
        assert (emulated in planned.describe()) == is_said


@pytest.mark.parametrize("has", [set(), {"amx_bf16"}])
def test_auto_tries_only_what_the_hardware_has(text, monkeypatch, has):
    tried = []

    def fastest(*request):
        tried.extend(choice.precision for choice in request[4])
        return request[4][0], 0.01

    monkeypatch.setattr(speed, "fastest", fastest)
    monkeypatch.setattr(machine, "capabilities", lambda _: has)
    assert plan(*TINY, f"data.path={text}", "threads=3").decided.threads == 3
    assert tried == ["float32", "bfloat16"][: 1 + len(has)]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Train within this process; returns the result and the run directory."""
    monkeypatch.setattr(speed, "PROBE_SECONDS", 0.0)
    directory = tmp_path / "run"

    def train(text, *overrides, code=0):
        directory.mkdir(exist_ok=True)
        assert table.run(plan(*ONE_THREAD, f"data.path={text}", *overrides), directory).code == code
        return result_of(directory) if code == 0 else None

    return train


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_every_cell_with_one_hot_input_too(trained, text, cell):
    result = trained(text, f"model.cell={cell}", "model.embedding=0", "train.lr=0.003", "model.layers=2")
    assert result["valid_bpc"] < 5


@pytest.mark.parametrize("overrides", [["data.unit=byte"], ["data.records=line"], ["data.min_count=300"]])
def test_other_symbols(trained, text, tmp_path, overrides):
    result = trained(text, *overrides)
    assert 0 < result["valid_bpc"] < 4.6
    unit = "byte" if "data.unit=byte" in overrides else "char"
    assert checkpoint.load(tmp_path / "run").vocabulary.unit == unit
    curves = EventAccumulator(str(tmp_path / "run"))
    curves.Reload()
    assert {tag for tag in curves.Tags()["scalars"] if "bits" in tag} == {
        *(
            f"bits_per_{unit}/{part}"
            for part in ("train", "valid", "valid_averaged", *language_model_run.LINES)
        ),
        f"final/bits_per_{unit}",
    }
    assert result[f"bits_per_{unit}"] == pytest.approx(result["loss"] / NATS_PER_BIT)


SYMBOLS = {
    "characters": [],
    "bytes": ["data.unit=byte"],
    "records": ["data.records=line"],
    "unknown": ["data.min_count=300"],
    "records of bytes": ["data.records=line", "data.unit=byte", "data.split=[0.8,0.2,0]"],
    "unknown in records": ["data.records=line", "data.min_count=300", "data.split=[0.9,0.02,0.08]"],
}


@pytest.mark.parametrize("kind", SYMBOLS)
def test_a_referee_finds_every_figure(trained, text, caplog, kind):
    caplog.set_level("INFO", "charlstm")
    overrides = ["model.layers=2", "tensorboard=false", *SYMBOLS[kind]]
    result = trained(text, *overrides)
    asked = settings(*ONE_THREAD, f"data.path={text}", *overrides).data
    found = referee.judge(result["checkpoint"], text, asked.split, asked.records, asked.min_count)
    shown = {}
    for *figures, name in re.findall(r"([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)  (\w+ part, .*)", caplog.text):
        shown[name] = figures
    assert list(found) == sorted(shown, key=list(found).index)
    for name, (bpc, bpb) in found.items():
        expected = (f"{bpc:.4f}", f"{bpb:.4f}", f"{bpc * NATS_PER_BIT:.4f}", f"{2**bpc:.4g}")
        for mine, theirs in zip(shown[name], expected, strict=True):
            digit = 10.0 ** -len(mine.partition(".")[2])
            # float32 on one side, float64 on the other: a figure may stand on the border of two
            assert float(mine) == pytest.approx(float(theirs), abs=1.01 * digit), name
    assert result["baselines_bpc"]["5-gram"] < result["baselines_bpc"]["unigram"]


@pytest.mark.parametrize("seconds", [1e-5, 0.011, 3.0])
@pytest.mark.parametrize("times", [1, 2, 7, 10, 60, 300])
@pytest.mark.parametrize("steps", [1, 2, 9, 10, 199, 1000, 2897])
def test_evaluations_are_as_many_as_were_asked_for(text, steps, times, seconds):
    planned = plan(*ONE_THREAD, f"data.path={text}", f"eval.times={times}")
    planned.__dict__["decided"] = Decided(
        precision="float32", threads=1, seconds_per_step=seconds, steps=steps
    )
    # as training/loop.py gives figures
    due = [step for step in range(1, steps + 1) if step % planned.every == 0 or step == steps]
    scored = [step for step in due if planned.is_scored(step)]
    assert len(scored) == min(times, steps)
    assert scored == [step for step in range(1, steps + 1) if planned.is_scored(step)]  # however fast it is
    assert scored[-1] == steps
    passes = steps / recipe.steps_per_epoch(planned.config, len(planned.corpus.train))
    ratio = max(min(passes / recipe.PASSES, steps / times, 100), 1)
    # as even, in time or in its logarithm, as whole steps, or a 25th of the distance, allow
    off = max(1, 2 * steps / times / 25)
    for k, step in enumerate(scored, 1):
        share = k / len(scored)
        exact = steps * ((ratio**share - 1) / (ratio - 1) if ratio > 1 else share)
        assert exact <= step + 1e-6
        assert step <= exact + off


@pytest.mark.parametrize("test", [0.2, 0])
def test_of_a_short_budget_the_beginnings_of_the_parts_are_scored(tmp_path, caplog, test):
    caplog.set_level("INFO", "charlstm")
    (tmp_path / "text").write_text(generated(30_000), encoding="utf-8")
    split, time, few = f"data.split=[{0.8 - test},0.2,{test}]", Time(), recipe.LEAST_SCORED
    request = [
        *TINY[:1],
        *TINY[2:],
        "threads=1",
        f"data.path={tmp_path / 'text'}",
        split,
        "precision=float32",
    ]
    planned = replace(plan(*request, "tensorboard=false"), clock=Clock(30.0, now=time))
    measured = {"precision": "float32", "threads": 1, "seconds_per_step": 1.0}
    planned.__dict__.update(decided=Decided(**measured, steps=30, sample=few), most_scored=few)
    (tmp_path / "run").mkdir()

    def hook(_):
        time.seconds += 1

    assert carry_out(planned, tmp_path / "run", hook).steps == 30
    trained, result = checkpoint.load(tmp_path / "run"), result_of(tmp_path / "run")
    parts = parts_of(tmp_path / "text", split)
    for part in ("valid", "test") if test else ("valid",):
        ids = getattr(parts, part)
        assert len(ids) > few
        bits = surprisal.bits(trained.model(), trained.vocabulary, ids[:few])
        assert result[f"{part}_bpc"] == pytest.approx(bits.mean(), abs=0.005)
        assert result[f"{part}_symbols"] == few
        assert f"first {few:,} symbols of the {part} part, state carried" in caplog.text
    simple = baselines.ngrams(parts.train, ids[:few], parts.alphabet, trained.vocabulary.start)
    assert {name: result["baselines_bpc"][name] for name in simple} == pytest.approx(simple)
    assert f"the first {few:,} symbols of each part are scored; all take a larger budget." in caplog.text
    assert "train.budget" in caplog.text


def test_bytes_that_are_no_text(trained, tmp_path):
    blob = np.random.default_rng(0).integers(256, size=4000, dtype=np.uint8)
    (tmp_path / "blob").write_bytes(blob.tobytes())
    result = trained(tmp_path / "blob", "data.unit=byte")
    assert 7 < result["valid_bpc"] < 9
    assert all(7 < bits < 12 for bits in result["baselines_bpc"].values())


def test_without_held_out_parts(trained, text, tmp_path):
    result = trained(text, "data.split=[1,0,0]")
    assert result["valid_nats"] is result["valid_bpc"] is None
    assert "test_bpc" not in result
    assert result["averaged"] is True
    assert checkpoint.load(tmp_path / "run").weights


@pytest.mark.parametrize("characters", [40, 60, 300])
def test_small_texts_are_trained_on(trained, tmp_path, characters):
    (tmp_path / "small").write_text(generated(characters), encoding="utf-8")
    result = trained(tmp_path / "small", "train.batch=32", "train.window=64", "data.split=[0.9,0.1,0]")
    assert result["steps"] == 30


@pytest.mark.parametrize("steps", [1, 2, 7, 31])
def test_few_steps_end_with_an_evaluation(trained, text, steps):
    result = trained(text, f"train.steps={steps}", "eval.times=20")
    assert result["steps"] == steps
    assert 1 <= result["best_step"] <= steps


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_training_that_blows_up_says_so(trained, text, tmp_path, caplog, steps):
    # after a single step the loss, which was taken before it, is still finite; the valid part's is not
    overrides = ["model.cell=rnn_relu", "train.lr=100", "train.clip=0", "train.warmup=0", "model.hidden=64"]
    trained(text, *overrides, f"train.steps={steps}", code=1)
    assert re.search(
        r"error: (the loss .*) after 3 returns to an earlier state; try a smaller train.lr", caplog.text
    )
    assert not (tmp_path / "run" / "result.json").exists()


def test_patience_ends_a_training_that_goes_nowhere(trained, text, tmp_path):
    overrides = ["train.steps=600", "eval.times=60", "train.patience=2", "train.lr=1", "train.averaging=0"]
    result = trained(text, *overrides)
    assert result["steps"] == result["best_step"] + 2 * 10 < 600
    # the best weights, not the last ones, are saved and scored
    best, test = checkpoint.load(tmp_path / "run"), parts_of(text).test
    model = Model(best.config, len(best.vocabulary))
    model.load_state_dict({name: torch.from_numpy(w) for name, w in best.weights.items()})
    score = held_out.carried(model, test, best.vocabulary.start)
    assert score.nats == pytest.approx(result["test_nats"], abs=1e-6)


@pytest.mark.parametrize("average_is_better", [True, False])
def test_the_better_of_weights_and_average_is_taken(text, tmp_path, average_is_better):
    planned = plan(*ONE_THREAD, f"data.path={text}", "train.averaging=0.1")
    run = table.started(planned, tmp_path)
    model, average, valid = run.training.model, run.training.average, run.plan.corpus.valid
    frequent = int(np.bincount(valid).argmax())
    with torch.no_grad():  # a bias for what is frequent is good, and one against it bad
        model.head.bias[frequent] += -5 if average_is_better else 1
    now = {name: w.copy() for name, w in model.weights().items()}
    nats, is_averaged, found = run._evaluate(SimpleNamespace(step=7, loss=1.0))[0]
    assert is_averaged is average_is_better
    for (name, weight), averaged in zip(now.items(), average.averages, strict=True):
        assert (model.weights()[name] == weight).all()  # training goes on where it was
        assert (found[name] == (averaged.numpy() if average_is_better else weight)).all()
    # a copy: what is learnt next, or scored next, does not change it
    kept = found["head.bias"].copy()
    with torch.no_grad():
        model.head.bias.add_(1)
    run._evaluate(SimpleNamespace(step=8, loss=1.0))
    assert (found["head.bias"] == kept).all()
    model.load_state_dict({name: torch.from_numpy(w) for name, w in found.items()})
    assert nats == held_out.carried(model, valid, run.vocabulary.start).nats
    run.training.average = None
    ((_, is_averaged, _),) = run._evaluate(SimpleNamespace(step=8, loss=1.0))
    assert is_averaged is False


def test_averages_are_used_where_they_are_better(trained, text, tmp_path):
    # a learning rate that is far too large at the end: only averages over many steps can be good
    overrides = ["train.lr=0.4", "train.decay=none", "train.steps=60", "eval.times=1", "train.warmup=0"]
    without = trained(text, *overrides, "train.averaging=0")
    averaged = trained(text, *overrides, "train.averaging=0.2")
    assert (without["averaged"], averaged["averaged"]) == (False, True)
    assert averaged["loss"] == without["loss"]  # the training itself is the same
    assert averaged["valid_nats"] < without["valid_nats"] - 0.02
    assert checkpoint.load(tmp_path / "run").figures["averaged"] is True


def test_what_is_held_out_leaves_no_trace_in_the_weights(monkeypatch, tmp_path, text):
    monkeypatch.setattr(speed, "PROBE_SECONDS", 0.0)
    parts = parts_of(text)
    weights = []
    for k in range(2):
        held_out = [np.random.default_rng(k).integers(5, size=700).astype(np.uint8) for _ in range(2)]
        train = parts.train[:1000]  # short, so that 30 steps are more than an epoch
        ids = np.concatenate([train, *held_out])
        other = replace(parts, ids=ids, train=train, valid=held_out[0], test=held_out[1])
        planned = plan(*ONE_THREAD, f"data.path={text}", "eval.times=1", "train.averaging=0")
        directory = tmp_path / str(k)
        directory.mkdir()
        assert table.run(replace(planned, corpus=other), directory).code == 0
        weights.append(checkpoint.load(directory).weights)
    for name, weight in weights[0].items():
        assert (weight == weights[1][name]).all()


def test_the_parts_of_a_job_are_the_texts_own(text):
    parts, whole = parts_of(text), text.read_text("utf-8")
    assert parts.vocabulary.decode(parts.train) == whole[:18_000]
    assert parts.vocabulary.decode(parts.valid) == whole[18_000:19_000]
    assert parts.vocabulary.decode(parts.test) == whole[19_000:]
