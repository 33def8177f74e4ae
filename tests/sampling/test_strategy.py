"""Each strategy draws with the probabilities that its definition gives, worked out here in plain Python."""

import warnings

import numpy as np
import pytest

from charlstm.sampling.strategy import Strategy

DRAWS = 100_000
SCORES = np.array([1.0, -0.5, 2.0, 0.0, -3.0, 1.0, 0.7, -9.0], dtype=np.float32)
# chi-square with 7 degrees of freedom exceeds this once in 10,000 seeds
LIMIT = 29.9

FREE = {"temperature": 1.0}
STRATEGIES = [
    FREE,
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"temperature": 100.0},
    {**FREE, "top_k": 3},
    {**FREE, "top_k": 100},
    {**FREE, "top_p": 0.7},
    {**FREE, "top_p": 1.0},
    {**FREE, "min_p": 0.2},
    {**FREE, "min_p": 0.0},
    {**FREE, "repetition_penalty": 4.0},
    {**FREE, "repetition_penalty": 0.5},
    {**FREE, "ban": [2, 4]},
    {"temperature": 1.5, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.7, "ban": [0]},
]
REPEATED = np.array([True, False, True, False, False, False, False, True])


def strategy_of(keys):
    mask = np.zeros(len(SCORES))
    mask[keys.get("ban", [])] = -np.inf
    return Strategy(**{key: value for key, value in keys.items() if key != "ban"}, mask=mask)


def by_definition(temperature, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0, ban=()):
    """id -> probability, step by step as the module says it."""
    weights = {k: np.exp(float(score)) for k, score in enumerate(SCORES)}
    for k in ban:
        weights[k] = 0.0
    for k in np.flatnonzero(REPEATED):
        weights[k] /= repetition_penalty
    weights = {k: weight ** (1 / temperature) for k, weight in weights.items()}
    ranked = sorted(weights, key=lambda k: (-weights[k], k))
    ranked = ranked[:top_k]
    if top_p is not None:
        total, needed, kept = sum(weights[k] for k in ranked), 0.0, []
        for k in ranked:
            if needed < top_p * total:
                kept.append(k)
            needed += weights[k]
        ranked = kept
    if min_p is not None:
        ranked = [k for k in ranked if weights[k] >= min_p * weights[ranked[0]]]
    total = sum(weights[k] for k in ranked)
    return np.array([weights[k] / total if k in ranked else 0.0 for k in range(len(SCORES))])


@pytest.mark.parametrize("keys", STRATEGIES, ids=str)
def test_frequencies_are_the_probabilities(keys):
    strategy = strategy_of(keys)
    expected = by_definition(**keys)
    repeated = REPEATED[None] if "repetition_penalty" in keys else None
    # both in float64; their sums are of another order
    (likelihoods,) = strategy.likelihoods(SCORES[None], repeated)
    np.testing.assert_allclose(likelihoods / likelihoods.sum(), expected, atol=1e-12)
    drawn = strategy.choose(
        np.tile(SCORES, (DRAWS, 1)),
        np.random.default_rng(1).random(DRAWS),
        None if repeated is None else np.tile(repeated, (DRAWS, 1)),
    )
    counts = np.bincount(drawn, minlength=len(SCORES))
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert ((counts - DRAWS * expected)[possible] ** 2 / (DRAWS * expected[possible])).sum() < LIMIT


def test_streams_are_chosen_for_one_by_one():
    random = np.random.default_rng(2)
    scores, uniform = random.standard_normal((50, 7)).astype(np.float32), random.random(50)
    repeated = random.random((50, 7)) < 0.3
    strategy = Strategy(temperature=0.9, top_k=5, top_p=0.8, min_p=0.05, repetition_penalty=2)
    together = strategy.choose(scores, uniform, repeated)
    alone = [strategy.choose(scores[[b]], uniform[[b]], repeated[[b]])[0] for b in range(50)]
    assert together.tolist() == alone


def test_scores_are_left_unchanged():
    scores = SCORES[None].copy()
    strategy_of(STRATEGIES[-1]).choose(scores, np.array([0.5]), REPEATED[None])
    np.testing.assert_array_equal(scores[0], SCORES)


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-9, 1e-3])
def test_cold_is_the_likeliest_and_the_first_of_equals(temperature):
    strategy = Strategy(temperature=temperature)
    scores = np.array([[1.0, 3.0, 2.0]])
    for uniform in (0.0, 0.999):
        assert strategy.choose(scores, np.array([uniform])).tolist() == [1]
    assert Strategy().choose(np.array([[5.0, 5.0, 1.0]]), np.array([0.5])).tolist() == [0]
    assert Strategy(temperature=1, top_k=1).choose(np.array([[5.0, 5.0]]), np.array([0.9])).tolist() == [0]


def test_at_temperature_0_bans_and_penalties_count():
    scores = np.array([[3.0, 2.0, 1.0]])
    assert Strategy(mask=np.array([-np.inf, 0, 0])).choose(scores, np.zeros(1)).tolist() == [1]
    seen = np.array([[True, False, False]])
    assert Strategy(repetition_penalty=10).choose(scores, np.zeros(1), seen).tolist() == [1]


def test_no_temperature_and_no_score_overflows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (0, 1e-308, 1e-30, 1.0, 100.0):
            for scale in (1e-30, 1.0, 1e30):
                for keys in (
                    {},
                    {"top_p": 1e-300},
                    {"top_k": 2},
                    {"min_p": 1.0},
                    {"repetition_penalty": 1e6},
                ):
                    scores = (np.array([[-1.0, 0.5, 1.0, -np.inf]]) * scale).astype(np.float32)
                    strategy = Strategy(temperature=temperature, **keys)
                    for uniform in (0.0, np.nextafter(1, 0)):
                        seen = np.array([[False, True, False, True]])
                        assert strategy.choose(scores, np.array([uniform]), seen)[0] in (0, 1, 2)
                    assert temperature == 0 or np.isfinite(strategy.likelihoods(scores)).all()
