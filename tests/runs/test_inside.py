import numpy as np
import pytest
import torch
from resuming import text

from charlstm.config.settings import ModelConfig
from charlstm.model.numpy_model import NumpyModel
from charlstm.model.torch_model import Model
from charlstm.runs import inside
from charlstm.runs.inside import COLUMN, MARGIN, ROW, ROWS
from charlstm.scoring import units
from charlstm.text.vocabulary import Vocabulary

GATES = {
    "lstm": {"input_gate", "forget_gate", "cell_gate", "output_gate", "cell", "hidden"},
    "gru": {"reset_gate", "update_gate", "new_value", "hidden"},
    "rnn_tanh": {"hidden"},
}


def model_of(cell, hidden=24, embedding=0, characters="abcdefgh ", layers=2):
    torch.manual_seed(3)
    sizes = {"layers": layers, "hidden": hidden, "embedding": embedding}
    config = ModelConfig(cell=cell, **sizes, head="linear", engine="plain")
    vocabulary = Vocabulary(characters)
    return config, Model(config, len(vocabulary)).weights(), vocabulary


def read(cell, **sizes):
    """The pictures of a model that reads, and what it computes."""
    config, weights, vocabulary = model_of(cell, **sizes)
    ids = vocabulary.framed(vocabulary.encode(text()[:30]))[:-1]
    model = NumpyModel(config, weights)
    terms = {letter: term for letter, term in model.trace(ids).items() if letter in inside.TERMS}
    return inside.pictures(model, terms, vocabulary, ids), model, terms, ids


def cells_of(picture, rows, columns):
    """The colour of each of its fields, `(rows, columns, RGB)`."""
    return picture[ROW // 2 : rows * ROW : ROW, MARGIN + COLUMN // 2 : MARGIN + columns * COLUMN : COLUMN]


@pytest.mark.parametrize("cell", GATES)
def test_every_gate_of_every_layer_is_drawn(cell):
    drawn, _, _, ids = read(cell)
    layers = {f"view/layer_{layer}_{gate}" for layer in (1, 2) for gate in GATES[cell]}
    assert drawn.keys() == layers | {"view/next_character"}
    for name in layers:
        assert drawn[name].shape == (ROWS * ROW + ROW + 2, MARGIN + len(ids) * COLUMN, 3)


def test_a_gate_is_the_darker_the_more_it_is_open():
    drawn, _, terms, ids = read("lstm", hidden=7, layers=1)  # fewer units than there is room for
    brightness = cells_of(drawn["view/layer_1_forget_gate"], 7, len(ids)).sum(axis=2, dtype=int)
    shown, values = np.sort(-brightness, axis=None), np.sort(terms["f"], axis=None)
    colours = [np.interp(values, [0, 0.5, 1], inside.RISING[:, k]).round() for k in range(3)]
    np.testing.assert_array_equal(shown, -np.sum(colours, axis=0))


def test_units_that_follow_the_text_most_come_first_and_beside_their_like(monkeypatch):
    named = []
    original = inside.frame
    monkeypatch.setattr(inside, "frame", lambda rows, columns: named.append(rows) or original(rows, columns))
    _, _, terms, ids = read("lstm", hidden=40, layers=1)
    characters = "\n" + text()[: len(ids) - 1]
    strength = np.abs(units.correlations("lstm", terms, characters)[:, 1, 0])
    most = np.sort(strength.max(axis=0))[-ROWS]
    expected = [
        f"{unit} {feature}"
        for k, feature in enumerate(units.FEATURES)
        for unit in np.argsort(-strength[k], kind="stable")
        if strength[:, unit].argmax() == k and strength[k, unit] >= most
    ]
    assert named[0] == expected


def test_the_next_character_is_framed_where_its_probability_is():
    drawn, model, _, ids = read("gru")
    picture = drawn["view/next_character"]
    odds = torch.softmax(torch.from_numpy(model(ids)[0]), dim=1).numpy()
    rows = np.argsort(-odds.mean(axis=0), kind="stable")
    for t, following in enumerate(ids[1:]):
        row = int(np.flatnonzero(rows == following)[0])
        assert picture[row * ROW, MARGIN + t * COLUMN].tolist() == inside.SIGNED[2].tolist()
        expected = [np.interp(np.sqrt(odds[t, following]), [0, 0.5, 1], c) for c in inside.RISING.T]
        # float32 in another order
        np.testing.assert_allclose(cells_of(picture, len(rows), len(ids))[row, t], expected, atol=1)


def test_all_names_of_characters_can_be_seen():
    names = inside.labels(Vocabulary(" \n\t\r\xa0\u2028\x00a日", unknown=True))
    assert names == [
        *("space", "newline", "tab", "carriage_return", "no-break space", "line separator", "u+0000"),
        *("a", "日", "<start>", "<end>", "<unknown>"),
    ]
    assert inside.labels(Vocabulary("a\n\xe9", unit="byte"))[:3] == ["a", "byte_0a", "byte_e9"]


@pytest.mark.parametrize("embedding", [0, 5])
def test_vectors_have_their_labels(tmp_path, embedding, capfd):
    _, weights, vocabulary = model_of("lstm", embedding=embedding)
    for _ in range(2):
        inside.save_vectors(tmp_path, weights, vocabulary)
    expected = weights["embedding.weight"] if embedding else weights["rnn.weight_ih_l0"].T
    vectors = np.loadtxt(tmp_path / "projector" / "vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, expected, rtol=1e-4)  # five digits
    labels = (tmp_path / "projector" / "labels.tsv").read_text("utf-8").splitlines()
    assert labels == [*"abcdefgh", "space", "<start>", "<end>"]
    assert capfd.readouterr() == ("", "")
