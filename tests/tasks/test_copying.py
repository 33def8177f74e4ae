"""`task=copy`: the sequences, the examination, and runs from a request to what they leave."""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import settings
from resuming import assert_same, compose, go, plan

from charlstm.checkpoint import load, save
from charlstm.model.numpy_model import NumpyModel
from charlstm.model.torch_model import Model
from charlstm.tasks import copying
from charlstm.text.corpus import Fingerprint
from charlstm.training.loop import Training

# 4 symbols are copied after some 200 batches
TINY = [
    *(
        "task=copy",
        "copy.symbols=2",
        "model.hidden=16",
        "train.batch=16",
        "train.lr=0.03",
        "train.log_every=10",
    ),
    *("train.epochs=260", "train.budget=null", "save.every=null", "threads=1"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run; do not write there."""
    return go(tmp_path_factory.mktemp("copy") / "whole", *TINY)


def result_of(folder):
    return json.loads((folder / "result.json").read_text("utf-8"))


def delay_line(vocabulary, length):
    """A model that answers with what it read `length` steps ago, and with the end token for the separator:
    it copies sequences of this length, and no others."""
    V, separator = len(vocabulary), vocabulary.start - 1
    H = (length + 1) * V
    config = settings("model.cell=rnn_relu", "model.layers=1", f"model.hidden={H}").model
    head = np.zeros((V, H), np.float32)
    head[:, -V:] = np.eye(V)
    head[vocabulary.end, -V + separator], head[separator, -V + separator] = 1, 0
    weights = {
        "rnn.weight_ih_l0": np.eye(H, V, dtype=np.float32),
        "rnn.weight_hh_l0": np.eye(H, k=-V, dtype=np.float32),
        "rnn.bias_ih_l0": np.zeros(H, np.float32),
        "rnn.bias_hh_l0": np.zeros(H, np.float32),
        "head.weight": head,
        "head.bias": np.zeros(V, np.float32),
    }
    return NumpyModel(config, weights)


def test_a_sequence_is_symbols_twice_between_tokens():
    vocabulary = copying.vocabulary(5)
    assert vocabulary.characters == "abcde>"
    ids = copying.sequences(vocabulary, 7, 300, (3, 1))
    assert ids.shape == (17, 300)
    assert (ids[[0, 8, 16]] == np.array([[6], [5], [7]])).all()  # start, separator, end
    assert np.array_equal(ids[1:8], ids[9:16])
    # each of the five is drawn equally often: 420 times of 2,100, give or take five standard deviations
    assert np.abs(np.bincount(ids[1:8].ravel(), minlength=5) - 420).max() < 92
    assert np.array_equal(ids, copying.sequences(vocabulary, 7, 300, (3, 1)))
    for others in ((3, 2), (4, 1)):
        assert not np.array_equal(ids, copying.sequences(vocabulary, 7, 300, others))


def test_only_what_comes_after_the_separator_is_a_target():
    vocabulary = copying.vocabulary(4)
    ids = copying.sequences(vocabulary, 3, 6, (1, 2, 5))
    inputs, targets, *_ = copying.window(vocabulary, 3, 6, (1, 2, 5))
    assert np.array_equal(inputs, ids[:8])
    assert np.array_equal(targets, ids[5:])
    assert len(inputs) == copying.steps(3)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_training_scores_the_targets_alone(loss):
    chosen = settings(*TINY, f"train.loss={loss}", "train.lr=1e-9")
    vocabulary = copying.vocabulary(2)
    model = Model(chosen.model, len(vocabulary))
    window = copying.window(vocabulary, 3, 16, (0,))
    training = Training(model, lambda _: [window], chosen.train, steps=1)
    (progress,) = training.figures()
    inputs, targets = (torch.from_numpy(part.astype("int64")) for part in window[:2])
    with torch.no_grad():
        scores = model(inputs)[0][4:]  # from the separator on
        chances = scores.log_softmax(-1).gather(-1, targets[..., None])
        squares = (scores - torch.eye(5)[targets]).square().mean(dim=(1, 2)).sum()
    expected = -chances.mean() if loss == "cross_entropy" else squares
    assert progress.loss == pytest.approx(float(expected), rel=1e-5)  # float32, and sums in another order
    assert progress.accuracy == float((scores.argmax(-1) == targets).float().mean())
    assert progress.chars_seen == targets.numel() == 4 * 16


def test_the_examination_counts_symbols_in_their_place():
    vocabulary = copying.vocabulary(4)
    model, ids = delay_line(vocabulary, 5), copying.sequences(vocabulary, 5, 50, (7,))
    assert copying.right(model, vocabulary, ids) == pytest.approx(1)
    # a for b and b for a
    model.head[0][:, [0, 1]] = model.head[0][:, [1, 0]]
    share = copying.right(model, vocabulary, ids)
    assert share == pytest.approx((ids[1:6] > 1).mean())
    assert 0.3 < share < 0.7


def test_it_reads_what_it_wrote_and_not_what_is_right():
    vocabulary = copying.vocabulary(4)
    ids = copying.sequences(vocabulary, 4, 200, (7,))
    # 2 steps before the first is the third symbol, then the fourth, the separator, and what was written first
    written = np.stack([ids[3], ids[4], np.full(200, vocabulary.end), ids[3]])
    model = delay_line(vocabulary, 2)
    assert copying.right(model, vocabulary, ids) == pytest.approx((written == ids[1:5]).mean())


def test_a_model_climbs_to_the_first_length_that_it_fails():
    vocabulary = copying.vocabulary(4)
    model = delay_line(vocabulary, 5)
    (length, share), (next_length, next_share) = copying.climb(model, vocabulary, 5, (0,))
    assert (length, next_length, share) == (5, 6, pytest.approx(1))
    assert next_share < 0.5
    ((length, share),) = copying.climb(model, vocabulary, 3, (0,))
    assert length == 3
    assert share < 0.5
    # by a twentieth
    assert [length for length, _ in copying.climb(delay_line(vocabulary, 40), vocabulary, 40, (0,))] == [
        40,
        42,
    ]


def test_a_proof_steps_down_to_what_it_passes():
    vocabulary = copying.vocabulary(4)
    tried, model = [], delay_line(vocabulary, 5)

    def asked(length):
        tried.append(length)
        return model

    assert copying.prove(asked, vocabulary, 8, seed=1) == (5, pytest.approx(1))
    assert tried == [8, 7, 6, 5]
    length, share = copying.prove(asked, vocabulary, 2, seed=1)
    assert (length, tried[4:]) == (0, [2, 1])
    assert share < 0.5


@pytest.mark.parametrize("symbols", [2, 3, 26])
def test_bits_of_known_values(symbols):
    V = symbols
    assert copying.bits(11, V, 1.0) == pytest.approx(11 * math.log2(V), rel=1e-12)
    assert copying.bits(11, V, 1 / V) == pytest.approx(0, abs=1e-12)  # as by guessing
    # the mutual information of the symmetric channel, from its table of joint probabilities
    error = 0.012
    joint = np.full((V, V), error / (V - 1) / V)
    np.fill_diagonal(joint, (1 - error) / V)
    known = (joint * np.log2(joint * V * V)).sum()
    assert copying.bits(11, V, 1 - error) == pytest.approx(11 * known, rel=1e-9)


def test_an_examination_that_is_passed_by_luck_sets_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "EXAMINED", 0.6)
    directory = go(tmp_path / "run", *TINY, "tensorboard=false")
    result, examined = result_of(directory), load(directory / "last.safetensors").training.task.longest
    assert result["longest"] < examined
    vocabulary, length = copying.vocabulary(2), max(result["longest"], 1)
    fresh = copying.sequences(vocabulary, length, 10_000, (77,))
    share = copying.right(load(directory / "best.safetensors").model(), vocabulary, fresh)
    assert share == pytest.approx(result["accuracy"], abs=0.01)  # of some 10,000 symbols
    assert (result["longest"] > 0) == (result["accuracy"] >= 0.99)
    assert result["bits"] == copying.bits(result["longest"], 2, result["accuracy"])


def test_a_run_that_kept_the_weights_of_one_length_alone_goes_on(whole, tmp_path):
    stopped = go(tmp_path / "stopped", *TINY, stop_before=259) / "last.safetensors"
    trained = load(stopped)
    assert trained.training.task.before > 0
    kept = {name: a for name, a in trained.arrays.items() if not name.startswith("best/before/")}
    state = replace(trained.training, task=replace(trained.training.task, before=0))
    save(replace(trained, arrays=kept, training=state), stopped)
    last = result_of(go(tmp_path / "last", f"resume={stopped.parent}"))
    assert (last["longest"], last["accuracy"]) == tuple(result_of(whole)[k] for k in ("longest", "accuracy"))


def test_a_run_finds_out_how_much_it_can_copy(whole):
    result, best = result_of(whole), load(whole / "best.safetensors")
    longest = result["longest"]
    assert longest >= 2
    assert result["task"] == "copy"
    assert result["bits"] == copying.bits(longest, 2, result["accuracy"])
    assert result["bits_per_hidden_unit"] == result["bits"] / 16
    assert result["steps"] == 260
    # the model that is kept is the one that was examined, on symbols that it never saw
    vocabulary = copying.vocabulary(2)
    assert best.vocabulary == vocabulary
    fresh = copying.sequences(vocabulary, longest, 1000, (12345,))
    assert copying.right(best.model(), vocabulary, fresh) > 0.98
    proof = copying.sequences(vocabulary, longest, 10_000, (0, copying.PROOF, longest))
    assert result["accuracy"] == copying.right(best.model(), vocabulary, proof) >= 0.99


def test_sample_writes_a_prompt_back(whole, command):
    longest = result_of(whole)["longest"]
    ids = copying.sequences(copying.vocabulary(2), longest, 1, (5,))
    prompt = "".join("ab"[i] for i in ids[1 : longest + 1, 0]) + ">"
    done = command("sample.py", f"ckpt={whole}", f"prompt={prompt}", "echo=false")
    assert done.stdout == prompt[:-1]


@pytest.mark.parametrize("steps", [(0,), (9, 10, 11), (100, 135, 200), (259,)])
def test_the_end_is_the_same_wherever_a_run_is_stopped(whole, tmp_path, steps):
    stopped = go(tmp_path / "0", *TINY, stop_before=steps[0])
    for k, step in enumerate(steps[1:], 1):
        stopped = go(tmp_path / f"{k}", f"resume={stopped}", stop_before=step)
    last = go(tmp_path / "last", f"resume={stopped}")
    assert_same(last, whole)
    of_the_clock = ("train_seconds", "chars_per_second", "checkpoint", "resumed_from")
    one, other = ({k: v for k, v in result_of(run).items() if k not in of_the_clock} for run in (last, whole))
    assert one == other


def test_a_run_that_copies_nothing_says_so(tmp_path, caplog):
    caplog.set_level("INFO", "charlstm")
    directory = go(tmp_path / "run", *TINY, "copy.symbols=26", "train.epochs=3", "tensorboard=false")
    result = result_of(directory)
    assert (result["longest"], result["bits"], result["bits_per_hidden_unit"]) == (0, 0, 0)
    assert result["accuracy"] < 0.9
    assert "Nothing is copied after 3 batches" in caplog.text


def test_a_budget_ends_it(tmp_path):
    directory = go(tmp_path / "run", *TINY, "train.budget=0.0001s", "tensorboard=false")
    assert result_of(directory)["steps"] == 1


WRONG = {
    "data.path=data/hello.txt": "data.path = data/hello.txt: task=copy draws symbols of its own; leave it",
    "data.text=abc": "data.text = abc: task=copy draws",
    "data.records=line": "data.records = line: task=copy draws",
    "train.layout=segments": "train.layout = segments: task=copy trains sequences side by side; leave it out",
    "train.steps=5": "train.steps = 5: works with task=lm only; leave it out",
    "train.averaging=0.1": "train.averaging = 0.1: works with task=lm only",
    "model.head=none": "model.hidden = 16: with model.head=none the hidden state is the prediction",
    "model.hidden=60000": "model.hidden = 60000, model.layers = 1, train.batch = 16, 4 time steps: ",
}


@pytest.mark.parametrize(("given", "said"), WRONG.items())
def test_wrong_requests(given, said):
    with pytest.raises(ValueError, match="^") as caught:
        plan(*TINY, given)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("symbols", [1, 27])
def test_there_are_26_letters(symbols):
    with pytest.raises(
        ValueError, match=f"^copy.symbols = {symbols}: must be a whole number, at least 2 and at"
    ):
        compose(*TINY, f"copy.symbols={symbols}")


def test_other_symbols_are_another_run(whole):
    with pytest.raises(ValueError, match=r"^copy.symbols = 3: the run that is resumed has 2; leave it out"):
        plan(f"resume={whole}", "copy.symbols=3")


def test_a_look_before():
    said = "\n".join(plan(*TINY).describe())
    assert "sequences of 2 random symbols, to be written back\nlstm of 1 x 16, 1,557 parameters; " in said
    assert "at most 260 batches of 16 sequences" in said


def test_the_symbols_stand_for_the_text(whole):
    assert load(whole / "last.safetensors").training.data == Fingerprint(
        size=3, sha256=hashlib.sha256(b"ab>").hexdigest()
    )
