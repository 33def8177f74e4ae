"""How torch.nn lays out the weights of a recurrent layer: their names, their shapes, their gates.

The rows of a `weight_ih_l0` are the matrices of all its gates, one below the other:

    lstm       (4H, I)   input, forget, cell, output
    gru        (3H, I)   reset, update, new
    rnn_*       (H, I)   hidden

`weight_hh_l0` (hidden to hidden, H columns) and the two biases are stacked in the same order. This
module imports neither NumPy nor torch: what it says holds for the arrays of both.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

GATES: dict[str, tuple[str, ...]] = {
    "lstm": ("input", "forget", "cell", "output"),
    "gru": ("reset", "update", "new"),
    "rnn_tanh": ("hidden",),
    "rnn_relu": ("hidden",),
}
STATE = {"lstm": ("h", "c"), "gru": ("h",), "rnn_tanh": ("h",), "rnn_relu": ("h",)}
Matrix = TypeVar("Matrix", bound=Any)  # an array of NumPy's or of torch's


def gate(matrix: Matrix, cell: str, name: str) -> Matrix:
    """The rows of one gate in a weight `(G*H, ...)` or bias `(G*H,)`, as a view, which reads and writes:
    `(H, ...)` or `(H,)`.

        gate(weights["weight_hh_l0"], "lstm", "cell")               # (H, H)
        gate(weights["bias_ih_l0"], "lstm", "forget")[...] = 1.0    # of torch within torch.no_grad()
    """
    names = _gates_of(cell)
    if name not in names:
        raise ValueError(f"{cell} has no gate {name!r}; its gates are {', '.join(names)}")
    rows = matrix.shape[0]
    if rows % len(names):
        raise ValueError(f"{rows} rows do not divide into the {len(names)} gates of {cell}")
    hidden, k = rows // len(names), names.index(name)
    return matrix[k * hidden : (k + 1) * hidden]  # type: ignore[no-any-return]  # a slice of a Matrix is one


def parameter_names(num_layers: int, bias: bool, bidirectional: bool) -> list[list[str]]:
    """torch.nn's names, one list for each layer and direction: l0, l0_reverse, l1, l1_reverse, ..."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if bias else 2]
    suffixes = ("", "_reverse")[: 2 if bidirectional else 1]
    return [[f"{kind}_l{l}{suffix}" for kind in kinds] for l in range(num_layers) for suffix in suffixes]


def layer_of(name: str) -> str:
    """The layer of a model's parameter: `rnn_l0` for `rnn.weight_ih_l0`, `head` for `head.bias`."""
    return re.sub(r"\.(weight|bias)(_ih|_hh)?", "", name)


def is_recurrent(name: str) -> bool:
    """Whether a model's parameter is a matrix of a recurrent layer's gates."""
    return "weight_ih" in name or "weight_hh" in name


def parameter_shapes(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of torch.nn's RNN, GRU or LSTM, in torch.nn's order."""
    rows = len(_gates_of(cell)) * hidden_size
    if min(input_size, hidden_size, num_layers) < 1:
        raise ValueError(f"sizes start at 1; got {input_size=}, {hidden_size=}, {num_layers=}")
    directions = 2 if bidirectional else 1
    shapes: dict[str, tuple[int, ...]] = {}
    for k, names in enumerate(parameter_names(num_layers, bias, bidirectional)):
        columns = input_size if k < directions else directions * hidden_size
        shapes |= zip(names, ((rows, columns), (rows, hidden_size), (rows,), (rows,)), strict=False)
    return shapes


class Sizes(NamedTuple):
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool


def sizes_of(cell: str, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    """The inverse of `parameter_shapes`; ValueError unless the shapes are exactly those of one network."""
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if len(shapes.get(name, ())) != 2:
            raise ValueError(f"the weights need a matrix {name!r}; got {dict(shapes)}")
    bidirectional = "weight_hh_l0_reverse" in shapes
    sizes = Sizes(
        input_size=shapes["weight_ih_l0"][1],
        hidden_size=shapes["weight_hh_l0"][1],
        num_layers=sum(name.startswith("weight_hh_l") for name in shapes) // (2 if bidirectional else 1),
        bias="bias_ih_l0" in shapes,
        bidirectional=bidirectional,
    )
    expected = parameter_shapes(cell, *sizes)
    for name in expected | dict(shapes):
        if shapes.get(name) != expected.get(name):
            raise ValueError(
                f"not the weights of one {cell}: {name!r} is {shapes.get(name, 'missing')}, "
                f"expected {expected.get(name, 'no such name')} in {sizes}"
            )
    return sizes


def check_input(shape: Sequence[int], input_size: int, batch: bool = True) -> None:
    """ValueError unless `shape` is `(T, I)` or, where a batch may be, `(T, B, I)`."""
    if len(shape) not in ((2, 3) if batch else (2,)) or shape[-1] != input_size:
        wanted = f"(T, {input_size})" + (f" or (T, B, {input_size})" if batch else "")
        raise ValueError(f"x has the shape {tuple(shape)}, expected {wanted}")


def check_state(shapes: Sequence[Sequence[int]], cell: str, expected: tuple[int, ...]) -> None:
    """ValueError unless there is one shape for every part of the state of `cell`, all as expected."""
    found = [tuple(shape) for shape in shapes]
    if found != [expected] * len(STATE[cell]):
        raise ValueError(f"the state of {cell} is ({', '.join(STATE[cell])}), each {expected}; got {found}")


def not_finite(cell: str, dtype: object) -> FloatingPointError:
    """The error of both engines where an output or a state is infinite or not a number."""
    return FloatingPointError(
        f"the output or state of {cell} is not finite in {dtype}: look for huge or non-finite numbers in "
        "the input, the state and the weights"
    )


def _gates_of(cell: str) -> tuple[str, ...]:
    if cell not in GATES:
        raise ValueError(f"there is no cell {cell!r}; the cells are {', '.join(GATES)}")
    return GATES[cell]
