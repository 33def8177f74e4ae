"""What is chosen for a language model by the length of its text and the time."""

import itertools
import math

import pytest
from conftest import settings
from resuming import compose, go, plan, text

from charlstm import checkpoint
from charlstm.model.numpy_model import parameter_count
from charlstm.training import recipe

LM = ["task=lm", "eval.baselines=false", "train.batch=4", "threads=1", "precision=float32"]
V = 80
SIZES = {"model.hidden", "train.optimizer", "train.lr", "train.dropout.hidden", "train.dropout.weight"}
SIZES |= {"train.weight_decay"}


def chosen(symbols, *overrides):
    return recipe.by_corpus(settings("task=lm", *overrides), symbols, V)


def test_a_text_gets_what_is_good_for_its_length():
    """As in docs: 2 kB, 20 kB, 200 kB, 2 MB, 20 MB."""
    found = [chosen(2 * 10**k) for k in range(3, 8)]
    assert [one["model.hidden"] for one in found] == [64, 192, 512, 512, 512]
    assert [one["train.optimizer"] for one in found] == ["adamw", "adamw", "muon", "muon", "muon"]
    assert [one["train.lr"] for one in found] == [0.02, 0.02, 0.0177, 0.0177, 0.0177]
    assert [one["train.dropout.hidden"] for one in found] == [0.5, 0.28, 0.34, 0.04, 0]
    assert [one["train.weight_decay"] for one in found] == [0.92, 0.42, 0.23, 0.03, 0]
    assert [one["train.budget"] for one in found] == [None, None, "5m", "5m", "5m"]
    assert [one.get("train.epochs") for one in found] == [300, 33, None, None, None]


def test_wide_lstms_get_muon_with_a_lower_rate_more_dropout_and_fewer_steps():
    """The time is that of 2 h; at 1 x 512 a step of Muon takes about 1.5 times as long."""
    of = {
        name: chosen(10**6, "model.hidden=512", "train.budget=2h", *keys)
        for name, keys in {
            "auto": [],
            "adamw": ["train.optimizer=adamw"],
            "muon": ["train.optimizer=muon"],
            "gru": ["model.cell=gru"],
        }.items()
    }
    assert of["auto"].pop("train.optimizer") == "muon"
    assert of["gru"].pop("train.optimizer") == "adamw"
    assert of["auto"] == of["muon"]
    assert of["gru"]["train.lr"] == of["adamw"]["train.lr"]
    assert [of[name]["train.lr"] for name in ("adamw", "muon")] == [0.0133, 0.0177]
    steps = {"adamw": 7200 / 0.1535, "muon": 7200 / 0.1535 / 1.5}  # of 2,048 characters, 1.23 million weights
    weights = parameter_count(settings("task=lm", "model.hidden=512").model, V)
    for dropout, decay, per_pass, name in (
        (0.08, 0.12, weights / 10**6 / 32, "adamw"),  # the more weights for each symbol, the more
        (0.09, 0.06, 1, "muon"),
    ):
        doublings = max(math.log2(steps[name] * 2048 / 10**6 * per_pass), 0)
        expected = min(dropout * doublings, 0.5), min(decay * doublings, 1)
        got = of[name]["train.dropout.hidden"], of[name]["train.weight_decay"]
        assert got == pytest.approx(expected, abs=0.006)  # rounded to 0.01
    assert chosen(10**6, "model.hidden=256")["train.optimizer"] == "muon"
    assert chosen(10**6, "model.hidden=255")["train.optimizer"] == "adamw"
    # weights of layer and characters: 4 x 320 x (64 + 320 + 2) and V x (64 + 320 + 1): as many at V = 1,290
    wide = settings("task=lm", "model.hidden=320")
    for vocabulary, optimizer in ((80, "muon"), (1290, "muon"), (1291, "adamw")):
        assert recipe.by_corpus(wide, 10**6, vocabulary)["train.optimizer"] == optimizer


@pytest.mark.parametrize("overrides", [[], ["train.budget=10s"], ["train.steps=500"], ["model.layers=2"]])
def test_longer_texts_get_wider_nets_with_less_dropout(overrides):
    every = [chosen(int(1000 * 1.1**k), *overrides) for k in range(110)]
    for shorter, longer in itertools.pairwise(every):
        assert shorter["model.hidden"] <= longer["model.hidden"]
        assert shorter["train.lr"] >= longer["train.lr"]
    assert every[0]["model.hidden"] < every[-1]["model.hidden"]
    assert every[0]["train.dropout.hidden"] > every[-1]["train.dropout.hidden"] == 0


def test_more_time_gets_a_wider_net_with_more_dropout():
    little, much = (chosen(10**6, f"train.budget={budget}") for budget in ("20s", "10m"))
    assert little["model.hidden"] < much["model.hidden"]
    assert chosen(10**9, "train.budget=99h")["model.hidden"] == 2048
    assert little["train.dropout.hidden"] < much["train.dropout.hidden"]
    assert (
        chosen(10**6, "train.steps=300")["model.hidden"] < chosen(10**6, "train.steps=9000")["model.hidden"]
    )


def test_what_is_given_is_taken():
    given = [
        "model.hidden=48",
        "train.optimizer=muon",
        "train.lr=0.3",
        "train.dropout.hidden=0.4",
        "train.dropout.weight=0.1",
        "train.weight_decay=0.2",
    ]
    assert chosen(5000, *given, "train.budget=9s") == {}
    assert chosen(5000, *given) == {"train.budget": None, "train.epochs": 150}
    assert chosen(5000, *given, "train.epochs=3") == {"train.budget": None, "train.epochs": 3}
    assert chosen(5000, *given, "train.steps=7") == {"train.budget": None}
    assert chosen(5000, "model.hidden=48").keys() == SIZES - {"model.hidden"} | {
        "train.budget",
        "train.epochs",
    }


def test_what_was_chosen_stays_when_a_run_is_resumed(tmp_path):
    (tmp_path / "text").write_text(text(), encoding="utf-8")
    request = [*LM, f"data.path={tmp_path / 'text'}"]
    planned = plan(*request)
    assert (
        "Chosen by the text's length, each unless it is given: model.hidden=32 " in [*planned.describe()][2]
    )
    run = go(tmp_path / "run", *request, "train.epochs=2")
    trained = checkpoint.load(run / "last.safetensors")
    assert trained.config.hidden == trained.training.settings.model.hidden == 32
    again = compose(f"resume={run}", "train.budget=9h", "train.epochs=900")
    assert again.model.hidden == 32
    assert again.train.dropout == trained.training.settings.train.dropout
    assert plan(f"resume={run}", "train.epochs=900").by_corpus == {}


@pytest.mark.parametrize(
    ("overrides", "answer"),
    {
        ("model.hidden=auto",): "model.hidden = auto: works with task=lm; give a number",
        ("train.budget=auto",): "train.budget = auto: works with task=lm; leave it out",
        ("train.dropout.weight=auto",): "train.dropout.weight = auto: works with task=lm; leave it out",
        ("train.weight_decay=auto",): "train.weight_decay = auto: works with task=lm; leave it out",
        ("task=copy", "train.lr=auto"): "train.lr = auto: works with task=memorize or lm; leave it out",
        (
            "task=copy",
            "train.optimizer=auto",
        ): "train.optimizer = auto: works with task=memorize or lm; leave",
    }.items(),
)
def test_a_task_that_does_not_choose_says_so(overrides, answer):
    with pytest.raises(ValueError, match=answer):
        plan(*overrides)
