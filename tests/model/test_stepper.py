import itertools

import numpy as np
import pytest
import torch
from conftest import settings
from recurrences import CELLS

from charlstm.model.numpy_model import NumpyModel, parameter_shapes
from charlstm.model.stepper import Stepper
from charlstm.model.torch_model import Model
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import loop

T, B, V, E, H = 11, 3, 7, 4, 5  # and up to 2 layers: no size is another
FREE_RUN = 10_000

# Products of another shape take their sums in another order: some float32 epsilons (1.2e-7) of numbers up
# to 1 or 2, through up to 6 layers; in float64 (2.2e-16) likewise.
FLOAT32 = 2e-6
TOLERANCE = {"float32": FLOAT32, "float64": 1e-14}


def network(cell, layers=2, embedding=0, head="linear", dtype="float32", seed=0):
    """A network of random weights."""
    hidden = H if head == "linear" else V
    config = settings(
        f"model.cell={cell}",
        f"model.layers={layers}",
        f"model.hidden={hidden}",
        f"model.embedding={embedding}",
        f"model.head={head}",
    ).model
    random = np.random.default_rng(seed)
    weights = {
        name: random.uniform(-0.5, 0.5, shape).astype(dtype)
        for name, shape in parameter_shapes(config, V).items()
    }
    return NumpyModel(config, weights)


def some_ids(seed=1, steps=T):
    return np.random.default_rng(seed).integers(V, size=(steps, B))


def scores_of(step, ids):
    return np.stack([step(now).copy() for now in ids])


NETWORKS = list(itertools.product(CELLS, (1, 2, 6), (0, E), ("linear", "none")))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("cell", "layers", "embedding", "head"), NETWORKS)
def test_it_is_the_readable_network(cell, layers, embedding, head, dtype):
    model = network(cell, layers, embedding, head, dtype)
    ids, step = some_ids(), Stepper(model, B)
    expected, _ = model(ids)
    scores = scores_of(step, ids)
    assert scores.dtype == dtype
    largest = max(1, np.abs(expected).max())  # a ReLU's numbers may be any size
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE[dtype] * largest)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stream_is_as_if_alone(cell):
    model, ids = network(cell), some_ids()
    together = scores_of(Stepper(model, B), ids)
    for k in range(B):
        alone = scores_of(Stepper(model), ids[:, k : k + 1])
        np.testing.assert_allclose(together[:, k], alone[:, 0], rtol=0, atol=FLOAT32)
    others = (ids + np.arange(B)) % V
    np.testing.assert_array_equal(scores_of(Stepper(model, B), others)[:, 0], together[:, 0])


@pytest.mark.parametrize("cell", CELLS)
def test_one_stream_goes_on_as_many(cell):
    model, ids = network(cell), some_ids()
    one, whole = Stepper(model), scores_of(Stepper(model), ids[:, :1])
    scores_of(one, ids[:5, :1])
    again, many = Stepper(model, after=one.state), Stepper(model, B, after=one.state)
    np.testing.assert_array_equal(scores_of(again, ids[5:, :1]), whole[5:])  # to the very bits
    together = scores_of(many, ids[5:, :1].repeat(B, axis=1))
    for k in range(B):
        np.testing.assert_allclose(together[:, k], whole[5:, 0], rtol=0, atol=FLOAT32)
    np.testing.assert_array_equal(scores_of(one, ids[5:, :1]), whole[5:])  # it did not move on with them


@pytest.mark.parametrize("head", ["linear", "none"])
def test_the_scores_are_one_buffer_which_the_reader_may_write_to(head):
    model, ids = network("lstm", head=head), some_ids()
    expected, step = scores_of(Stepper(model, B), ids), Stepper(model, B)
    buffer = step(ids[0])
    buffer[...] = -np.inf
    assert step(ids[1]) is buffer
    np.testing.assert_array_equal(buffer, expected[1])


def test_weights_are_those_of_its_making():
    model, ids = network("lstm"), some_ids()
    step, expected = Stepper(model, B), scores_of(Stepper(model, B), ids)
    for array in [*model.head, *itertools.chain(*model.recurrent.weights)]:
        array[...] = 9.0
    np.testing.assert_array_equal(scores_of(step, ids), expected)


@pytest.mark.parametrize("ids", [1, [1, 2], [[1, 2, 3]], [1.0, 2.0, 3.0], [True, False, True]], ids=str)
def test_other_than_an_integer_for_each_stream_is_an_error(ids):
    with pytest.raises(ValueError, match=r"expected \(3,\) integers"):
        Stepper(network("gru"), B)(ids)


def test_an_id_beyond_the_vocabulary_is_an_error():
    with pytest.raises(IndexError, match=f"index {V} is out of bounds"):
        Stepper(network("gru"))([V])


@pytest.mark.parametrize("cell", CELLS)
def test_not_a_number_does_not_pass(cell):
    model = network(cell)
    model.recurrent.weights[0][1][0, 0] = np.nan
    step = Stepper(model, B)
    with pytest.raises(FloatingPointError, match=f"output or state of {cell} is not finite"):
        step([0, 1, 2])


def test_large_numbers_that_are_finite_do():
    model, ids = network("rnn_relu", layers=1), some_ids(steps=3)
    for weight in model.recurrent.weights[0]:
        weight[...] = np.abs(weight) * 1e11  # each step makes h larger; after two its squares overflow
    expected, _ = model(ids)
    scores = scores_of(Stepper(model, B), ids)
    assert np.abs(scores[-1]).max() > 1e30
    np.testing.assert_allclose(scores, expected, rtol=1e-5)  # sums of both signs, in another order
    with pytest.raises(FloatingPointError, match="rnn_relu"):
        scores_of(Stepper(model, B), some_ids(steps=9))


def free_run_in_torch(model, given):
    """Ids that are likeliest after each other, from id 0 on; where `given` is not -1 it is read instead."""
    written, last, state = [], 0, None
    with torch.inference_mode():
        for other in given:
            scores, state = model(torch.tensor([[last]]), state)
            written.append(int(scores[0, 0].argmax()))
            last = written[-1] if other < 0 else other
    return written


def free_run(model, given):
    """The same by the stepper."""
    written, last, step = [], 0, Stepper(model)
    for other in given:
        written.append(int(step([last])[0].argmax()))
        last = written[-1] if other < 0 else other
    return written


def surprises(every, size, seed=3):
    """A random id `every` so many steps, or a greedy text would soon go round in circles."""
    given = np.random.default_rng(seed).integers(size, size=FREE_RUN)
    given[np.arange(FREE_RUN) % every > 0] = -1
    return given.tolist()


def different_stretches(written, length=8):
    return len({tuple(written[k : k + length]) for k in range(len(written) - length)})


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The texts are equal as long as no two best scores are within some float32 epsilons of each other, which
# of 10,000 random pairs befalls one in a few hundred runs: these seeds are not such a run.
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("cell", CELLS)
def test_random_weights_write_the_text_that_torch_writes(cell):
    torch.manual_seed(5)
    model = Model(settings(f"model.cell={cell}", "model.hidden=48", "model.layers=2").model, 29)
    with torch.no_grad():  # the first weights of a network would write one letter, whatever they read
        for name, weight in model.named_parameters():
            weight *= 0 if "bias" in name else 4 if "weight_ih" in name else 1
    given = surprises(every=4, size=29)
    written = free_run(model.in_numpy(), given)
    assert different_stretches(written) > FREE_RUN / 3
    assert written == free_run_in_torch(model, given)


@pytest.mark.usefixtures("one_thread")
def test_a_trained_model_writes_the_text_that_torch_writes():
    random = np.random.default_rng(2)
    words = ["how", "long", "can", "a", "network", "remember", "show", "me", "your", "limit", "hello"]
    text = " ".join(random.choice(words, size=2000))
    vocabulary = Vocabulary.of_text(text)
    chosen = settings(
        "model.layers=1", "train.layout=streams", "train.batch=16", "train.epochs=25", "train.lr=0.01"
    )
    torch.manual_seed(0)
    model = Model(chosen.model, len(vocabulary))
    *_, last = loop.of_text(model, vocabulary.framed(vocabulary.encode(text)), chosen.train).figures()
    assert last.accuracy > 0.7  # it knows the words; which one comes next nobody can
    given = surprises(every=4, size=len(vocabulary))
    written = free_run(model.in_numpy(), given)
    assert different_stretches(written) > FREE_RUN / 3
    assert written == free_run_in_torch(model, given)
