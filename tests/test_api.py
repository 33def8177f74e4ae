"""charlstm from Python: what it gives is what the commands give, and it leaves the process alone."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SENTENCE
from warm import PYTHON

import charlstm
from charlstm.cells.numpy_cells import gru_step, lstm_step
from charlstm.checkpoint import Checkpoint, CheckpointError
from charlstm.config.convert import RequestError
from charlstm.files import PROJECT
from charlstm.text.vocabulary import UnknownCharacterError

TEXT = "to be, or not to be"


@pytest.fixture(scope="module")
def model():
    """Some epochs of a GRU: what it writes depends on the seed."""
    return charlstm.train(TEXT, cell="gru", hidden=12, overrides={"train.epochs": 20})


@pytest.fixture(scope="module")
def of_bytes():
    return charlstm.train(
        "é日🙂 ab\n" * 20,
        task="lm",
        hidden=8,
        steps=20,
        overrides={"data.unit": "byte", "train.batch": 2, "threads": 1, "precision": "float32"},
    )


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- importing


def test_importing_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import charlstm; print(*(set(sys.modules) - before))"
    assert python(code).split() == ["charlstm"]


def test_using_a_model_imports_no_torch(trained):
    code = (
        "import charlstm, sys; model = charlstm.load(sys.argv[1]); text = model.sample(); model.score(text); "
        "model.trace(text); assert 'torch' not in sys.modules; print(text)"
    )
    assert python(code, trained) == SENTENCE + "\n"


def test_names():
    assert {"Model", "load", "train", "__version__"} <= set(dir(charlstm))
    assert isinstance(charlstm.train, type(charlstm.load))
    with pytest.raises(AttributeError, match="module 'charlstm' has no attribute 'trian'"):
        _ = charlstm.trian


# --- a model


def test_attributes(trained, model):
    of_run = charlstm.load(trained)
    assert (of_run.task, of_run.path, model.path) == ("memorize", trained, None)
    assert (of_run.config.cell, of_run.config.layers, of_run.config.hidden) == ("lstm", 2, 128)
    assert of_run.vocabulary.characters == "".join(sorted(set(SENTENCE)))
    result = json.loads((trained / "result.json").read_text())
    del result["checkpoint"]  # added when it was saved
    assert of_run.figures == result
    assert of_run.figures["recalled"]
    of_file = charlstm.load(str(trained / "best.safetensors"))
    np.testing.assert_equal(of_file.weights, of_run.weights)
    assert repr(of_run) == "<Model: memorize, lstm of 2 x 128, 22 characters>"


def test_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    again = charlstm.load(tmp_path / "model.safetensors")
    np.testing.assert_equal(again.weights, model.weights)
    assert (again.figures, again.vocabulary) == (model.figures, model.vocabulary)


@pytest.mark.parametrize(
    ("keywords", "keys"),
    [
        ({}, []),
        ({"prompt": "to be"}, ["prompt=to be"]),
        (
            {"prompt": "no", "temperature": 1.5, "top_k": 5, "top_p": 0.95, "min_p": 0.01, "seed": 3},
            ["prompt=no", "temperature=1.5", "top_k=5", "top_p=0.95", "min_p=0.01", "seed=3"],
        ),
        (
            {"prompt": "NO", "unknown": "nearest", "temperature": 2, "length": 400, "stop": ["b", ", "]},
            ["prompt=NO", "unknown=nearest", "temperature=2", "length=400", 'stop=["b", ", "]'],
        ),
        ({"stop": "['b']", "temperature": 1, "echo": False}, ["stop=['b']", "temperature=1", "echo=false"]),
    ],
)
@pytest.mark.parametrize("name", ["model", "of_bytes"])
def test_it_writes_what_sample_py_writes(name, keywords, keys, request, tmp_path):
    model = request.getfixturevalue(name)
    if name == "of_bytes":
        keywords = {"length": 50, "seed": 1} | keywords | {"prompt": "é日", "unknown": "error"}
        keys = ["length=50", "seed=1", *keys, "prompt=é日", "unknown=error"]
    else:
        keywords, keys = {"seed": 0} | keywords, ["seed=0", *keys]
    model.save(tmp_path / "model")
    keys = list({key.partition("=")[0]: key for key in keys}.values())  # the last of each
    done = subprocess.run(
        [*PYTHON, PROJECT / "sample.py", f"ckpt={tmp_path / 'model'}", *keys], capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert model.sample(**keywords).encode("utf-8", "surrogateescape") == done.stdout


def test_a_stop_that_looks_like_a_list_is_a_string(trained):
    assert charlstm.load(trained).sample(stop='["e"]') == SENTENCE
    assert charlstm.load(trained).sample(stop=["e", "l"]) == "h"


def test_seeds(model):
    written = {model.sample(temperature=2, seed=seed) for seed in range(5)}
    assert len(written) == 5
    assert model.sample(temperature=2, seed=4) in written
    assert len({model.sample(temperature=2) for _ in range(20)}) > 2  # a few may be empty


@pytest.mark.parametrize(("name", "text"), [("model", "not, to  be"), ("of_bytes", "日 é🙂\n\na")])
def test_it_scores_as_charlstm_score_does(name, text, request, tmp_path):
    model = request.getfixturevalue(name)
    model.save(tmp_path / "model")
    (tmp_path / "text").write_bytes(text.encode())
    arguments = [
        "score",
        f"ckpt={tmp_path / 'model'}",
        f"path={tmp_path / 'text'}",
        "per=char",
        "format=json",
    ]
    done = subprocess.run([*PYTHON, "-m", "charlstm", *arguments], capture_output=True, check=True)
    scored = json.loads(done.stdout)
    assert model.score(text) == scored["totals"][0]["bits_per_char"]
    assert model.bits(text).tolist() == [row["bits"][0] for row in scored["rows"]]
    assert len(model.bits(text)) == len(text)


def test_trace_is_each_step_of_the_equations(trained, model):
    steps = {"lstm": lstm_step, "gru": gru_step}
    for traced, text in ((charlstm.load(trained), "hello"), (model, "not")):
        network, layers, hidden = traced.weights, traced.config.layers, traced.config.hidden
        parts = 2 if traced.config.cell == "lstm" else 1
        states = [tuple(np.zeros(hidden, np.float32) for _ in range(parts)) for _ in range(layers)]
        found = traced.trace(text)
        vocabulary = traced.vocabulary
        for t, id_ in enumerate([vocabulary.start, *vocabulary.encode(text)], -1):
            x = np.eye(len(vocabulary), dtype=np.float32)[id_]
            for layer in range(layers):
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                weights = [network[f"rnn.{name}_l{layer}"] for name in names]
                terms: dict[str, np.ndarray] = {}
                states[layer] = steps[traced.config.cell](x, states[layer], *weights, terms=terms)
                x = states[layer][0]
                if t >= 0:
                    assert terms.keys() == found.keys()
                    for name, term in terms.items():
                        assert np.array_equal(found[name][t, layer], term), (name, t, layer)
        assert {term.shape for term in found.values()} == {(len(text), layers, hidden)}


def test_trace_of_bytes_has_a_row_for_each_byte(of_bytes):
    assert of_bytes.trace("é日")["f"].shape == (5, 1, 8)
    assert of_bytes.trace("")["f"].shape == (0, 1, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.sample(temperature=-1, top_k=0), RequestError, r"temperature = -1: .*\ntop_k = 0: must"),
        (lambda m: m.sample(seed="x"), RequestError, "seed = x: must be a whole number"),
        (lambda m: m.sample("xyz"), UnknownCharacterError, r"prompt has 'x' \(U\+0078\) at position 0"),
        (lambda m: m.sample(stop=["a", ""]), ValueError, "stop = .*: an empty string ends every text"),
        (lambda m: m.score("to see"), UnknownCharacterError, "text has 's' .* at position 3"),
        (lambda m: m.score(""), ValueError, "text: the text is empty"),
        (lambda m: m.trace("to see"), UnknownCharacterError, "text has 's' .* at position 3"),
        (lambda m: m.save("/dev/null/x"), OSError, "Not a directory"),
        (lambda _: charlstm.load("/nowhere"), CheckpointError, "/nowhere: no such checkpoint"),
    ],
)
def test_errors_of_a_model(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


# --- training


@pytest.mark.parametrize(
    ("keywords", "keys"),
    [
        ({"text": TEXT, "hidden": 24}, [f"data.text={TEXT}", "model.hidden=24"]),
        (
            {"text": "???\n${x} '\\' é " * 40, "cell": "gru", "layers": 1, "seed": 5, "hidden": 9}
            | {"overrides": {"train.epochs": 3, "model.embedding": 4, "train.dropout.hidden": 0.1}},
            [
                *("data.path=text", "model.cell=gru", "model.layers=1", "seed=5", "model.hidden=9"),
                *("train.epochs=3", "model.embedding=4", "train.dropout.hidden=0.1"),
            ],
        ),
        (
            {"path": PROJECT / "data" / "cities.txt", "task": "lm", "hidden": 16, "steps": 20}
            | {
                "overrides": {
                    "data.split": (0.8, 0.2, 0),
                    "data.records": "line",
                    "threads": 1,
                    "precision": "float32",
                }
            },
            [
                *("data.path=data/cities.txt", "task=lm", "model.hidden=16", "train.steps=20"),
                *("data.split=[0.8,0.2,0]", "data.records=line", "threads=1", "precision=float32"),
            ],
        ),
        (
            # by a budget the rate would fall as time passes
            {"hidden": 8, "overrides": {"experiment": "copy", "train.epochs": 3, "train.budget": None}},
            ["model.hidden=8", "experiment=copy", "train.epochs=3", "train.budget=null"],
        ),
    ],
    ids=["memorize", "by file", "lm", "copy"],
)
def test_it_trains_what_train_py_trains(keywords, keys, command, tmp_path):
    (tmp_path / "text").write_bytes(keywords.get("text", "").encode())
    done = command("train.py", *keys, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    by_command, model = charlstm.load(tmp_path / "run"), charlstm.train(**keywords)
    np.testing.assert_equal(model.weights, by_command.weights)
    assert (model.vocabulary, model.config) == (by_command.vocabulary, by_command.config)
    measured = ("train_seconds", "chars_per_second", "seconds")
    for figures in (model.figures, by_command.figures):
        for name in measured:
            figures.pop(name, None)
    assert model.figures == by_command.figures


def test_a_directory_is_kept(tmp_path, capfd):
    directory = tmp_path / "runs" / "one"
    model = charlstm.train(TEXT, hidden=9, directory=directory, overrides={"train.epochs": 2})
    assert {re.sub(r"tfevents.*", "", path.name) for path in directory.iterdir()} == {
        *("best.safetensors", "last.safetensors", "result.json", "events.out."),
        *("projector", "projector_config.pbtxt"),
    }
    assert model.path == directory
    np.testing.assert_equal(charlstm.load(directory).weights, model.weights)
    with pytest.raises(ValueError, match=re.escape(f"directory = {directory}: not empty; name a new folder")):
        charlstm.train(TEXT, directory=directory)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    charlstm.train(TEXT, hidden=9, overrides={"train.epochs": 2})
    assert list(tmp_path.iterdir()) == []


def test_verbose_says_what_train_py_says(capsys):
    charlstm.train(hidden=9, verbose=True, overrides={"train.epochs": 2})
    said = capsys.readouterr().out
    assert said.startswith("data/hello.txt: 68 characters, 22 distinct\nlstm of 2 x 9, ")
    assert "Not by heart after 2 epochs" in said
    charlstm.train(TEXT, hidden=9, overrides={"train.epochs": 2})
    assert capsys.readouterr() == ("", "")


def test_the_process_is_left_as_it_was():
    log, before = logging.getLogger("charlstm"), torch.get_num_threads()
    handling = (log.level, log.propagate, list(log.handlers), list(log.filters), logging.raiseExceptions)
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    torch.manual_seed(123)
    expected = torch.rand(3)
    try:
        for flushes in (False, True):
            torch.set_num_threads(2)
            torch.set_flush_denormal(flushes)
            torch.manual_seed(123)
            charlstm.train(TEXT, hidden=9, verbose=True, overrides={"train.epochs": 2, "threads": 1})
            assert torch.equal(torch.rand(3), expected)
            assert torch.get_num_threads() == 2
            assert (sys.float_info.min / 2 == 0) == flushes
            assert (torch.tensor([sys.float_info.min / 2], dtype=float) * 1 == 0).item() == flushes
    finally:
        torch.set_num_threads(before)
    after = (log.level, log.propagate, list(log.handlers), list(log.filters), logging.raiseExceptions)
    assert after == handling
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == signals


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        (
            {"hidden": 0, "overrides": {"model.hiden": 3, "train.lr": -1}},
            RequestError,
            r"^model\.hiden: no such key; did you mean model\.hidden\?\n(train\.lr = -1|model\.hidden = 0): ",
        ),
        ({"task": "ln"}, RequestError, "no such task; there are copy | lm | memorize"),
        ({"text": ""}, ValueError, "the text is empty"),
        ({"text": "a\udc80"}, ValueError, "not valid Unicode at position 1"),
        ({"text": TEXT, "path": "x"}, ValueError, "text and path: both are given"),
        ({"text": b"bytes"}, TypeError, "text: must be a str, not bytes; a file is path=..."),
        ({"path": "nowhere.txt"}, ValueError, "data.path = nowhere.txt: no such file"),
        ({"overrides": {"check": True}}, ValueError, "check: is for train.py alone"),
        ({"overrides": {"resume": "x"}}, ValueError, "resume: is for train.py alone"),
        ({"overrides": {"model.head": "none"}}, ValueError, "it must equal the vocabulary's size"),
        ({"text": TEXT, "task": "copy"}, ValueError, "task=copy draws symbols of its own"),
        ({"text": TEXT, "steps": 3}, ValueError, "train.steps = 3: works with task=lm only"),
    ],
)
def test_wrong_requests_make_no_directory(keywords, error, message, tmp_path):
    with pytest.raises(error, match=message):
        charlstm.train(**keywords, directory=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_fails_says_why(tmp_path, capfd):
    wild = {"train.lr": 100, "train.clip": 0, "train.on_nonfinite": "stop", "train.stop_at_recall": False}
    asked = {"text": TEXT, "cell": "rnn_relu", "hidden": 64, "overrides": wild}
    with pytest.raises(RuntimeError, match="^the loss .*; directory=... keeps what was saved$"):
        charlstm.train(**asked)
    with pytest.raises(RuntimeError, match="^the loss .* The last good state is saved[.]$"):
        charlstm.train(**asked, directory=tmp_path / "run")
    assert (tmp_path / "run" / "last.safetensors").exists()
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_is_an_interrupt_after_a_state_was_saved(command, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def interrupt():
        while signal.getsignal(signal.SIGINT) is before:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        charlstm.train(TEXT, hidden=24, directory=tmp_path / "run", overrides={"train.stop_at_recall": False})
    assert signal.getsignal(signal.SIGINT) is before
    done = command("train.py", "resume=run", "train.stop_at_recall=true", "hydra.run.dir=on")
    assert done.returncode == 0, done.stderr
    assert charlstm.load(tmp_path / "on").sample() == TEXT


def test_within_a_program_that_uses_hydra_itself(tmp_path):
    (tmp_path / "main.py").write_text(
        """import charlstm, hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    model = charlstm.train("to be", overrides={"train.epochs": config.epochs})
    print(model.figures["epochs"], model.sample("to", length=0), HydraConfig.get().job.name)

main()
""",
        encoding="utf-8",
    )
    arguments = ["--multirun", "+epochs=1,2", "hydra/hydra_logging=disabled", "hydra/job_logging=disabled"]
    done = subprocess.run([sys.executable, "main.py", *arguments], cwd=tmp_path, capture_output=True)
    assert (done.stdout, done.stderr) == (b"1 to main\n2 to main\n", b"")


def test_another_thread_is_refused():
    answers = []

    def work():
        try:
            charlstm.train(TEXT)
        except RuntimeError as error:
            answers.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(answers) == 1
    assert answers[0].startswith("train: not the main thread")


# --- what a prediction depends on


@pytest.mark.parametrize("embedding", [0, 3])
def test_connectivity_is_the_gradient(embedding):
    text = "abcdefgh"  # each once, so a vector can be changed where it is read, and nowhere else
    keys = {"train.epochs": 30, "model.embedding": embedding}
    trained = charlstm.train(text, cell="gru", layers=2, hidden=6, overrides=keys).checkpoint
    weights = {name: weight.astype(np.float64) for name, weight in trained.weights.items()}
    table = weights["embedding.weight"] if embedding else np.eye(len(trained.vocabulary))

    def log_probability(ids):
        network = Checkpoint.model(replace(trained, weights=weights))
        scores = network(np.array([trained.vocabulary.start, *ids[:-1]]))[0][-1]
        return scores[ids[-1]] - np.log(np.exp(scores).sum())

    ids, at, step = trained.vocabulary.encode(text), 6, 1e-5
    slopes = np.zeros((at, table.shape[1]))
    name = "embedding.weight" if embedding else "rnn.weight_ih_l0"
    for t, k in np.ndindex(slopes.shape):
        before = weights[name].copy()
        for sign in (1, -1):
            weights[name] = before.copy()
            if embedding:
                weights[name][ids[t], k] += sign * step
            else:
                weights[name][:, ids[t]] += sign * step * before[:, k]
            slopes[t, k] += sign * log_probability(ids[: at + 1]) / (2 * step)
        weights[name] = before
    found = charlstm.Model(trained).connectivity(text, at)
    np.testing.assert_allclose(found, np.linalg.norm(slopes, axis=1), rtol=2e-4)


def test_connectivity_of_bytes_is_by_character(of_bytes):
    found = of_bytes.connectivity("é日🙂 ab", 2)
    assert found.shape == (2,)
    assert (found > 0).all()
    assert len(of_bytes.connectivity("é日", 0)) == 0
    with pytest.raises(ValueError, match="at = 2: the text has 2 characters"):
        of_bytes.connectivity("é日", 2)
