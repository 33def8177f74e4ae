"""Published worked examples, every value to every digit; docs/recurrence.md has the same figures."""

import json

import numpy as np
import pytest
import torch
from recurrences import CELLS, parts

from charlstm.cells import torch_cells
from charlstm.cells.numpy_cells import Recurrent, trace
from charlstm.files import PROJECT

FILE = PROJECT.parent / "shared" / "data" / "worked_examples.json"  # beside the project
EXAMPLES = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
pytestmark = pytest.mark.skipif(not EXAMPLES, reason="no worked_examples.json beside the project")


def test_published_lstm():
    example = EXAMPLES["lstm_numpy"]
    weights = {
        "weight_ih_l0": np.tile(example["weight_ih_each_gate_(H,D)"], (4, 1)),
        "weight_hh_l0": np.tile(example["weight_hh_each_gate_(H,H)"], (4, 1)),
    }
    recurrent = Recurrent("lstm", weights)
    x = np.swapaxes(example["x_(N,T,D)"], 0, 1)
    output, (h, c) = recurrent(x)
    assert output.swapaxes(0, 1).round(8).tolist() == example["output_(N,T,H)"]
    assert h[0].round(8).tolist() == example["h_n_(N,H)"]
    assert c[0].round(8).tolist() == example["c_n_(N,H)"]
    assert trace(recurrent, x[:, 0])["c"][:, 0].round(8).tolist() == example["c_of_first_sequence_(T,H)"]


def published_rnn(directions=1, dtype=np.float64):
    rnn = EXAMPLES["rnn_tanh"]
    return Recurrent(
        "rnn_tanh",
        {
            f"{name}_l0{suffix}": np.array(rnn[name], dtype)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            for suffix in ("", "_reverse")[:directions]
        },
    )


def test_published_rnn_and_its_heads():
    x = np.array(EXAMPLES["rnn_tanh"]["x_(T,D)"])
    output, (h,) = published_rnn()(x)
    assert output.round(4).tolist() == EXAMPLES["rnn_tanh"]["h_(T,H)"]

    regression = EXAMPLES["regression_on_last_state"]
    y = h[-1] @ np.transpose(regression["weight"]) + regression["bias"]
    assert y.round(4).tolist() == regression["y"]

    labelling = EXAMPLES["sequence_labelling"]
    scores = np.exp(output @ np.transpose(labelling["weight"]) + labelling["bias"])
    softmax = scores / scores.sum(axis=-1, keepdims=True)
    assert softmax.round(4).tolist() == labelling["softmax_(T,2)"]
    assert softmax.argmax(axis=-1).tolist() == labelling["labels"]


def test_published_bidirectional_rnn():
    example = EXAMPLES["bidirectional_rnn"]
    # float32, as its last digits were published: 1 - tanh(4.5) is 0.00024676 there, 0.00024679 in float64
    output, _ = published_rnn(directions=2, dtype=np.float32)(EXAMPLES["rnn_tanh"]["x_(T,D)"])
    forward, backward = output[:, :2], output[::-1, 2:]  # as it reads: from the end
    expected = example["h_backward_in_the_order_it_reads_(T,H)"]
    for value, figure in zip(backward.ravel(), np.ravel(expected), strict=True):
        digits = len(str(figure).split(".")[1])  # not the same in each row
        assert round(float(value), digits) == figure
    joined = np.concatenate([forward, backward], axis=-1)
    y = joined @ np.transpose(example["head_weight"]) + example["head_bias"]
    assert [round(value, 4) for value in y[:, 0].tolist()] == example["y_(T)"]


def test_published_gates():
    example = EXAMPLES["lstm_gates"]
    weights = {
        "weight_ih_l0": np.concatenate([np.array(example["weight_ih"][name], float) for name in "ifgo"]),
        "weight_hh_l0": np.tile(np.array(example["weight_hh_each_gate"], float), (4, 1)),
    }
    traced = trace(Recurrent("lstm", weights), [example["x"]])
    for name, pre in example["preactivation"].items():
        assert traced[f"{name}_pre"][0, 0].tolist() == pre
    assert traced["h"][0, 0].round(4).tolist() == example["h1"]


@pytest.mark.parametrize("cell", CELLS)
def test_published_shapes(cell):
    for name, example in EXAMPLES["shapes"].items():
        if name == "about":
            continue
        time_major = name == "time_major"  # the other examples are batch first: (B, T, ...)
        x = torch.zeros(example["input"])
        module = torch_cells.Recurrent(
            cell,
            x.shape[-1],
            example["hidden"],
            example.get("layers", 1),
            bidirectional="bidirectional" in name,
        )
        output, state = module(x if time_major else x.transpose(0, 1))
        assert list((output if time_major else output.transpose(0, 1)).shape) == example["output"]
        for part in parts(state):
            assert list(part.shape) == example["h_n"] == example.get("c_n", example["h_n"])
        if cell == "lstm":
            for l, shape in enumerate(example.get("weight_ih_shapes", [])):
                assert list(module.get_parameter(f"weight_ih_l{l}").shape) == shape
                assert list(module.get_parameter(f"weight_ih_l{l}_reverse").shape) == shape
