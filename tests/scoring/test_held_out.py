import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import settings
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from charlstm.model.torch_model import Model
from charlstm.scoring import held_out, surprisal
from charlstm.scoring.held_out import STREAM, STRETCH
from charlstm.scoring.surprisal import NATS_PER_BIT
from charlstm.text.vocabulary import Vocabulary

V, H, EMBEDDING = 11, 7, 5
START, END = V - 2, V - 1
KINDS = ["lstm", "gru", "rnn_tanh"]


def model_of(cell="lstm", seed=0):
    torch.manual_seed(seed)
    overrides = [f"model.cell={cell}", "model.layers=2", f"model.hidden={H}", f"model.embedding={EMBEDDING}"]
    model = Model(settings(*overrides).model, V)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)  # so that the past matters to the scores
    return model


def some_ids(length, seed=1):
    return np.random.default_rng(seed).integers(START, size=length).astype(np.uint8)


def records(count=40, seed=2):
    rng = np.random.default_rng(seed)
    ids = [[START, *rng.integers(START, size=rng.integers(1, 9)), END] for _ in range(count)]
    return np.concatenate(ids).astype(np.uint8)


def nats_one_by_one(model, read, predicted):
    """The slow way: one symbol at a time from a zero state, in NumPy."""
    network, state, nats = model.in_numpy(), None, []
    for symbol, following in zip(read, predicted, strict=True):
        scores, state = network(np.array([symbol]), state)
        nats += (surprisal.surprisal(scores, np.array([following])) * NATS_PER_BIT).tolist()
    return np.array(nats)


def nats_of_text(model, ids):
    return nats_one_by_one(model, [START, *ids[:-1]], ids)


EVALUATIONS = {
    "carried": lambda model, ids: held_out.carried(model, ids, START),
    "fresh windows": lambda model, ids: held_out.fresh_windows(model, ids, START, 16),
}
every_evaluation = pytest.mark.parametrize("evaluate", EVALUATIONS.values(), ids=EVALUATIONS.keys())


def close(value):
    return pytest.approx(value, abs=2e-6)  # float32 on two engines: sums are taken in another order


def is_close(score, nats, symbols):
    return (score.nats, score.symbols) == (close(nats), symbols)


@pytest.mark.parametrize("cell", KINDS)
def test_carried_is_one_symbol_at_a_time(cell):
    model, ids = model_of(cell), some_ids(201)
    expected = nats_of_text(model, ids).mean()
    score = held_out.carried(model, ids, START)
    assert is_close(score, expected, 201)
    assert (score.worst, score.place) == (close(expected), 0)


def test_records_score_all_but_the_start_token():
    model, ids = model_of(), records()
    expected = nats_one_by_one(model, ids[:-1], ids[1:])[ids[1:] != START]  # the first one is read once
    assert is_close(held_out.carried(model, ids, START), expected.mean(), len(ids) - 40)
    assert len(expected) == len(ids) - 40


def test_fresh_windows_begin_with_nothing():
    model, ids, window = model_of(), some_ids(201), 16
    pieces = [ids[a : a + window + 1] for a in range(0, 200, window)]
    expected = [nats_one_by_one(model, [START, *piece[:-1]], piece)[1:] for piece in pieces]
    assert is_close(held_out.fresh_windows(model, ids, START, window), np.concatenate(expected).mean(), 200)


def test_fresh_windows_of_records_have_no_start_token_but_their_own():
    model, ids, window = model_of(), records(), 16
    pieces = [ids[a : a + window + 1] for a in range(0, len(ids) - 1, window)]
    expected = np.concatenate([nats_one_by_one(model, piece[:-1], piece[1:]) for piece in pieces])
    score = held_out.fresh_windows(model, ids, START, window)
    assert is_close(score, expected[ids[1:] != START].mean(), len(ids) - 40)


class Successor(nn.Module):
    """A model that knows one thing: which id follows which. A wrong target costs 50 nats."""

    def __init__(self, ids, start):
        super().__init__()
        self.vocabulary_size = start + 2
        self.following = torch.zeros(start + 2, dtype=torch.int64)
        self.following[[start, *ids[:-1].tolist()]] = torch.from_numpy(ids.astype(np.int64))
        self.on_the_cpu = nn.Parameter(torch.zeros(()))

    def forward(self, ids, _state):
        scores = 50.0 * functional.one_hot(self.following[ids], self.vocabulary_size)
        return scores, (torch.zeros(1, ids.shape[1], 1),)


@given(
    length=st.integers(1, 300),
    stream=st.integers(1, 60),
    stretch=st.integers(1, 40),
    most=st.integers(1, 9),
    run_in=st.integers(1, 40),
    window=st.integers(1, 70),
    scores=st.integers(1, 10_000),
)
def test_every_symbol_is_scored_once_however_it_is_cut(length, stream, stretch, most, run_in, window, scores):
    ids = np.arange(length, dtype=np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "STREAM", stream)
        patch.setattr(held_out, "STRETCH", stretch)
        patch.setattr(held_out, "MOST_STREAMS", most)
        patch.setattr(held_out, "RUN_IN", run_in)
        patch.setattr(held_out, "COMPARED", 1)
        patch.setattr(held_out, "WINDOW", window)
        patch.setattr(held_out, "MOST_SCORES", scores)
        carried = held_out.carried(Successor(ids, length), ids, length)
        fresh = held_out.fresh_windows(Successor(ids, length), ids, length, window) if length > 1 else None
    assert carried[:3] == (pytest.approx(0, abs=1e-9), length, pytest.approx(0, abs=1e-9))
    assert fresh is None or fresh[:2] == (pytest.approx(0, abs=1e-9), length - 1)


@pytest.mark.parametrize(("window", "scores"), [(1, 2**22), (7, 2**22), (500, 2**22), (64, 1), (64, 2_000)])
def test_inner_choices_do_not_matter(window, scores, monkeypatch):
    model, ids = model_of(), some_ids(800)
    monkeypatch.setattr(held_out, "STRETCH", 200)
    monkeypatch.setattr(held_out, "RUN_IN", 150)
    monkeypatch.setattr(held_out, "STREAM", 200)  # 4 streams
    expected = held_out.carried(model, ids, START), held_out.fresh_windows(model, ids, START, 50)
    monkeypatch.setattr(held_out, "WINDOW", window)
    monkeypatch.setattr(held_out, "MOST_SCORES", scores)
    found = held_out.carried(model, ids, START), held_out.fresh_windows(model, ids, START, 50)
    for mine, other in zip(found, expected, strict=True):
        assert is_close(mine, other.nats, other.symbols)
        assert mine.place == other.place


@pytest.fixture(scope="module")
def trained():
    """A small model of Python, trained for some seconds, and a part that it has not seen."""
    text = Path(random.__file__).read_text(encoding="utf-8")
    vocabulary = Vocabulary.of_text(text)
    ids = vocabulary.encode(text)
    train, last = ids[:24_000], ids[24_000:]
    torch.manual_seed(0)
    model = Model(settings("model.layers=1", "model.hidden=48", "model.embedding=16").model, len(vocabulary))
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0, momentum=0.9)
    streams = torch.from_numpy(train[: 16 * 1500].astype(np.int64)).view(16, 1500).T
    for _ in range(8):
        state = None
        for a in range(0, 1498, 32):
            scores, state = model(streams[a : a + 32][:-1], state)
            state = tuple(part.detach() for part in state)
            targets = streams[a : a + 32][1:]
            loss = functional.cross_entropy(scores.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
    return model, vocabulary, train, last


def test_parallel_streams_are_one_unbroken_stream(trained):
    model, vocabulary, _, last = trained
    assert len(last) // STREAM >= 2  # so there are streams
    unbroken = surprisal.bits(model.in_numpy(), vocabulary, last)
    score = held_out.carried(model, last, vocabulary.start)
    assert score.symbols == len(last)
    assert score.nats < 4 * NATS_PER_BIT  # it has learnt something
    assert score.nats / NATS_PER_BIT == pytest.approx(unbroken.mean(), abs=1e-3)
    stretches = unbroken[: len(last) // STRETCH * STRETCH].reshape(-1, STRETCH).mean(1)
    assert score.worst / NATS_PER_BIT == pytest.approx(stretches.max(), abs=1e-2)
    assert score.place == stretches.argmax() * STRETCH


class Keyed(Successor):
    """It never forgets the first symbol that it read, and is wrong for ever if that was not the text's."""

    def __init__(self, ids, start):
        super().__init__(ids, start)
        self.start, self.key, self.read = start, ids[0] + 1, 0

    def forward(self, ids, state):
        self.read += ids.numel()
        key = torch.zeros(1, ids.shape[1], 1) if state is None else state[0]
        first = ids.gather(0, (ids != self.start).int().argmax(0, keepdim=True))[..., None]
        key = key.where(key != 0, torch.where(first == self.start, 0, first + 1).float())
        wrong = (key != self.key)[..., 0] & (ids != self.start)
        scores, _ = super().forward(ids, None)
        return torch.where(wrong[..., None], -scores, scores), (key,)


@pytest.mark.parametrize("length", [500, 2700, 7000])
def test_streams_that_are_lost_are_read_again_from_the_one_before(length):
    ids = np.arange(length, dtype=np.uint16)
    model = Keyed(ids, length)
    score = held_out.carried(model, ids, length)
    assert score == (pytest.approx(0, abs=1e-9), length, pytest.approx(0, abs=1e-9), 0, length)
    assert model.read > length * (1 if length < 2 * STREAM else 2)  # some of it more than once


class Slow(Successor):
    """It is wrong for 900 symbols after it began anywhere but with the text."""

    def __init__(self, ids, start):
        super().__init__(ids, start)
        self.start, self.read = start, 0

    def forward(self, ids, state):
        self.read += ids.numel()
        before = torch.zeros(1, ids.shape[1], 1)
        if state is not None:
            before = state[0].where(ids[:1, :, None] != self.start, 1000)
        count = before + torch.arange(1, len(ids) + 1)[:, None, None]
        scores, _ = super().forward(ids, None)
        return torch.where(count < 900, -scores, scores), (count[-1:],)


def test_a_stream_is_read_again_until_it_goes_on_as_before():
    ids = np.arange(7000, dtype=np.uint16)
    model = Slow(ids, 7000)
    score = held_out.carried(model, ids, 7000)
    assert score == (pytest.approx(0, abs=1e-9), 7000, pytest.approx(0, abs=1e-9), 0, 7000)
    streams = 7000 // STREAM
    whole = streams * (3 * STRETCH + held_out.RUN_IN)
    assert model.read == whole + (streams - 1) * STRETCH  # the first one is right, and the others are soon


def test_out_of_time_the_score_is_of_what_one_unbroken_stream_has_read():
    ids = np.arange(7000, dtype=np.uint16)
    late = held_out.carried(Keyed(ids, 7000), ids, 7000, is_late=lambda: True)
    assert late == (pytest.approx(0, abs=1e-9), late.read, pytest.approx(0, abs=1e-9), 0, late.read)
    assert 0 < late.read < 7000
    soon = held_out.carried(Keyed(ids, 7000), ids, 7000, once=True)
    assert (soon.symbols, soon.read) == (7000, 7000)
    assert soon.nats > 1  # streams that are lost are in it


def with_dropout(model):
    model.head = nn.Sequential(nn.Dropout(0.5), model.head)
    return model


@every_evaluation
def test_dropout_is_off_and_nothing_is_left_behind(evaluate):
    plain, ids = model_of(), some_ids(300)
    model = with_dropout(copy.deepcopy(plain)).train()
    model.rnn.eval()  # not all modules in one mode
    modes = [module.training for module in model.modules()]
    weights = copy.deepcopy(model.state_dict())
    random_states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert evaluate(model, ids) == evaluate(plain.eval(), ids)
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == random_states[1:]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert not any(weight.is_inference() for weight in model.parameters())


@every_evaluation
def test_reading_keeps_nothing_for_gradients(evaluate):
    model, inference = model_of(), []
    model.register_forward_hook(lambda _, __, output: inference.append(output[0].is_inference()))
    evaluate(model, some_ids(300))
    assert inference
    assert all(inference)


@every_evaluation
def test_the_mode_is_restored_after_an_error(evaluate):
    class Broken(nn.Module):
        def forward(self, _):
            raise RuntimeError("broken")

    model = model_of().train()
    model.head = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, some_ids(30))
    assert all(module.training for module in model.modules())


@every_evaluation
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_ids_of_any_width_from_the_disk(evaluate, dtype, tmp_path):
    ids = some_ids(300)
    np.save(tmp_path / "ids.npy", ids.astype(dtype))
    mapped = np.load(tmp_path / "ids.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert evaluate(model_of(), mapped) == evaluate(model_of(), ids)


@every_evaluation
@pytest.mark.parametrize("ids", [some_ids(0), np.array([START], np.uint8)], ids=["empty", "start token"])
def test_nothing_to_score(evaluate, ids):
    with pytest.raises(ValueError, match="no symbol to score"):
        evaluate(model_of(), ids)
