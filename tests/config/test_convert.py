from dataclasses import asdict

import pytest
from conftest import settings

from charlstm.config.convert import RequestError, convert, keys_of, unknown_key
from charlstm.config.settings import ModelConfig, TrainSettings
from charlstm.config.tool_settings import LookSettings, PageSettings, SampleSettings, ScoreSettings

GOOD = asdict(settings())


def problems(**changes):
    """The problems of the default settings with `section__key=value` changed."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in GOOD.items()}
    for path, value in changes.items():
        *section, key = path.split("__")
        target = values[section[0]] if section else values
        target[key] = value
    try:
        convert(TrainSettings, values)
    except RequestError as error:
        return error.problems
    return []


def test_the_defaults_are_right():
    assert problems() == []
    assert convert(TrainSettings, GOOD) == settings()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model__layers", -1, "model.layers = -1: must be a whole number, at least 1 and at most 100"),
        ("model__layers", "x", "model.layers = x: must be a whole number"),
        ("model__layers", 1.5, "model.layers = 1.5: must be a whole number"),
        ("model__layers", True, "model.layers = True: must be a whole number"),
        ("model__layers", None, "model.layers = null: must be a whole number"),
        ("model__layers", 10**400, "must be a whole number"),
        ("model__hidden", [1], "model.hidden = [1]: must be a whole number"),
        ("train__lr", 0, "train.lr = 0: must be a number, above 0 and at most 100"),
        ("train__lr", float("nan"), "train.lr = nan: must be a number"),
        ("train__lr", float("inf"), "train.lr = inf: must be a number"),
        ("train__lr", "1e-3x", "train.lr = 1e-3x: must be a number"),
        ("train__epochs", 1e30, "train.epochs = 1e+30: must be a whole number"),
        ("train__stop_at_recall", 1, "train.stop_at_recall = 1: must be true or false"),
        (
            "model__cell",
            "lstn",
            "model.cell = lstn: must be lstm | gru | rnn_tanh | rnn_relu; did you mean lstm?",
        ),
        ("data__text", 5, "data.text = 5: must be text; in YAML, put it in quotes or null"),
        ("threads", "many", "threads = many: must be a whole number, at least 1 and at most 1,024 or auto"),
        ("threads", 0, "threads = 0: must be"),
        ("seed", -1, "seed = -1: must be"),
        ("data__split", [0.9, 0.2, 0], "data.split = [0.9, 0.2, 0]: must be three numbers, none negative"),
        ("data__split", [0.9, 0.1], "data.split = [0.9, 0.1]: must be three numbers"),
        ("data__split", [0, 0.5, 0.5], "must be three numbers, none negative, the first above 0"),
        ("data__split", [1.1, -0.1, 0], "must be three numbers"),
        ("data__split", [1, float("nan"), 0], "must be three numbers"),
        ("data__split", [True, 0, 0], "must be three numbers"),
        ("data__split", 0.9, "data.split = 0.9: must be three numbers"),
        ("data__split", ["a", 0, 1], "must be three numbers"),
        ("data__exclude", "tests", "data.exclude = tests: must be a list of texts, such as [a,b]"),
        ("data__exclude", ["a", 3], "must be a list of texts"),
        (
            "data__records",
            "lines",
            "data.records = lines: must be none | line | blank | file; did you mean line?",
        ),
        ("data__min_count", 0, "data.min_count = 0: must be a whole number"),
        ("model", 3, "model = 3: must be a group of keys, such as model.cell=..."),
        ("model__layer", 3, "model.layer: no such key; did you mean model.layers?"),
    ],
)
def test_each_wrong_value_is_named_with_what_is_allowed(key, value, expected):
    (problem,) = problems(**{key: value})
    assert problem.startswith(expected) or expected in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data__split", [1, 0, 0]),
        ("data__split", [0.7, 0.2, 0.1]),
        ("train__epochs", 1e3),
        ("train__lr", 1),
        ("threads", "auto"),
        ("threads", 3),
        ("seed", 2**63 - 1),
    ],
)
def test_numbers_may_be_written_either_way(key, value):
    assert problems(**{key: value}) == []


def test_all_problems_come_at_once():
    found = problems(model__layers=0, model__hiden=3, train__lr=-1, task="translate")
    assert len(found) == 4


def test_missing_keys_are_named():
    assert convert_problems(ModelConfig, {"cell": "lstm"}) == [
        f"{key}: missing" for key in ("layers", "hidden", "embedding", "head", "engine")
    ]


def convert_problems(cls, values):
    with pytest.raises(RequestError) as caught:
        convert(cls, values)
    return caught.value.problems


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("layers", "model.layers"),
        ("model.hiden", "model.hidden"),
        ("modle.layers", "model.layers"),
        ("train.learning_rate", None),
        ("leyers", "model.layers"),
        ("sed", "seed"),
        ("xyzzy", None),
    ],
)
def test_did_you_mean(key, near):
    answer = unknown_key(key, keys_of(TrainSettings))
    assert answer.startswith(f"{key}: no such key; ")
    assert answer.endswith(f"did you mean {near}?" if near else "see --help for all keys")


def test_a_group_is_no_key():
    assert "it has model.cell, model.layers" in unknown_key("model", keys_of(TrainSettings))


def test_every_key_of_the_yaml_files_has_a_comment_and_a_type():
    import yaml

    from charlstm.config.compose import CONF

    tools = {"sample": SampleSettings, "score": ScoreSettings, "look": LookSettings, "page": PageSettings}
    for name, cls in ({"train": TrainSettings} | tools).items():
        lines = (CONF / f"{name}.yaml").read_text().split("\nhydra:")[0].splitlines()
        groups = {"task": "memorize"} if cls is TrainSettings else {}  # chosen in the defaults
        keys = [n for n, line in enumerate(lines) if line.strip().partition(":")[0] in last_parts(cls)]
        assert len(keys) == len(keys_of(cls) - groups.keys())
        for n in keys:
            assert lines[n - 1].strip().startswith("#"), f"{name}.yaml: {lines[n]} has no comment"
        values = yaml.safe_load("\n".join(lines))
        values.pop("defaults", None)
        assert convert(cls, values | groups)


def last_parts(cls):
    return {key.rpartition(".")[2] for key in keys_of(cls)}
