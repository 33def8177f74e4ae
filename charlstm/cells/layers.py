"""From one step to a layer, a reversed layer, both directions and a stack.

Plain Python over lists, one array `(B, ...)` per time step, so that the same four functions serve NumPy
and torch. A step is `step(x_t, state, *weights) -> state`, and the output of a step is its h, the first
part of the state. `states` and `weights` hold one entry per layer and direction, in the order of torch.nn:
l0, l0_reverse, l1, l1_reverse, ...
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")  # np.ndarray or torch.Tensor
State = tuple[A, ...]
Step = Callable[..., State[A]]
Join = Callable[[tuple[A, A]], A]


def layer(step: Step[A], x: Sequence[A], state: State[A], weights: Sequence[A]) -> tuple[list[A], State[A]]:
    """state_t = step(x_t, state_{t-1}),  output_t = h_t

    T inputs `(B, I)` -> T outputs `(B, H)` and the final state, from which the sequence goes on. Every
    step makes its own products: one product for the whole sequence would be faster, but BLAS rounds
    products of other shapes otherwise, and then a sequence that is cut would not give the same bits.
    """
    output = []
    for x_t in x:
        state = step(x_t, state, *weights)
        output.append(state[0])
    return output, state


def reversed_layer(
    step: Step[A], x: Sequence[A], state: State[A], weights: Sequence[A]
) -> tuple[list[A], State[A]]:
    """The layer that reads from x_T to x_1; its output is reversed back, so that output_t belongs to x_t."""
    output, state = layer(step, x[::-1], state, weights)
    return output[::-1], state


def both_directions(
    step: Step[A],
    x: Sequence[A],
    states: Sequence[State[A]],
    weights: Sequence[Sequence[A]],
    join: Join[A],
) -> tuple[list[A], list[State[A]]]:
    """output_t = [h_t of the layer; h_t of the reversed layer], `(B, 2*H)`

    Schuster & Paliwal 1997, "Bidirectional recurrent neural networks".
    """
    forward, final = layer(step, x, states[0], weights[0])
    backward, final_reverse = reversed_layer(step, x, states[1], weights[1])
    return [join(pair) for pair in zip(forward, backward, strict=True)], [final, final_reverse]


def stack(
    step: Step[A],
    x: Sequence[A],
    states: Sequence[State[A]],
    weights: Sequence[Sequence[A]],
    join: Join[A] | None = None,
) -> tuple[Sequence[A], list[State[A]]]:
    """Layers upon layers, each reading the output of the one below; with `join`, each in both directions."""
    directions = 1 if join is None else 2
    finals: list[State[A]] = []
    for k in range(0, len(weights), directions):
        if join is None:
            x, final = layer(step, x, states[k], weights[k])
            finals.append(final)
        else:
            x, pair = both_directions(step, x, states[k : k + 2], weights[k : k + 2], join)
            finals.extend(pair)
    return x, finals
