"""What other programs make of an exported model is what charlstm makes of it; foreign files get a line."""

import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from conftest import settings

import charlstm
from charlstm import checkpoint, export
from charlstm.checkpoint import Checkpoint
from charlstm.cli import export as command
from charlstm.files import PROJECT
from charlstm.model.numpy_model import parameter_shapes
from charlstm.model.stepper import Stepper
from charlstm.model.torch_model import FUSED
from charlstm.text.vocabulary import Vocabulary

CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
KINDS = [
    (unit, embedding, head)
    for unit in ("char", "byte")
    for embedding, head in ((0, "linear"), (5, "linear"), (0, "none"), (5, "none"))
]
EXACT = 1e-6  # float32, sums in another order


def model(cell="lstm", layers=1, unit="char", embedding=0, head="linear", unknown=False):
    """With random weights, which neither die out nor explode."""
    most = 0.15 if cell == "rnn_relu" else 0.5
    random, known = np.random.default_rng(0), Vocabulary("abc d\xe9", unit=unit, unknown=unknown)
    hidden = len(known) if head == "none" else 11
    shape = {"cell": cell, "layers": layers, "embedding": embedding, "head": head, "hidden": hidden}
    config = replace(settings().model, **shape)
    shapes = parameter_shapes(config, len(known))
    weights = {name: random.uniform(-most, most, shape).astype(np.float32) for name, shape in shapes.items()}
    return Checkpoint(config, known, "lm", 9, {"loss": 1.5}, {}, weights, records="none")


def ids_of(trained, T=40, B=3):
    return np.random.default_rng(1).integers(len(trained.vocabulary), size=(T, B))


def greedy(trained, step, count=1000):
    """What is written from the start token, by a function of an id that gives scores."""
    written = [trained.vocabulary.start]
    for _ in range(count):
        written.append(int(step(written[-1])[: trained.vocabulary.start].argmax()))
    return written


def ours(trained):
    stepper = Stepper(trained.model())
    return greedy(trained, lambda id_: stepper([id_])[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(("unit", "embedding", "head"), KINDS)
def test_every_format_computes_the_same(tmp_path, cell, layers, unit, embedding, head):
    trained = model(cell, layers, unit, embedding, head)
    ids, expected = ids_of(trained), ours(trained)
    scores, _ = trained.model()(ids)

    export.to_torch(trained, tmp_path / "plain")
    weights = safetensors.torch.load_file(tmp_path / "plain")
    V, H = weights["head.weight"].shape
    net, linear = FUSED[cell](V, H, layers), torch.nn.Linear(H, V)
    net.load_state_dict({name[4:]: w for name, w in weights.items() if name.startswith("rnn.")})
    linear.load_state_dict({name[5:]: w for name, w in weights.items() if name.startswith("head.")})
    state = None

    def of_torch(id_):
        nonlocal state
        output, state = net(torch.eye(V)[[id_]], state)
        return linear(output)[0]

    with torch.no_grad():
        output, _ = net(torch.eye(V)[torch.from_numpy(ids)])
        np.testing.assert_allclose(linear(output).numpy(), scores, rtol=0, atol=EXACT)
        assert greedy(trained, of_torch) == expected
    taken = export.take_in(tmp_path / "plain", None)  # and back again
    assert taken.vocabulary == trained.vocabulary
    if cell != "rnn_relu" or taken.config.cell == cell:
        np.testing.assert_allclose(taken.model()(ids)[0], scores, rtol=0, atol=EXACT)

    export.to_hf(trained, tmp_path / "folder")
    loaded = charlstm.load(tmp_path / "folder")
    np.testing.assert_array_equal(loaded.checkpoint.model()(ids)[0], scores)
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["characters"] == "abc d\xe9"
    assert "| loss | 1.5 |" in (tmp_path / "folder" / "README.md").read_text()

    export.to_onnx(trained, tmp_path / "graph")
    session = onnxruntime.InferenceSession(tmp_path / "graph", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()][1:]
    state = {name: np.zeros((layers, ids.shape[1], H), np.float32) for name in names}
    found, *after = session.run(None, {"ids": ids[:30], **state})
    rest, *_ = session.run(None, {"ids": ids[30:], **dict(zip(names, after, strict=True))})
    np.testing.assert_allclose(np.concatenate([found, rest]), scores, rtol=0, atol=EXACT)
    state = {name: np.zeros((layers, 1, H), np.float32) for name in names}

    def of_onnx(id_):
        nonlocal state
        found, *after = session.run(None, {"ids": np.array([[id_]]), **state})
        state = dict(zip(names, after, strict=True))
        return found[0, 0]

    assert greedy(trained, of_onnx) == expected


@pytest.mark.parametrize("cell", CELLS)
def test_the_script_of_the_docs_reads_it(tmp_path, cell, monkeypatch, capsys):
    trained = model(cell, 2, embedding=5)
    export.to_torch(trained, tmp_path / "plain")
    monkeypatch.setattr(sys, "argv", ["plain_lstm.py", str(tmp_path / "plain"), "abc", "50"])
    runpy.run_path(str(PROJECT / "docs" / "plain_lstm.py"))
    checkpoint.save(trained, tmp_path / "model")
    assert (
        capsys.readouterr().out
        == charlstm.load(tmp_path / "model").sample("abc", length=50, temperature=0) + "\n"
    )


@pytest.mark.parametrize("embedding", [0, 4])
def test_a_plain_model_of_characters_alone_is_taken_in(tmp_path, embedding):
    torch.manual_seed(0)
    V, H = 5, 7
    parts = {"encoder": torch.nn.Embedding(V, embedding)} if embedding else {}
    parts |= {"lstm": torch.nn.LSTM(embedding or V, H, 2), "decoder": torch.nn.Linear(H, V)}
    net = torch.nn.ModuleDict(parts)
    safetensors.torch.save_file(net.state_dict(), tmp_path / "weights")
    trained = export.take_in(tmp_path / "weights", "hello"[:3] + "xy")
    assert trained.config.cell == "lstm"
    ids = torch.randint(V, (30, 2))
    x = parts["encoder"](ids) if embedding else torch.eye(V)[ids]
    with torch.no_grad():
        expected = torch.log_softmax(parts["decoder"](parts["lstm"](x)[0]), -1)
    scores = torch.from_numpy(trained.model()(ids.numpy())[0])
    np.testing.assert_allclose(torch.log_softmax(scores, -1)[..., :V], expected, rtol=0, atol=EXACT)
    assert torch.log_softmax(scores, -1)[..., V:].max() < -1000
    checkpoint.save(trained, tmp_path / "model")
    assert len(charlstm.load(tmp_path / "model").sample(length=30, seed=0)) == 30


def run(monkeypatch, capsys, name, *arguments):
    monkeypatch.setattr(sys, "argv", ["charlstm", *arguments])
    with pytest.raises(SystemExit) as ended:
        getattr(command, name)()
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1, said
    return ended.value.code, said


def test_foreign_and_broken_files_are_one_line(tmp_path, monkeypatch, capsys):
    export.to_torch(model(), tmp_path / "good")
    good = safetensors.numpy.load_file(tmp_path / "good")
    wrong = {
        "no.txt": b"no weights",
        "cut": (tmp_path / "good").read_bytes()[:-7],
        "other": safetensors.numpy.save({"a.weight": np.zeros((3, 3), np.float32)}, {"characters": '"ab"'}),
        "short": safetensors.numpy.save(
            good | {"head.bias": np.zeros(4, np.float32)}, {"characters": '"abc d\xe9"'}
        ),
    }
    for name, blob in wrong.items():
        (tmp_path / name).write_bytes(blob)
        code, said = run(monkeypatch, capsys, "take_in", f"path={tmp_path / name}", f"out={tmp_path / 'x'}")
        assert (code, f"path = {tmp_path / name}: not a" in said) == (2, True), said
    for given, expected in {
        "characters=ab": "not an nn.LSTM and an nn.Linear of these characters: 8 ids for 2 characters",
        "path=nowhere": "path = nowhere: not a safetensors file",
        f"out={tmp_path}/no/x": "cannot be written: No such file",
    }.items():
        asked = {"path": str(tmp_path / "good"), "out": str(tmp_path / "x")} | dict([given.split("=", 1)])
        code, said = run(monkeypatch, capsys, "take_in", *(f"{key}={value}" for key, value in asked.items()))
        assert (code, expected in said) == (2, True), said
    assert not (tmp_path / "x").exists()
    checkpoint.save(model(), tmp_path / "model")
    asked = [f"ckpt={tmp_path / 'model'}", "format=hf", f"out={tmp_path}"]
    assert run(monkeypatch, capsys, "main", *asked) == (
        2,
        f"error: out = {tmp_path}: not empty; name a new folder\n",
    )
    assert "name a checkpoint" in run(monkeypatch, capsys, "main", "format=hf")[1]


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ValueError, match=r"format = onnx: needs the package onnx; pip install 'charlstm\[onnx\]'"
    ):
        export.to_onnx(model(), tmp_path / "graph")


def test_the_unknown_token_goes_with_it(tmp_path):
    export.to_torch(model(unknown=True), tmp_path / "plain")
    assert export.take_in(tmp_path / "plain", None).vocabulary == model(unknown=True).vocabulary
