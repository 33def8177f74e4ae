"""How the next character is chosen: scores -> probabilities -> one of them. Many streams side by side.

A strategy is applied in this order, each step to what the one before has left:

1. the start token and the characters of `ban` get probability 0;
2. `repetition_penalty`: the probability of every character among the last `repetition_window` is divided
   by it (Keskar et al. 2019, "CTRL", whose division of the score itself depends on where its zero lies);
3. `temperature`: probabilities to the power of 1 / temperature; at 0 the likeliest is taken, and no more;
4. `top_k`: the k likeliest (Fan et al. 2018, "Hierarchical neural story generation");
5. `top_p`: the fewest likeliest that together have at least the probability p (Holtzman et al. 2020, "The
   curious case of neural text degeneration");
6. `min_p`: those at least p times as likely as the likeliest (Nguyen et al. 2024, "Turning up the heat").

What is left is scaled to sum to 1. Of equals the one with the lower id is the likelier, and one character
is always left.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Strategy:
    """What the choice of a character depends on; None, or a penalty of 1, leaves a step out. `mask` is added
    to the scores: `(V,)`, -inf where an id is never to be chosen and 0 elsewhere, or just 0."""

    temperature: float = 0.0  # 0 or more
    top_k: int | None = None  # 1 or more
    top_p: float | None = None  # above 0, at most 1
    min_p: float | None = None  # from 0 to 1
    repetition_penalty: float = 1.0  # above 0; below 1 it favours repetition
    repetition_window: int = 64  # how many of the latest characters it looks at, 1 or more
    mask: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))

    def choose(self, scores: Floats, uniform: Floats, repeated: Booleans | None = None) -> Integers:
        """The next id of each stream, `(B,)`, of unnormalised log-probabilities, `scores (B, V)`, by random
        numbers from 0 to 1 (1 excluded), `uniform (B,)`; `repeated (B, V)` are under the penalty."""
        if self.temperature == 0:
            return np.asarray(self._adjusted(scores, repeated).argmax(axis=1))
        cumulative = self.likelihoods(scores, repeated).cumsum(axis=1)
        # compared with the last sum, not with 1, which rounding may miss: there is always a choice
        return np.asarray((cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=1))

    def likelihoods(self, scores: Floats, repeated: Booleans | None = None) -> NDArray[np.float64]:
        """The probabilities `(B, V)` of a temperature above 0, but for a factor: the likeliest has 1."""
        adjusted = self._adjusted(scores, repeated)
        adjusted -= adjusted.max(axis=1, keepdims=True)  # at most 0, so that nothing overflows
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, as it should
            likely = np.exp(adjusted / self.temperature)
        if self.top_k is not None or self.top_p is not None:
            order = (-likely).argsort(axis=1, kind="stable")
            ordered = np.take_along_axis(likely, order, axis=1)
            if self.top_k is not None:
                ordered[:, self.top_k :] = 0
            if self.top_p is not None:
                cumulative = ordered.cumsum(axis=1)
                # a character goes where those before it already have the probability p
                ordered[:, 1:][cumulative[:, :-1] >= self.top_p * cumulative[:, -1:]] = 0
            np.put_along_axis(likely, order, ordered, axis=1)
        if self.min_p is not None:
            likely[likely < self.min_p] = 0  # the likeliest has 1
        return likely

    def _adjusted(self, scores: Floats, repeated: Booleans | None) -> NDArray[np.float64]:
        """A copy of the scores after the ban and the repetition penalty."""
        adjusted: NDArray[np.float64] = scores + self.mask
        if repeated is not None:
            adjusted[repeated] -= np.log(self.repetition_penalty)
        return adjusted
