import numpy as np
import pytest
import torch
from conftest import settings
from hypothesis import given
from hypothesis import strategies as st

from charlstm.model.torch_model import Model
from charlstm.sampling import writer
from charlstm.sampling.strategy import Strategy
from charlstm.sampling.writer import Passage, Writer
from charlstm.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary("abcdef")
MASK = writer.mask(VOCABULARY)
GREEDY = Strategy(mask=MASK)
FREE = Strategy(temperature=1, mask=MASK)


def random_model(seed=0):
    torch.manual_seed(seed)
    return Model(settings("model.hidden=9").model, len(VOCABULARY)).in_numpy()


def ids_of(writer, steps):
    """What the writer writes, `(steps, B)`."""
    return np.array([writer.write() for _ in range(steps)])


@pytest.mark.parametrize(
    "strategy", [FREE, Strategy(temperature=1, repetition_penalty=5, repetition_window=3)]
)
def test_each_stream_reads_a_prompt_of_its_own(strategy):
    prompts, seeds = [[2, 0], [], [1, 1, 3, 0]], [3, 4, 3]
    together = ids_of(Writer(random_model(), VOCABULARY, strategy, seeds, prompts), 40)
    for k, (seed, prompt) in enumerate(zip(seeds, prompts, strict=True)):
        alone = ids_of(Writer(random_model(), VOCABULARY, strategy, [seed], [prompt]), 40)
        assert together[:, k].tolist() == alone[:, 0].tolist()


def test_the_seed_alone_decides():
    first, again, other = (ids_of(Writer(random_model(), VOCABULARY, FREE, [s]), 50) for s in (7, 7, 8))
    assert first.tolist() == again.tolist() != other.tolist()


def test_streams_side_by_side_are_those_alone():
    # the products of a batch are rounded otherwise, by far less than what would move a choice of this seed
    together = ids_of(Writer(random_model(), VOCABULARY, FREE, [3, 4, 5], prompts=[[2, 0]]), 40)
    for column, seed in enumerate([3, 4, 5]):
        alone = ids_of(Writer(random_model(), VOCABULARY, FREE, [seed], prompts=[[2, 0]]), 40)
        assert together[:, column].tolist() == alone[:, 0].tolist()


def test_what_is_written_is_fed_back():
    model = random_model()
    written = ids_of(Writer(model, VOCABULARY, GREEDY, prompts=[[2, 0]]), 12)[:, 0].tolist()
    scores, _ = model(np.array([VOCABULARY.start, 2, 0, *written]))
    assert (scores + MASK)[2:-1].argmax(axis=1).tolist() == written


def test_a_prompt_is_as_if_written_and_may_come_later():
    model = random_model()
    whole = ids_of(Writer(model, VOCABULARY, GREEDY), 20)[:, 0].tolist()
    assert ids_of(Writer(model, VOCABULARY, GREEDY, prompts=[whole[:4]]), 16)[:, 0].tolist() == whole[4:]
    later = Writer(model, VOCABULARY, GREEDY, prompts=[whole[:1]])
    later.read(whole[1:4])
    assert ids_of(later, 16)[:, 0].tolist() == whole[4:]


def test_bits_are_the_models_own_whatever_the_strategy():
    model = random_model()
    strategy = Strategy(temperature=3, top_k=2, repetition_penalty=9, mask=MASK)
    writer = Writer(model, VOCABULARY, strategy, [1, 2], measure=True)
    ids, bits = zip(*((writer.write(), writer.bits) for _ in range(10)), strict=True)
    for k in range(2):
        read = np.array([VOCABULARY.start, *(step[k] for step in ids)])
        probabilities = torch.softmax(torch.from_numpy(model(read[:-1])[0]), dim=1)
        expected = -torch.log2(probabilities[range(10), read[1:]])
        # float32 scores by two orders of summation
        np.testing.assert_allclose([step[k] for step in bits], expected, atol=1e-5)


@pytest.mark.parametrize("window", [1, 3, 1000])
def test_the_penalty_sees_the_last_characters_only(window):
    # a penalty like this forbids whatever is in the window, the prompt's characters included
    strategy = Strategy(repetition_penalty=1e6, repetition_window=window, mask=MASK, temperature=1)
    prompt = [0, 1, 2]
    text = prompt + ids_of(Writer(random_model(), VOCABULARY, strategy, [5], [prompt]), 300)[:, 0].tolist()
    choices = 7  # six characters and the end token
    for n in range(3, len(text) if window < choices else choices):  # then all of them are in the window
        assert text[n] not in text[max(0, n - window) : n]
    assert any(text[n] in text[: max(0, n - window)] for n in range(3, 20)) == (window < choices)


def test_the_start_token_and_what_is_banned_are_never_written():
    model = random_model()
    model.head[1][VOCABULARY.start] = 1e4  # the model wants nothing but the start token
    strategy = Strategy(temperature=100, mask=writer.mask(VOCABULARY, ban="bdé"))
    written = set(ids_of(Writer(model, VOCABULARY, strategy), 300)[:, 0].tolist())
    assert written == {0, 2, 4, 5, VOCABULARY.end}


def test_what_never_ended_is_not_ended():
    model = random_model()
    model.head[1][VOCABULARY.end] = 1e4  # the model wants nothing but the end token
    strategy = Strategy(temperature=100, mask=writer.mask(VOCABULARY, ends=False))
    assert set(ids_of(Writer(model, VOCABULARY, strategy), 300)[:, 0].tolist()) == set(range(6))


def test_a_ban_of_everything_is_refused():
    with pytest.raises(ValueError, match="bans all 6 characters"):
        writer.mask(VOCABULARY, ban="fedcba")


def test_the_end_token_ends():
    model = random_model()
    model.head[1][VOCABULARY.end] += 2
    text = "".join(writer.stream(Writer(model, VOCABULARY, FREE, [0]), VOCABULARY, Passage(10**6)))
    ids = ids_of(Writer(model, VOCABULARY, FREE, [0]), 200)[:, 0].tolist()
    assert text == VOCABULARY.decode(np.array(ids[: ids.index(VOCABULARY.end)]))


def ended(text, length, stops, end=True):
    """What a passage makes of a text: what it lets through, and why it ended."""
    passage, pieces = Passage(length, stops), []
    for character in [*text, *([None] if end else [])]:
        if passage.ending is None:
            pieces.append(passage.add(character))
    return "".join(pieces), passage.ending


@pytest.mark.parametrize(
    ("text", "length", "stops", "expected"),
    [
        ("abc", 0, [], ("", "length")),
        ("abc", 2, [], ("ab", "length")),
        ("abc", 3, [], ("abc", "length")),
        ("abc", 4, [], ("abc", "end")),
        ("aabab", 9, ["ab"], ("a", "stop")),
        ("aaab", 9, ["aab"], ("a", "stop")),
        ("ababc", 9, ["abc"], ("ab", "stop")),
        ("abcd", 9, ["c", "bc"], ("a", "stop")),
        ("abcd", 9, ["bd", "cd"], ("ab", "stop")),
        ("abab", 9, ["abc"], ("abab", "end")),
        ("abab", 4, ["abc"], ("abab", "length")),
        ("abc", 3, ["abc"], ("", "stop")),
    ],
)
def test_passages(text, length, stops, expected):
    assert ended(text, length, stops) == expected


@given(st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_passage_ends_at_the_first_stop_and_loses_nothing_else(text, stops):
    first = min((text.find(stop) + len(stop) for stop in stops if stop in text), default=None)
    if first is None:
        assert ended(text, 100, stops) == (text, "end")
    else:
        longest = max((stop for stop in stops if text[:first].endswith(stop)), key=len)
        assert ended(text, 100, stops) == (text[: first - len(longest)], "stop")


def test_what_cannot_be_a_stop_is_not_held_back():
    passage = Passage(100, ["xyz"])
    assert [passage.add(c) for c in "axbxyc"] == ["a", "", "xb", "", "", "xyc"]
    passage.add("x")
    assert (passage.finish("interrupted"), passage.ending) == ("x", "interrupted")


def test_recall_counts_up_to_the_first_error():
    model = random_model()
    written = ids_of(Writer(model, VOCABULARY, GREEDY), 8)[:, 0]
    text = np.array([VOCABULARY.start, *written])
    assert writer.recall(model, VOCABULARY, text) == 8
    text[4] = (text[4] + 1) % 6
    assert writer.recall(model, VOCABULARY, text) == 3
