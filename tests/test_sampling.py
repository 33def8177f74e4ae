import itertools
import warnings

import numpy as np
import pytest
import torch
from conftest import settings

from charlstm import sampling
from charlstm.model import Model
from charlstm.vocabulary import Vocabulary

VOCABULARY = Vocabulary("abcdef")


def random_model(seed=0):
    torch.manual_seed(seed)
    return Model(settings("model.hidden=9").model, len(VOCABULARY)).in_numpy()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax_of_the_scores(temperature):
    scores = np.array([1.0, -0.5, 2.0, 0.0, -3.0], dtype=np.float32)
    random = np.random.default_rng(1)
    draws, n = (
        np.bincount([sampling.choose(scores, temperature, random) for _ in range(20_000)], minlength=5),
        20_000,
    )
    expected = np.exp(scores / temperature) / np.exp(scores / temperature).sum() * n
    # chi-square with 4 degrees of freedom; 23.5 is exceeded by chance once in 10,000 seeds
    assert ((draws - expected) ** 2 / expected).sum() < 23.5


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-9, 1e-3])
def test_cold_is_the_likeliest_and_the_first_of_equals(temperature):
    random = np.random.default_rng(0)
    assert sampling.choose(np.array([1.0, 3.0, 2.0]), temperature, random) == 1
    assert sampling.choose(np.array([5.0, 5.0, 1.0]), 0, random) == 0


def test_no_temperature_and_no_score_overflows():
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (0, 1e-308, 1e-30, 1.0, 100.0):
            for scale in (1e-30, 1.0, 1e30):
                scores = (np.array([-1.0, 0.5, 1.0, -np.inf]) * scale).astype(np.float32)
                assert sampling.choose(scores, temperature, random) in (0, 1, 2)


def test_the_same_seed_writes_the_same_text():
    model = random_model()
    texts = [
        "".join(sampling.write(model, VOCABULARY, 50, None, 1.0, np.random.default_rng(s))) for s in (7, 7, 8)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_the_start_token_is_never_written_and_the_end_token_ends():
    model = random_model()
    model.head[1][VOCABULARY.start] = 1e4  # the model wants nothing but the start token
    ids = list(
        itertools.islice(sampling.generate(model, VOCABULARY, None, 1.0, np.random.default_rng(0)), 200)
    )
    assert VOCABULARY.start not in ids
    text = "".join(sampling.write(model, VOCABULARY, 200, None, 1.0, np.random.default_rng(0)))
    assert text == VOCABULARY.decode(np.array(ids[: ids.index(VOCABULARY.end)]))


def test_what_is_written_is_fed_back():
    model = random_model()
    written = list(itertools.islice(sampling.generate(model, VOCABULARY, np.array([2, 0])), 12))
    scores, _ = model(np.array([VOCABULARY.start, 2, 0, *written]))
    scores[:, VOCABULARY.start] = -np.inf
    assert scores[2:-1].argmax(axis=1).tolist() == written


def test_a_prompt_is_as_if_written():
    model = random_model()
    whole = "".join(sampling.write(model, VOCABULARY, 20))
    assert whole, "this seed writes something"
    rest = "".join(sampling.write(model, VOCABULARY, 20 - 4, VOCABULARY.encode(whole[:4])))
    assert whole[:4] + rest == whole


def test_length_zero_writes_nothing():
    assert list(sampling.write(random_model(), VOCABULARY, 0)) == []


def test_recall_counts_up_to_the_first_error():
    model = random_model()
    written = list(itertools.islice(sampling.generate(model, VOCABULARY), 8))
    text = np.array([VOCABULARY.start, *written])
    assert sampling.recall(model, VOCABULARY, text) == 8
    text[4] = (text[4] + 1) % 6
    assert sampling.recall(model, VOCABULARY, text) == 3
