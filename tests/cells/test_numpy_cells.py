"""The NumPy cells: equal to torch.nn, exact where a sequence is cut, safe at every size and value."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrences import CELLS, NETWORKS, STATES, B, H, I, T, fused, parts, random_state

from charlstm.cells.gates import parameter_shapes
from charlstm.cells.numpy_cells import STEPS, Recurrent, sigmoid, trace


def weights_of(module):
    return {name: weight.numpy() for name, weight in module.state_dict().items()}


def random_weights(rng, cell, *sizes, dtype=np.float64):
    """Uniform in +-1: an order above the usual start, so that gates open, shut and saturate."""
    return {k: rng.uniform(-1, 1, shape).astype(dtype) for k, shape in parameter_shapes(cell, *sizes).items()}


# --- the values ---------------------------------------------------------------------------------------


@NETWORKS
@STATES
def test_equal_to_torch(cell, layers, bidirectional, bias, given):
    torch.manual_seed(1)
    options = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional, "dtype": torch.float64}
    module = fused(cell, I, H, **options)
    x = torch.randn(T, B, I, dtype=torch.float64)
    directions = 2 if bidirectional else 1
    state = random_state(cell, layers * directions, B, H, dtype=torch.float64) if given else None
    with torch.no_grad():
        expected, expected_state = module(x, state)
    recurrent = Recurrent(cell, weights_of(module))
    output, final = recurrent(x.numpy(), [part.numpy() for part in parts(state)] if given else None)
    # rounding: some tens of operations a step on values of about 1, in float64
    np.testing.assert_allclose(output, expected.numpy(), rtol=0, atol=1e-12, strict=True)
    for ours, theirs in zip(final, parts(expected_state), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12, strict=True)


@pytest.mark.parametrize("cell", CELLS)
def test_float32_follows_the_fused_kernel_over_2000_steps(cell):
    torch.manual_seed(2)
    module = fused(cell, I, H, num_layers=2)
    x = torch.randn(2000, B, I)
    with torch.no_grad():
        expected, expected_state = module(x)
    output, final = Recurrent(cell, weights_of(module))(x.numpy())
    # float32 rounds at 6e-8; errors fade with the state instead of adding up over the steps
    np.testing.assert_allclose(output, expected.numpy(), rtol=0, atol=1e-5, strict=True)
    for ours, theirs in zip(final, parts(expected_state), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5, strict=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_stream_is_a_batch_of_one(cell, bidirectional):
    rng = np.random.default_rng(3)
    recurrent = Recurrent(cell, random_weights(rng, cell, I, H, 2, True, bidirectional))
    x = rng.normal(size=(T, I))
    state = tuple(rng.normal(size=part.shape) for part in recurrent.zero_state())
    output, final = recurrent(x, state)
    batch_output, batch_final = recurrent(x[:, None], [part[:, None] for part in state])
    # a vector and a matrix of one row take different BLAS routines, which may round differently
    np.testing.assert_allclose(output, batch_output[:, 0], rtol=0, atol=1e-14, strict=True)
    for ours, theirs in zip(final, batch_final, strict=True):
        np.testing.assert_allclose(ours, theirs[:, 0], rtol=0, atol=1e-14, strict=True)


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_a_sequence_of_one(cell):
    rng = np.random.default_rng(4)
    recurrent = Recurrent(cell, random_weights(rng, cell, I, H, dtype=np.float32))
    x, start = rng.normal(size=(1, B, I)).astype(np.float32), recurrent.zero_state(B)
    output, final = recurrent(x, start)
    state = STEPS[cell](x[0], tuple(part[0] for part in start), *recurrent.weights[0])
    np.testing.assert_array_equal(output[0], state[0], strict=True)
    for part, expected in zip(final, state, strict=True):
        np.testing.assert_array_equal(part[0], expected, strict=True)


# --- cutting and reversing ----------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_cut_anywhere_is_the_whole(cell):
    @settings(max_examples=500, deadline=None)
    @given(
        length=st.integers(0, 12),
        cuts=st.lists(st.integers(0, 12), max_size=4),
        batch=st.none() | st.integers(0, 3),
        sizes=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 3), st.booleans()),
        scale=st.sampled_from([1e-3, 1.0, 30.0]),
        dtype=st.sampled_from([np.float32, np.float64]),
        seed=st.integers(0, 2**32 - 1),
    )
    def holds(length, cuts, batch, sizes, scale, dtype, seed):
        rng = np.random.default_rng(seed)
        # +-1/H keeps the ReLU from overflowing: its own test is below
        weights = {k: w / sizes[1] for k, w in random_weights(rng, cell, *sizes, dtype=dtype).items()}
        recurrent = Recurrent(cell, weights)
        streams = () if batch is None else (batch,)
        x = (scale * rng.normal(size=(length, *streams, sizes[0]))).astype(dtype)
        start = tuple(rng.normal(size=part.shape).astype(dtype) for part in recurrent.zero_state(*streams))
        whole, final = recurrent(x, start)

        outputs, state = [], start
        edges = [0, *sorted(min(cut, length) for cut in cuts), length]
        for begin, end in itertools.pairwise(edges):
            output, state = recurrent(x[begin:end], state)
            outputs.append(output)
        np.testing.assert_array_equal(np.concatenate(outputs), whole, strict=True)
        for part, expected in zip(state, final, strict=True):
            np.testing.assert_array_equal(part, expected, strict=True)

    holds()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch", [None, 1, 31])
def test_a_cut_at_the_sizes_of_a_real_model(cell, batch):
    rng = np.random.default_rng(14)
    weights = {k: w / 12 for k, w in random_weights(rng, cell, 65, 130, 2, dtype=np.float32).items()}
    recurrent = Recurrent(cell, weights)
    streams = () if batch is None else (batch,)
    x = np.asfortranarray(rng.normal(size=(40, *streams, 65)).astype(np.float32))  # its cuts lie otherwise
    whole, final = recurrent(x)
    first, state = recurrent(x[:17].copy())
    second, state = recurrent(x[17:].copy(), [np.asfortranarray(part) for part in state])
    np.testing.assert_array_equal(np.concatenate([first, second]), whole, strict=True)
    for part, expected in zip(state, final, strict=True):
        np.testing.assert_array_equal(part, expected, strict=True)


def swapped(weights):
    """The same weights with the two directions exchanged."""
    other = {k: k.removesuffix("_reverse") if k.endswith("_reverse") else k + "_reverse" for k in weights}
    return {name: weights[other[name]] for name in weights}


@pytest.mark.parametrize("cell", CELLS)
def test_both_directions_of_the_reversed_input(cell):
    rng = np.random.default_rng(5)
    weights = random_weights(rng, cell, I, H, 1, True, True)
    x = rng.normal(size=(T, B, I))
    output, final = Recurrent(cell, weights)(x)
    mirrored, mirrored_final = Recurrent(cell, swapped(weights))(x[::-1])
    forward, backward = mirrored[::-1, :, :H], mirrored[::-1, :, H:]
    np.testing.assert_array_equal(np.concatenate([backward, forward], axis=-1), output, strict=True)
    for part, expected in zip(mirrored_final, final, strict=True):
        np.testing.assert_array_equal(part[::-1], expected, strict=True)


# --- the trace ----------------------------------------------------------------------------------------

TERMS = {
    "lstm": "i_pre f_pre g_pre o_pre i f g o c h",
    "gru": "r_pre z_pre n_pre r z n h",
    "rnn_tanh": "a_pre h",
    "rnn_relu": "a_pre h",
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("length", [T, 1, 0])
def test_the_trace_is_what_the_network_computes(cell, length):
    rng = np.random.default_rng(6)
    recurrent = Recurrent(cell, random_weights(rng, cell, I, H, 3))
    x = rng.normal(size=(length, I))
    output, final = recurrent(x)
    traced = trace(recurrent, x)
    assert {name: array.shape for name, array in traced.items()} == dict.fromkeys(
        TERMS[cell].split(), (length, 3, H)
    )
    np.testing.assert_array_equal(traced["h"][:, -1], output, strict=True)
    if length:
        np.testing.assert_array_equal(traced["h"][-1], final[0], strict=True)
    if cell == "lstm" and length:
        np.testing.assert_array_equal(traced["c"][-1], final[1], strict=True)


def test_the_trace_obeys_the_equations():
    rng = np.random.default_rng(7)
    weights = random_weights(rng, "lstm", I, H, 2)
    x = rng.normal(size=(T, I))
    traced = trace(Recurrent("lstm", weights), x)
    # recomputed below in one product for all steps, which BLAS may round differently
    close = {"rtol": 0, "atol": 1e-13, "strict": True}
    before = {name: np.concatenate([np.zeros((1, 2, H)), traced[name][:-1]]) for name in "ch"}
    for l, below in enumerate((x, traced["h"][:, 0])):
        pre = below @ weights[f"weight_ih_l{l}"].T + weights[f"bias_ih_l{l}"]
        pre += before["h"][:, l] @ weights[f"weight_hh_l{l}"].T + weights[f"bias_hh_l{l}"]
        for k, name in enumerate("ifgo"):
            np.testing.assert_allclose(traced[f"{name}_pre"][:, l], pre[:, k * H : (k + 1) * H], **close)
    for name in "ifo":
        np.testing.assert_allclose(traced[name], 1 / (1 + np.exp(-traced[f"{name}_pre"])), **close)
    np.testing.assert_allclose(traced["g"], np.tanh(traced["g_pre"]), **close)
    c = traced["f"] * before["c"] + traced["i"] * traced["g"]
    np.testing.assert_allclose(traced["c"], c, **close)
    np.testing.assert_allclose(traced["h"], traced["o"] * np.tanh(traced["c"]), **close)


def test_the_trace_obeys_the_equations_of_the_others():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(T, I))
    # the same numbers in another order: a few roundings
    close = {"rtol": 0, "atol": 1e-14, "strict": True}
    for cell, activation in (("rnn_tanh", np.tanh), ("rnn_relu", lambda a: np.maximum(0, a))):
        traced = trace(Recurrent(cell, random_weights(rng, cell, I, H, 2)), x)
        np.testing.assert_allclose(traced["h"], activation(traced["a_pre"]), **close)
    traced = trace(Recurrent("gru", random_weights(rng, "gru", I, H, 2)), x)
    before = np.concatenate([np.zeros((1, 2, H)), traced["h"][:-1]])
    for name in "rz":
        np.testing.assert_allclose(traced[name], 1 / (1 + np.exp(-traced[f"{name}_pre"])), **close)
    np.testing.assert_allclose(traced["n"], np.tanh(traced["n_pre"]), **close)
    np.testing.assert_allclose(traced["h"], traced["n"] + traced["z"] * (before - traced["n"]), **close)


def test_the_trace_follows_one_direction_and_one_stream():
    rng = np.random.default_rng(8)
    one, both = (Recurrent("gru", random_weights(rng, "gru", I, H, 1, True, d)) for d in (False, True))
    with pytest.raises(ValueError, match="one direction"):
        trace(both, np.zeros((T, I)))
    with pytest.raises(ValueError, match=r"shape \(7, 6, 5\), expected \(T, 5\)"):
        trace(one, np.zeros((T, B, I)))


# --- the edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sigmoid_is_safe(dtype):
    assert sigmoid(np.array([], dtype)).shape == (0,)
    with np.errstate(all="raise", under="ignore"):  # x / 2 of the smallest x underflows, to the right value
        y = sigmoid(
            np.array([-np.inf, np.finfo(dtype).min, -400, 0, 400, np.finfo(dtype).max, np.inf], dtype)
        )
        assert np.isnan(sigmoid(np.array(np.nan, dtype)))
    np.testing.assert_array_equal(y, np.array([0, 0, 0, 0.5, 1, 1, 1], dtype), strict=True)
    x = np.linspace(-12, 12, 101)
    # tanh is correct to about an ulp of 1
    tolerance = 2 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(
        sigmoid(x.astype(dtype)), 1 / (1 + np.exp(-x.astype(dtype).astype(float))), rtol=0, atol=tolerance
    )
    assert sigmoid([-1, 0, 1]).tolist() == sigmoid(np.array([-1.0, 0.0, 1.0])).tolist()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e4, 1e38])
@pytest.mark.parametrize("hidden", [1, H])
def test_huge_inputs_saturate(cell, dtype, scale, hidden):
    rng = np.random.default_rng(9)
    recurrent = Recurrent(cell, random_weights(rng, cell, I, hidden, dtype=dtype))
    x = (scale * rng.choice([-1.0, 1.0], size=(T, B, I))).astype(dtype)
    output, final = recurrent(x)
    assert all(np.isfinite(array).all() for array in (output, *final))
    assert np.abs(output).max() <= 1
    assert np.abs(final[-1]).max() <= (T if cell == "lstm" else 1)  # c grows by at most 1 a step


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e4), (np.float64, 1e4), (np.float64, 1e38)])
@pytest.mark.parametrize("hidden", [1, H])
def test_relu_carries_huge_inputs_as_long_as_they_fit(dtype, scale, hidden):
    rng = np.random.default_rng(9)
    recurrent = Recurrent("rnn_relu", random_weights(rng, "rnn_relu", I, hidden, dtype=dtype))
    x = (scale * rng.choice([-1.0, 1.0], size=(T, B, I))).astype(dtype)
    output, _ = recurrent(x)
    assert scale < output.max() < scale * (I + hidden) ** T  # |W| <= 1


@pytest.mark.parametrize("cell", CELLS)
def test_numbers_beyond_the_range_are_a_clear_error(cell):
    weights = {name: np.full(shape, 10, np.float32) for name, shape in parameter_shapes(cell, 1, 1).items()}
    recurrent = Recurrent(cell, weights)
    opposed = tuple(np.full_like(part, -1e38) for part in recurrent.zero_state())
    for x, state in ((1e38, opposed), (np.nan, None)):  # W_ih x + W_hh h = inf - inf, which is no number
        with pytest.raises(FloatingPointError, match=f"{cell} is not finite in float32"):
            recurrent([[x]], state)


def test_an_overflow_of_the_state_is_an_error():
    recurrent = Recurrent(
        "rnn_relu", {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.full((1, 1), 1e100)}
    )
    assert recurrent(np.ones((3, 1)))[1][0] == 1e200
    with pytest.raises(FloatingPointError, match="rnn_relu is not finite in float64"):
        recurrent(np.ones((5, 1)))
    with pytest.raises(FloatingPointError, match="rnn_relu is not finite in float64"):
        trace(recurrent, np.ones((5, 1)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("length", "batch"), [(0, 3), (4, 0), (0, 0), (0, None)])
def test_no_time_and_no_batch(cell, bidirectional, length, batch):
    rng = np.random.default_rng(10)
    recurrent = Recurrent(cell, random_weights(rng, cell, 2, 1, 2, True, bidirectional))
    streams = () if batch is None else (batch,)
    directions = 2 if bidirectional else 1
    start = tuple(rng.normal(size=(2 * directions, *streams, 1)) for _ in recurrent.zero_state())
    output, final = recurrent(np.zeros((length, *streams, 2)), start)
    assert output.shape == (length, *streams, directions)
    for part, expected in zip(final, start, strict=True):
        np.testing.assert_array_equal(part, expected, strict=True)  # nothing happened to it


def test_lists_integers_and_other_floats_take_the_dtype_of_the_weights():
    rng = np.random.default_rng(11)
    recurrent = Recurrent("gru", random_weights(rng, "gru", 2, 3, dtype=np.float32))
    expected, expected_final = recurrent(
        np.array([[1, 2], [3, 4]], np.float32), (np.ones((1, 3), np.float32),)
    )
    for x in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]], np.float16)):
        output, final = recurrent(x, [[[1, 1, 1]]])
        np.testing.assert_array_equal(output, expected, strict=True)
        np.testing.assert_array_equal(final[0], expected_final[0], strict=True)


def without(weights, name):
    return {k: v for k, v in weights.items() if k != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {}, "need a matrix 'weight_ih_l0'"),
        (lambda w: without(w, "weight_hh_l1"), "'weight_ih_l1' is .*expected no such name"),
        (lambda w: without(w, "bias_hh_l1_reverse"), "'bias_hh_l1_reverse' is missing, expected \\(12,\\)"),
        (
            lambda w: w | {"weight_ih_l1": np.zeros((12, 3))},
            "'weight_ih_l1' is \\(12, 3\\), expected \\(12, 6\\)",
        ),
        (lambda w: w | {"weight_hr_l0": np.zeros((2, 3))}, "'weight_hr_l0' is .*expected no such name"),
        (lambda w: {k: v.astype(np.float16) for k, v in w.items()}, "float64, got float16: use astype"),
        (lambda w: {k: v.astype(int) for k, v in w.items()}, "got int64: use astype"),
        (lambda w: w | {"bias_hh_l0": np.zeros(12, np.float32)}, "got float32, float64: use astype"),
    ],
)
def test_weights_that_are_not_one_network(change, message):
    weights = random_weights(np.random.default_rng(12), "lstm", 2, 3, 2, True, True)
    Recurrent("lstm", weights)
    with pytest.raises(ValueError, match=message):
        Recurrent("lstm", change(weights))
    with pytest.raises(ValueError, match=r"'weight_ih_l0' is \(12, 2\), expected \(9, 2\)"):
        Recurrent("gru", weights)


@pytest.mark.parametrize(
    ("x", "state", "message"),
    [
        (np.zeros((7, 4)), None, r"\(7, 4\), expected \(T, 2\) or \(T, B, 2\)"),
        (np.zeros(2), None, "shape"),
        (np.zeros((1, 1, 1, 2)), None, "shape"),
        ([], None, "shape"),
        (np.zeros((7, 4, 2)), (np.zeros((1, 4, 3)),), r"lstm is \(h, c\), each \(1, 4, 3\); got"),
        (np.zeros((7, 4, 2)), (np.zeros((1, 4, 3)), np.zeros((1, 1, 3))), "each"),  # would broadcast
        (np.zeros((7, 2)), (np.zeros((1, 1, 3)), np.zeros((1, 1, 3))), r"each \(1, 3\)"),
    ],
)
def test_shapes_that_do_not_fit(x, state, message):
    recurrent = Recurrent("lstm", random_weights(np.random.default_rng(13), "lstm", 2, 3))
    with pytest.raises(ValueError, match=message):
        recurrent(x, state)
