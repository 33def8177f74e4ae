"""`init=`: what a run takes over from a trained model, what it makes of other characters, what it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from resuming import LM, MEMORIZE, SMALL, assert_same, go, plan, text

import charlstm
from charlstm import checkpoint
from charlstm.checkpoint import CheckpointError
from charlstm.model.numpy_model import NumpyModel
from charlstm.runs import initial
from charlstm.text.vocabulary import UnknownCharacterError, Vocabulary
from charlstm.training import recipe
from charlstm.training.loop import handed_on
from charlstm.training.windows import Beside, ShiftedStreams

NEW = "fade hé bäg é" * 40
WINDOWS = ["train.batch=3", "train.window=8"]
FINE = [*SMALL[2:3], "task=lm", "threads=1", "eval.baselines=false", "precision=float32", *WINDOWS]
KEYS = {"train.batch": 3, "train.window": 8, "threads": 1, "eval.baselines": False, "precision": "float32"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of both tasks to begin with; do not write there."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "old.txt").write_text(text())
    (folder / "new.txt").write_text(NEW)
    go(folder / "lm", *LM, f"data.path={folder / 'old.txt'}")
    go(folder / "memorize", *MEMORIZE, "data.text=abc fed", "train.epochs=2")
    return folder


def fine(runs, *more):
    return [*FINE, f"init={runs / 'lm'}", f"data.path={runs / 'new.txt'}", "train.steps=12", *more]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("embedding", [0, 4])
@pytest.mark.parametrize("unknown", [False, True])
def test_known_characters_keep_their_rows_and_new_ones_are_their_mean(runs, cell, embedding, unknown):
    old, random = Vocabulary("cab", unknown=unknown), np.random.default_rng(0)
    trained = checkpoint.load(runs / "lm")
    config = replace(trained.config, cell=cell, embedding=embedding, hidden=7)
    shapes = initial.checkpoint.parameter_shapes(config, len(old))
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    trained = replace(trained, config=config, vocabulary=old, weights=weights)
    both = initial.joined(old, Vocabulary("bxé"))
    assert (both.characters, both.unknown is not None) == ("cabxé", unknown)
    grown = NumpyModel(config, initial.grown(trained, both))
    before = NumpyModel(config, weights)
    ids = [old.start, 0, 1, 2, 2, old.end, *([old.unknown] if unknown else [])]
    same = [both.start, 0, 1, 2, 2, both.end, *([both.unknown] if unknown else [])]
    rows = [0, 1, 2, both.start, both.end, *([both.unknown] if unknown else [])]
    scores, _ = grown(np.array(same))
    expected, _ = before(np.array(ids))
    np.testing.assert_allclose(scores[:, rows], expected, atol=1e-6)  # sums in another order
    # the head is linear, so the score of a new character is the mean of those of the known ones
    np.testing.assert_allclose(scores[:, 3], expected[:, :3].mean(1), atol=1e-6)
    np.testing.assert_allclose(scores[:, 4], expected[:, :3].mean(1), atol=1e-6)
    tables = [model.table(np.eye(grown.recurrent.input_size, dtype=np.float32)) for model in (grown, before)]
    if embedding:
        np.testing.assert_allclose(tables[0][3], tables[1][:3].mean(0), atol=1e-6)


def test_a_model_learns_another_text_with_other_characters(runs, tmp_path):
    planned = plan(*fine(runs))
    old = checkpoint.load(runs / "lm")
    assert planned.settings.model == replace(old.config, engine="fused")
    assert planned.vocabulary.characters == old.vocabulary.characters + "äé"
    assert planned.settings.train.lr == round(min(0.3 / 3, 0.02) * recipe.FINE_TUNING, 4)
    first = planned.first_model().weights()
    assert np.array_equal(first["rnn.weight_hh_l0"], old.weights["rnn.weight_hh_l0"])
    go(tmp_path / "fine", *fine(runs))
    figures = json.loads((tmp_path / "fine" / "result.json").read_text())
    assert figures["new_bpc_after"] < figures["new_bpc_before"]
    assert figures["new_bpc_after"] == pytest.approx(figures["test_bpc"], abs=1e-6)
    # the old text is scored by the model that learnt it as that run did, up to the new characters' share
    assert figures["old_bpc_before"] > json.loads((runs / "lm" / "result.json").read_text())["valid_bpc"]
    made = charlstm.load(tmp_path / "fine")
    said = made.checkpoint.provenance["init"]
    assert said == f"{runs / 'lm'}: lm of 9 characters, {runs / 'old.txt'}"
    assert made.sample(length=20, seed=0)
    with pytest.MonkeyPatch.context() as patch:  # from Python, too
        patch.chdir(tmp_path)
        asked = {"init": str(runs / "lm"), "train.steps": 1, **KEYS}
        again = charlstm.train(NEW, task="lm", overrides=asked)
        with pytest.raises(ValueError, match="model.embedding = 64: the model of init = .* has 5"):
            charlstm.train(NEW, task="lm", overrides={**asked, "model.embedding": 64})
    assert again.figures["old_bpc_before"] == pytest.approx(figures["old_bpc_before"])


def test_a_text_is_learnt_by_heart_at_the_usual_rate(runs):
    for new, lr in {"abc gé": 0.01, "abc gé" * 40: recipe.soap_lr(9)}.items():
        assert plan(f"init={runs / 'memorize'}", f"data.text={new}", "threads=1").config.lr == lr


def test_a_share_of_the_old_text_keeps_it_known(runs, tmp_path):
    after = []
    for keep in ("0", "0.5"):
        go(tmp_path / keep, *fine(runs, f"train.keep={keep}", "train.steps=60", "train.lr=0.02"))
        after.append(json.loads((tmp_path / keep / "result.json").read_text())["old_bpc_after"])
    assert after[1] < after[0] - 0.2


@pytest.mark.parametrize("keep", [0.25, 0.5])
def test_streams_of_the_old_text_are_read_on_beside_the_new_one(keep):
    new, old, batch = np.arange(100, dtype=np.uint8), np.arange(100, 150, dtype=np.uint8), 3
    count = {0.25: 1, 0.5: 3}[keep]
    config = replace(plan(*MEMORIZE).config, batch=batch, keep=keep)
    assert recipe.old_streams(config) == count
    plain = ShiftedStreams(new, batch, 8, 200, 0, 1)
    both = Beside(plain, old, count, 200, 0, 1)
    assert len(both) == len(plain) > 2
    for n, (window, alone) in enumerate(zip(both, plain, strict=True)):
        assert window.beside == count
        assert np.array_equal(window.targets[:, :batch], alone.targets)
        assert np.array_equal(window.anew, [*alone.anew, *[n == 0] * count])
        inputs, targets = window.inputs[:, batch:].astype(int), window.targets[:, batch:].astype(int)
        assert (inputs[0] == 200).all() == (n == 0)
        assert ((targets[1:] - 100) == (inputs[1:] - 100 + 1) % 50).all()
        if n:
            assert np.array_equal(inputs[0], before)  # noqa: F821  # it goes on where it was
        before = targets[-1]  # noqa: F841
    shifted = handed_on((plan(*MEMORIZE).first_model().head.weight[None, :, :1],), 2)[0][0, :, 0]
    whole = plan(*MEMORIZE).first_model().head.weight[:, 0]
    assert shifted.tolist() == [0, *whole[:-3].tolist(), *whole[-2:].tolist()]


@pytest.mark.parametrize("task", ["lm", "memorize"])
def test_a_run_that_is_resumed_comes_to_the_same(runs, tmp_path, task):
    asked = {
        "lm": fine(runs, "train.keep=0.4", "eval.times=3"),
        "memorize": [
            f"init={runs / 'memorize'}",
            "data.text=abc gé",
            "train.epochs=6",
            "threads=1",
            "train.keep=0.3",
        ],
    }[task]
    go(tmp_path / "whole", *asked)
    go(tmp_path / "stopped", *asked, stop_before=5)
    go(tmp_path / "resumed", f"resume={tmp_path / 'stopped'}")
    assert_same(tmp_path / "whole", tmp_path / "resumed")
    if task == "memorize":
        assert "old_bpc_after" in json.loads((tmp_path / "resumed" / "result.json").read_text())


def test_a_run_is_resumed_without_the_model_that_it_began_with(runs, tmp_path):
    shutil.copytree(runs / "lm", tmp_path / "first")
    go(tmp_path / "run", *fine(runs, f"init={tmp_path / 'first'}"), stop_before=5)
    with pytest.raises(ValueError, match="model.embedding = 64: the model of init = .* has 5; leave it out"):
        plan(f"resume={tmp_path / 'run'}", "model.embedding=64")
    shutil.rmtree(tmp_path / "first")
    go(tmp_path / "resumed", f"resume={tmp_path / 'run'}")
    assert checkpoint.load(tmp_path / "resumed").provenance["init"] == str(tmp_path / "first")


WRONG = {
    "model.cell=gru": "model.cell = gru: the model of init = .* has lstm; leave it out",
    "model.hidden=10": "model.hidden = 10: the model of init = .* has 9; leave it out",
    # the value that it has when nothing is asked for
    "model.embedding=64": "model.embedding = 64: the model of init = .* has 5; leave it out",
    "++model.embedding=64": "model.embedding = 64: the model of init = .* has 5; leave it out",
    "data.unit=byte": "data.unit = byte: the model of init = .* has char; leave it out",
    "data.text=ΔΣ": "knows ' abcdefgh', not one of the 2 characters of this text; leave init out",
    "init=nowhere": "nowhere: no such checkpoint",
    "data.old=nowhere": "data.old = nowhere: data.path = nowhere: no such file",
}


@pytest.mark.parametrize(("given", "said"), WRONG.items())
def test_what_does_not_fit_is_refused(runs, given, said):
    with pytest.raises(ValueError, match=said):
        plan(*fine(runs, given))


def test_init_is_not_resume(runs):
    with pytest.raises(ValueError, match=r"init = .*: begins a new run .*; leave one of them out"):
        plan(f"init={runs / 'lm'}", f"resume={runs / 'lm'}")
    with pytest.raises(ValueError, match=r"train.keep, data.old: are about the text of init="):
        plan("train.keep=0.5")
    with pytest.raises(ValueError, match="init = x: works with task=memorize or lm"):
        plan("task=copy", "init=x")


def test_an_old_text_that_has_changed_is_not_taken_for_it(runs, tmp_path):
    (tmp_path / "old.txt").write_text(text())
    run = go(tmp_path / "lm", *LM, f"data.path={tmp_path / 'old.txt'}", "train.steps=3")
    (tmp_path / "old.txt").write_text(text() + "a")
    asked = [*fine(runs, f"init={run}")]
    assert plan(*asked).initial.old is None
    with pytest.raises(
        ValueError, match=r"train.keep = 0.2: the old text, .* is not what it was; data.old=..."
    ):
        plan(*asked, "train.keep=0.2")
    named = plan(*asked, "train.keep=0.2", f"data.old={tmp_path / 'old.txt'}")
    assert len(named.initial.old.ids) == len(text()) + 1
    (run / "last.safetensors").unlink()
    for file in run.glob("step_*"):
        file.unlink()
    with pytest.raises(ValueError, match="does not say where its text lay"):
        plan(*asked, "train.keep=0.2")


def test_a_head_that_is_none_has_no_room_for_new_characters(tmp_path):
    run = go(tmp_path / "run", *MEMORIZE, "model.head=none", "data.text=abcabca", "model.hidden=5")
    with pytest.raises(ValueError, match="its model.head=none leaves no room for new characters, 'x'"):
        plan(f"init={run}", "data.text=abx", "threads=1")
    assert plan(f"init={run}", "data.text=aabb", "threads=1").vocabulary.characters == "abc"


def test_a_damaged_model_is_one_line(runs, tmp_path):
    blob = bytearray((runs / "lm" / "best.safetensors").read_bytes())
    blob[-5] ^= 1
    (tmp_path / "bad").write_bytes(blob)
    with pytest.raises(CheckpointError, match="its SHA-256 does not match"):
        plan(*fine(runs, f"init={tmp_path / 'bad'}"))


def test_resuming_with_fewer_characters_takes_the_alphabet_of_the_run(runs, tmp_path):
    other = [f"resume={runs / 'lm'}", "resume_with_other_data=true"]
    (tmp_path / "few.txt").write_text("ab ba abab" * 60)
    assert plan(*other, f"data.path={tmp_path / 'few.txt'}").vocabulary.characters == " abcdefgh"
    (tmp_path / "foreign.txt").write_text("abz" * 60 + "éz")
    wanted = (
        r"has 'z' .* at position 2, which is not among the 9 .*, nor is 'é' \(U\+00E9\); init=.*/lm in place"
    )
    with pytest.raises(UnknownCharacterError, match=wanted):
        plan(*other, f"data.path={tmp_path / 'foreign.txt'}")
