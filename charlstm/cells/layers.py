"""What both engines share: from W x + b and one step to a layer, a reversed one, both directions, a stack.

Plain Python over lists, one array `(B, ...)` per time step, so that the same functions serve NumPy and torch.
A step is `step(x_t, state, *weights) -> state`, and the output of a step is its h, the first part of the
state. `states` and `weights` hold one entry per layer and direction, in the order of torch.nn:
l0, l0_reverse, l1, l1_reverse, ...
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

A = TypeVar("A", bound=Any)  # np.ndarray or torch.Tensor
State = tuple[A, ...]
Step = Callable[..., State[A]]


def affine(x: A, weight: A, bias: A | None) -> A:
    """W x + b for every row x: `(B, I)` -> `(B, rows of W)`."""
    product: A = x @ weight.T
    return product if bias is None else product + bias  # type: ignore[no-any-return]  # as above


def layer(step: Step[A], x: Sequence[A], state: State[A], weights: Sequence[A]) -> tuple[list[A], State[A]]:
    """state_t = step(x_t, state_{t-1}),  output_t = h_t

    T inputs `(B, I)` -> T outputs `(B, H)` and the final state. One product for the whole sequence would be
    faster, but BLAS rounds products of other shapes otherwise: cut sequences would not give the same bits."""
    output = []
    for x_t in x:
        state = step(x_t, state, *weights)
        output.append(state[0])
    return output, state


def stack(
    step: Step[A],
    x: Sequence[A],
    states: Sequence[State[A]],
    weights: Sequence[Sequence[A]],
    join: Callable[[tuple[A, A]], A] | None = None,
) -> tuple[Sequence[A], list[State[A]]]:
    """Layers upon layers, each reading the output of the one below.

    With `join` each is a pair, the second of which reads from x_T to x_1 (Schuster & Paliwal 1997,
    "Bidirectional recurrent neural networks"): output_t = [h_t of the one; h_t of the other], `(B, 2*H)`."""
    finals: list[State[A]] = []
    for k in range(0, len(weights), 1 if join is None else 2):
        output, final = layer(step, x, states[k], weights[k])
        finals.append(final)
        if join is not None:
            backward, final = layer(step, x[::-1], states[k + 1], weights[k + 1])
            finals.append(final)
            output = [join(pair) for pair in zip(output, backward[::-1], strict=True)]
        x = output
    return x, finals
