"""The torch cells: outputs, states, gradients, parameters and initial weights of torch.nn."""

import copy

import numpy as np
import pytest
import torch
from recurrences import CELLS, NETWORKS, STATES, B, H, I, T, fused, parts, random_state
from torch import nn

from charlstm.cells import numpy_cells
from charlstm.cells.torch_cells import CELLS as STEPS
from charlstm.cells.torch_cells import Recurrent

FLOAT64 = {"dtype": torch.float64}


def pair(cell, *args, **options):
    """Ours and torch.nn's with the same weights, in float64."""
    theirs = fused(cell, *args, **options).double()
    ours = Recurrent(cell, *args, **options).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


# --- the values and the gradients ---------------------------------------------------------------------


def run(module, x, state, probes):
    """Outputs and the gradients of everything that has one, for a loss that weighs every number otherwise."""
    leaves = [x.clone().requires_grad_(), *(part.clone().requires_grad_() for part in state)]
    arguments = tuple(leaves[1:]) if len(leaves) == 3 else leaves[1] if len(leaves) == 2 else None
    output, final = module(leaves[0], arguments)
    results = [output, *parts(final)]
    loss = sum((result * probe).sum() for result, probe in zip(results, probes, strict=True))
    return results, torch.autograd.grad(loss, [*module.parameters(), *leaves])


@NETWORKS
@STATES
def test_values_and_gradients_are_torchs(cell, layers, bidirectional, bias, given):
    torch.manual_seed(1)
    ours, theirs = pair(cell, I, H, num_layers=layers, bias=bias, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    x = torch.randn(T, B, I, **FLOAT64)
    start = parts(random_state(cell, layers * directions, B, H, **FLOAT64))
    probes = [torch.randn(T, B, directions * H, **FLOAT64), *(torch.randn_like(part) for part in start)]
    results, gradients = run(ours, x, start if given else (), probes)
    expected, expected_gradients = run(theirs, x, start if given else (), probes)
    for result, value in zip(results, expected, strict=True):
        # rounding: some tens of operations a step on values of about 1, in float64
        torch.testing.assert_close(result, value, rtol=0, atol=1e-12)
    for gradient, value in zip(gradients, expected_gradients, strict=True):
        # rounding again, summed over T, B and the layers in another order
        torch.testing.assert_close(gradient, value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_gradcheck(cell):
    torch.manual_seed(2)
    module = Recurrent(cell, 3, 2, num_layers=2, bidirectional=True).double()
    names = [name for name, _ in module.named_parameters()]
    x = torch.randn(3, 2, 3, **FLOAT64)
    state = parts(random_state(cell, 4, 2, 2, **FLOAT64))

    def function(x, *rest):
        state, weights = rest[: len(start)], dict(zip(names, rest[len(start) :], strict=True))
        output, final = torch.func.functional_call(module, weights, (x, state))
        return output, *parts(final)

    start = [part.requires_grad_() for part in state]
    weights = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]
    assert torch.autograd.gradcheck(function, (x.requires_grad_(), *start, *weights))


@pytest.mark.parametrize("cell", CELLS)
def test_float32_follows_the_fused_kernel_over_2000_steps(cell):
    torch.manual_seed(3)
    theirs = fused(cell, I, H, num_layers=2)
    ours = Recurrent(cell, I, H, num_layers=2)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2000, B, I)
    with torch.no_grad():
        (output, final), (expected, expected_final) = ours(x), theirs(x)
    # float32 rounds at 6e-8; errors fade with the state instead of adding up over the steps
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    for part, value in zip(parts(final), parts(expected_final), strict=True):
        torch.testing.assert_close(part, value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_both_engines_say_the_same(cell, bidirectional):
    torch.manual_seed(4)
    module = Recurrent(cell, I, H, num_layers=3, bidirectional=bidirectional).double()
    recurrent = numpy_cells.Recurrent(cell, {k: v.numpy() for k, v in module.state_dict().items()})
    x = torch.randn(T, I, **FLOAT64)  # one stream, which torch.nn takes as well
    state = random_state(cell, 6 if bidirectional else 3, H, **FLOAT64)
    with torch.no_grad():
        output, final = module(x, state)
        expected, expected_final = fused_like(cell, module)(x, state)
    numpy_output, numpy_final = recurrent(x.numpy(), [part.numpy() for part in parts(state)])
    # rounding, as above
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(numpy_output, output.numpy(), rtol=0, atol=1e-12, strict=True)
    for ours, theirs, numpy_part in zip(parts(final), parts(expected_final), numpy_final, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        np.testing.assert_allclose(numpy_part, ours.numpy(), rtol=0, atol=1e-12, strict=True)


def fused_like(cell, module):
    """torch.nn's module with the sizes and weights of ours."""
    names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional")
    theirs = fused(cell, **{name: getattr(module, name) for name in names}).to(module.weight_ih_l0.dtype)
    theirs.load_state_dict(module.state_dict())
    return theirs


@pytest.mark.parametrize("cell", CELLS)
def test_both_directions_of_the_reversed_input(cell):
    torch.manual_seed(5)
    module = Recurrent(cell, I, H, bidirectional=True)
    other = {
        k: k.removesuffix("_reverse") if k.endswith("_reverse") else k + "_reverse"
        for k in module.state_dict()
    }
    mirror = copy.deepcopy(module)
    mirror.load_state_dict({name: module.state_dict()[other[name]] for name in other})
    x = torch.randn(T, B, I)
    with torch.no_grad():
        (output, final), (mirrored, mirrored_final) = module(x), mirror(x.flip(0))
    forward, backward = mirrored.flip(0).chunk(2, dim=-1)
    assert torch.equal(torch.cat([backward, forward], dim=-1), output)
    for part, value in zip(parts(mirrored_final), parts(final), strict=True):
        assert torch.equal(part.flip(0), value)


@pytest.mark.parametrize("cell", CELLS)
def test_a_cut_sequence_goes_on(cell):
    torch.manual_seed(6)
    module = Recurrent(cell, I, H, num_layers=2)
    x = torch.randn(T, B, I)
    with torch.no_grad():
        whole, final = module(x)
        first, state = module(x[:3])
        second, state = module(x[3:], state)
    # float32: some processors' libraries add up in another order where a product has fewer rows
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(parts(state), parts(final), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_a_sequence_of_one(cell):
    torch.manual_seed(7)
    module = Recurrent(cell, I, H)
    x, start = torch.randn(1, B, I), parts(random_state(cell, 1, B, H))
    with torch.no_grad():
        _, final = module(x, start)
        state = STEPS[cell](x[0], tuple(part[0] for part in start), *module.parameters())
    for part, value in zip(parts(final), state, strict=True):
        assert torch.equal(part[0], value)


# --- the parameters -----------------------------------------------------------------------------------


@NETWORKS
def test_initial_weights_names_and_order_are_torchs(cell, layers, bidirectional, bias):
    options = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional}
    torch.manual_seed(8)
    theirs, next_number = fused(cell, I, H, **options), torch.rand(1)
    torch.manual_seed(8)
    ours = Recurrent(cell, I, H, **options)
    assert torch.equal(torch.rand(1), next_number)  # as many draws, so that all that follows is the same too
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_dict_goes_both_ways(cell):
    ours = Recurrent(cell, I, H, num_layers=2, bidirectional=True)
    theirs = fused(cell, I, H, num_layers=2, bidirectional=True)
    assert not torch.equal(ours.weight_hh_l1_reverse, theirs.weight_hh_l1_reverse)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours.weight_hh_l1_reverse, theirs.weight_hh_l1_reverse)
    nn.init.normal_(theirs.bias_ih_l1)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_the_module_prints_its_arguments():
    assert str(Recurrent("gru", 5, 9, bias=False)) == (
        "Recurrent('gru', input_size=5, hidden_size=9, num_layers=1, bias=False, bidirectional=False)"
    )


# --- the edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("scale", [1e4, 1e38])
@pytest.mark.parametrize("hidden", [1, H])
def test_huge_inputs_saturate(cell, scale, hidden):
    torch.manual_seed(9)
    module = Recurrent(cell, I, hidden)
    x = scale * (2 * torch.randint(2, (T, B, I)) - 1).float()
    output, final = module(x)
    (gradient,) = torch.autograd.grad(output.sum(), module.weight_hh_l0)
    assert all(tensor.isfinite().all() for tensor in (output, *parts(final), gradient))
    assert output.abs().max() <= 1


@pytest.mark.parametrize("cell", CELLS)
def test_numbers_beyond_the_range_are_a_clear_error(cell):
    module = Recurrent(cell, 1, 1)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 10)
    h = torch.full((1, 1), -1e38)
    for x, state in ((1e38, (h, h) if cell == "lstm" else h), (float("nan"), None)):  # inf - inf is no number
        with pytest.raises(FloatingPointError, match=f"{cell} is not finite in torch.float32"):
            module(torch.tensor([[x]]), state)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("length", "batch"), [(0, 3), (4, 0), (0, 0), (0, None)])
def test_no_time_and_no_batch(cell, bidirectional, length, batch):
    module = Recurrent(cell, 2, 1, num_layers=2, bidirectional=bidirectional)
    streams = () if batch is None else (batch,)
    directions = 2 if bidirectional else 1
    start = random_state(cell, 2 * directions, *streams, 1)
    output, final = module(torch.zeros(length, *streams, 2), start)
    assert output.shape == (length, *streams, directions)
    for part, value in zip(parts(final), parts(start), strict=True):
        assert torch.equal(part, value)  # nothing happened to it


@pytest.mark.parametrize(
    ("cell", "x", "state", "error", "message"),
    [
        ("lstm", torch.zeros(7, 4), None, ValueError, r"\(7, 4\), expected \(T, 2\) or \(T, B, 2\)"),
        ("lstm", torch.zeros(2), None, ValueError, "shape"),
        (
            "lstm",
            torch.zeros(7, 4, 2),
            torch.zeros(1, 4, 3),
            ValueError,
            r"lstm is \(h, c\), each \(1, 4, 3\)",
        ),
        ("gru", torch.zeros(7, 4, 2), torch.zeros(1, 1, 3), ValueError, r"gru is \(h\), each \(1, 4, 3\)"),
        (
            "gru",
            torch.zeros(7, 2),
            (torch.zeros(1, 3),) * 2,
            ValueError,
            r"each \(1, 3\); got \[\(1, 3\), \(1, 3\)\]",
        ),
        ("gru", torch.zeros(7, 2, dtype=torch.float64), None, RuntimeError, "same dtype"),
        ("gru", torch.zeros(7, 2, dtype=torch.float16), None, RuntimeError, "same dtype"),
        ("gru", torch.zeros(7, 2, dtype=torch.int64), None, RuntimeError, "same dtype"),
    ],
)
def test_inputs_that_do_not_fit(cell, x, state, error, message):
    with pytest.raises(error, match=message):
        Recurrent(cell, 2, 3)(x, state)


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision_works(cell):
    torch.manual_seed(10)
    module = Recurrent(cell, I, H)
    x = torch.randn(T, B, I)
    output, _ = module(x)
    half, _ = copy.deepcopy(module).half()(x.half())
    # float16 rounds at 5e-4
    torch.testing.assert_close(half.float(), output, rtol=0, atol=5e-3)


def test_arguments_that_make_no_network():
    with pytest.raises(ValueError, match="no cell 'elman'"):
        Recurrent("elman", 2, 3)
    with pytest.raises(ValueError, match="input_size=0"):
        Recurrent("gru", 0, 3)
