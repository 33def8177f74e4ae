"""The layout of the weights: torch.nn's names, shapes and order of gates."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from charlstm.cells.gates import GATES, gate, layer_of, parameter_shapes, sizes_of

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}
GRID = [(l, b, d) for l in (1, 2, 3) for b in (True, False) for d in (True, False)]


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize(("layers", "bias", "bidirectional"), GRID)
def test_shapes_are_torchs_and_say_all_about_the_network(cell, layers, bias, bidirectional):
    fused = CELLS[cell](5, 3, num_layers=layers, bias=bias, bidirectional=bidirectional)
    shapes = {name: tuple(weight.shape) for name, weight in fused.named_parameters()}
    ours = parameter_shapes(cell, 5, 3, layers, bias, bidirectional)
    assert list(ours.items()) == list(shapes.items())  # the order counts: it is the order of the random draws
    assert sizes_of(cell, shapes) == (5, 3, layers, bias, bidirectional)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("rnn.weight_ih_l0", "rnn_l0"),
        ("rnn.bias_hh_l12_reverse", "rnn_l12_reverse"),
        ("embedding.weight", "embedding"),
        ("head.bias", "head"),
    ],
)
def test_the_layer_of_a_parameter(name, layer):
    assert layer_of(name) == layer


def test_each_gate_is_read_by_name():
    weight_ih = np.arange(12 * 5).reshape(12, 5)
    for k, name in enumerate(("input", "forget", "cell", "output")):
        np.testing.assert_array_equal(gate(weight_ih, "lstm", name), weight_ih[3 * k : 3 * k + 3])
    for k, name in enumerate(("reset", "update", "new")):
        np.testing.assert_array_equal(gate(weight_ih, "gru", name), weight_ih[4 * k : 4 * k + 4])
    np.testing.assert_array_equal(gate(weight_ih, "rnn_tanh", "hidden"), weight_ih)
    np.testing.assert_array_equal(gate(weight_ih[:, 0], "gru", "update"), weight_ih[4:8, 0])  # a bias


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_each_gate_is_written_by_name(name):
    for k, gate_name in enumerate(GATES["lstm"]):
        array = np.zeros(parameter_shapes("lstm", 5, 3)[name])
        gate(array, "lstm", gate_name)[...] = 7.0
        assert array[3 * k : 3 * k + 3].min() == 7.0
        assert array.sum() == 7.0 * array[3 * k : 3 * k + 3].size  # and nothing else was touched

        lstm = nn.LSTM(5, 3)
        expected = lstm.state_dict()[name].clone()
        expected[3 * k : 3 * k + 3] = 7.0
        with torch.no_grad():
            gate(lstm.get_parameter(name), "lstm", gate_name)[...] = 7.0
        assert torch.equal(lstm.state_dict()[name], expected)


def test_what_a_gate_is_to_the_cell():
    """With the forget gate open and the input gate shut, the LSTM keeps c as it is."""
    lstm = nn.LSTM(2, 3)
    for parameter in lstm.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        gate(lstm.bias_ih_l0, "lstm", "forget")[...] = 100.0
        gate(lstm.bias_ih_l0, "lstm", "input")[...] = -100.0
        gate(lstm.bias_ih_l0, "lstm", "cell")[...] = 1.0
    c0 = torch.tensor([[0.1, -0.2, 0.3]])
    _, (_, c) = lstm(torch.ones(4, 2), (torch.zeros(1, 3), c0))
    assert torch.equal(c, c0)  # exact: sigmoid(+-100) is 1 and, beside c0, nothing in float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gate(np.zeros((8, 2)), "lstm", "reset"),
            "lstm has no gate 'reset'; its gates are input, ",
        ),
        (lambda: gate(np.zeros((8, 2)), "lstn", "input"), "there is no cell 'lstn'; the cells are lstm, gru"),
        (lambda: gate(np.zeros((9, 2)), "lstm", "input"), "9 rows do not divide into the 4 gates of lstm"),
        (lambda: parameter_shapes("gru", 3, 0), "hidden_size=0"),
        (lambda: parameter_shapes("gru", 3, 2, 0), "num_layers=0"),
        (lambda: sizes_of("gru", {}), "need a matrix 'weight_ih_l0'"),
    ],
)
def test_a_wrong_name_or_size_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_room_is_entered_without_numpy_or_torch():
    code = (
        "import sys, charlstm.cells, charlstm.cells.gates, charlstm.cells.layers; "
        "assert not {'numpy', 'torch'} & set(sys.modules); "
        "import charlstm.cells.numpy_cells; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
