"""State + strategy -> the next character, in NumPy: the text that a model writes, fed its own output."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charlstm.numpy_model import NumpyModel
from charlstm.stepper import Stepper
from charlstm.vocabulary import Ids, Vocabulary


def choose(scores: NDArray[np.floating], temperature: float, random: np.random.Generator) -> int:
    """The next id, drawn from softmax(scores / temperature); at temperature 0 the likeliest.

    Args:
        scores: `(V,)`, unnormalised log-probabilities.
        temperature: 0 or more; at 0 the first of equals is chosen.
        random: the only source of chance.
    """
    if temperature == 0:
        return int(scores.argmax())
    relative = scores.astype(np.float64) - scores.max()  # at most 0, so that nothing overflows
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, as it should
        cumulative = np.exp(relative / temperature).cumsum()
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))


def generate(
    model: NumpyModel,
    vocabulary: Vocabulary,
    prompt: Ids | None = None,
    temperature: float = 0.0,
    random: np.random.Generator | None = None,
) -> Iterator[int]:
    """Ids one by one, for ever: each is fed back in; the first follows the start token and the prompt.

    The end token comes out like any character (stop there); the start token, which is never a target of
    training, is never chosen.

    Args:
        prompt: ids `(T,)` read before the first is written.
        temperature: see `choose`.
        random: needed above temperature 0.
    """
    random = random or np.random.default_rng()
    step = Stepper(model)
    scores = step([vocabulary.start])
    for known in [] if prompt is None else prompt:
        scores = step([known])
    while True:
        scores[0, vocabulary.start] = -np.inf
        chosen = choose(scores[0], temperature, random)
        yield chosen
        scores = step([chosen])


def recall(model: NumpyModel, vocabulary: Vocabulary, text: Ids) -> int:
    """How many symbols of a text come out right before the first error in a free run.

    The model starts from the start token and a zero state and reads nothing but its own output.

    Args:
        text: ids `(N,)` of the text between the start and the end token.

    Returns:
        N - 1 when the model knows the text by heart, end token included.
    """
    right = 0
    for written, wanted in zip(generate(model, vocabulary), text[1:].tolist(), strict=False):
        if written != wanted:
            break
        right += 1
    return right


def write(
    model: NumpyModel,
    vocabulary: Vocabulary,
    length: int,
    prompt: Ids | None = None,
    temperature: float = 0.0,
    random: np.random.Generator | None = None,
) -> Iterator[str]:
    """Characters one by one, at most `length` of them, until the end token. Arguments as for `generate`."""
    written = generate(model, vocabulary, prompt, temperature, random)
    for _, chosen in zip(range(length), written, strict=False):
        if chosen == vocabulary.end:
            return
        yield vocabulary.characters[chosen]
