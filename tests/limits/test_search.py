"""`python -m charlstm limit`: the search against oracles, the measures by hand, and real searches."""

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard._utils import figure_to_image
from warm import PYTHON

from charlstm import checkpoint
from charlstm.config import compose
from charlstm.config.tool_settings import LimitSettings
from charlstm.files import PROJECT
from charlstm.limits import capacity, plot, report, search, trial
from charlstm.limits.capacity import Limit, Shape, Trial
from charlstm.model.numpy_model import NumpyModel
from charlstm.model.torch_model import Model
from charlstm.runs import run
from charlstm.sampling import writer

TINY = [
    "model.hidden=[4,8]",
    "train.epochs=100",
    "symbols=3",
    "start=4",
    "precision=1.5",
    "threads=1",
    "device=cpu",
    "seeds=2",
]


def asked(*overrides):
    return compose.compose("limit", LimitSettings, overrides)


SHAPE = Shape("lstm", 1, 8)


def a_trial(length=100, recalled=True, needed_bits=0.0, parameters=50, shape=SHAPE, seed=0):
    return Trial(shape, length, 8, seed, parameters, needed_bits, 7, 1.5, recalled, f"out/{shape}/{length}")


# the search


@pytest.mark.parametrize("start", [1, 3, 64, 1000])
@pytest.mark.parametrize("precision", [1, 1.1, 2])
def test_every_limit_is_found(start, precision):
    for true in [*range(1, 200), 511, 512, 513, 99_999]:
        tried = []
        found = capacity.search(start, precision, lambda n: (tried.append(n), n <= true)[1])  # noqa: B023
        # whatever the start: the longest of the series that is true
        assert found == max(n for n in capacity.lengths(precision)[: true + 1] if n <= true)
        assert true < max(found * precision, found + 1)
        assert len(tried) == len(set(tried))
        # one for each doubling or halving, two at their ends, a bisection of a factor of 2, and one above
        bisections = math.ceil(math.log2(math.log(2) / math.log(precision))) if precision > 1 else 18
        assert len(tried) <= abs(math.log2(true / start)) + 2 + max(bisections, 0) + 3


@pytest.mark.parametrize(
    ("start", "precision", "true", "tried"),
    [
        (10, 1.5, 100, [9, 13, 19, 28, 42, 63, 94, 141, 211]),
        (3, 1, 40, [3, 6, 12, 24, 48, 36, 42, 39, 40, 41]),
        (64, 1.1, 5, [60, 30, 15, 7, 3, 5, 6]),
        (4, 1, 0, [4, 2, 1]),
    ],
)
def test_the_order_of_a_search(start, precision, true, tried):
    asked_for = []
    found = capacity.search(start, precision, lambda n: (asked_for.append(n), n <= true)[1])
    assert (found, asked_for) == (max([0, *(n for n in tried if n <= true)]), tried)


def test_the_lengths_of_all_searches_are_one_series():
    assert list(capacity.lengths(1)[:5]) == [1, 2, 3, 4, 5]
    assert list(capacity.lengths(1.1)[:24]) == [*range(1, 21), 22, 24, 26, 28]


def test_one_failure_does_not_end_a_search():
    assert [n for n in capacity.lengths(1.1) if 38 < n < 80] == [39, 42, 46, 50, 55, 60, 66, 72, 79]
    for start in (23, 39, 46, 180):
        assert capacity.search(start, 1.1, lambda n: n <= 60 and n != 50) == 60


# texts and measures


def test_random_texts():
    text = capacity.random_text(100_000, 33, seed=3)
    counts = np.array([text.count(c) for c in capacity.CHARACTERS[:33]])
    assert counts.sum() == 100_000
    # a binomial's standard deviation is 54; five of them are passed once in 50,000 seeds
    assert abs(counts - 100_000 / 33).max() < 5 * 54
    assert capacity.random_text(500, 33, seed=3) == text[:500] != capacity.random_text(500, 33, seed=4)


def test_every_alphabet_is_printable():
    assert len(set(capacity.CHARACTERS)) == len(capacity.CHARACTERS) >= 1000
    assert capacity.CHARACTERS.isprintable()
    assert not any(c.isspace() for c in capacity.CHARACTERS)
    compose.compose("limit", LimitSettings, ["symbols=1000"])


def test_measures_by_hand():
    recalled, failed = a_trial(needed_bits=20.0), a_trial(200, False, needed_bits=350.0)
    assert (recalled.bits, recalled.bits_per_parameter) == (300.0, 6.0)  # log2 8 = 3 bits a character
    assert recalled.soft_bits_per_parameter == (300 - 20) / 50
    assert (failed.bits, failed.bits_per_parameter) == (0.0, 0.0)
    assert failed.soft_bits_per_parameter == (600 - 350) / 50
    assert a_trial(200, False, needed_bits=650.0).soft_bits_per_parameter == 0.0
    found = Limit((recalled, failed))
    assert (found.longest, found.shortest_failure) == (recalled, failed)
    assert (found.shown.bits_per_parameter, found.soft_bits_per_parameter) == (6.0, 5.6)
    nothing = Limit((a_trial(1, False), failed))
    assert (nothing.longest, nothing.shown.length, nothing.shown.bits_per_parameter) == (None, 1, 0.0)


def test_what_seeds_say_of_a_limit():
    found = Limit(
        (
            *(a_trial(80, seed=seed) for seed in (0, 1)),
            *(a_trial(90, seed == 2, seed=seed) for seed in (0, 1, 2)),
            *(a_trial(100, False, seed=seed) for seed in (0, 1, 2)),
            *(a_trial(110, seed == 1, seed=seed) for seed in (0, 1)),
            *(a_trial(120, False, seed=seed) for seed in (0, 1, 2)),
        )
    )
    assert (found.longest.length, found.shortest_failure.length) == (110, 120)
    assert found.by_seed == {0: 80, 1: 110, 2: 90}
    # 90 was recalled with a seed, 100 with none
    assert ([trial.length for trial in found.failures], found.is_monotone) == ([100, 120], False)
    assert Limit(tuple(trial for trial in found.trials if trial.length != 100)).is_monotone
    said = "\n".join(report.conclusion(Path("o"), found.trials, str))
    assert "lstm_1x8: the longest text of each of 3 seeds: 80 to 110." in said
    assert "lstm_1x8: not monotone: 100 characters were recalled with no seed, 110 were;" in said
    place = plot.draw([found, Limit((a_trial(50, shape=Shape("lstm", 1, 16)),))]).axes[1].collections[0]
    assert place.get_segments()[0].tolist() == [[0, 80 * 3 / 50], [0, 110 * 3 / 50]]


def test_one_recipe_serves_all_lengths_of_a_search():
    asked_for = [trial.overrides(asked(), SHAPE, n, Path("x")) for n in (3, 97, 98, 498, 499, 7000)]
    batches = [
        keys.pop(keys.index(next(k for k in keys if k.startswith("train.batch=")))) for keys in asked_for
    ]
    assert [int(batch.partition("=")[2]) for batch in batches] == [1, 1, 1, 5, 5, 64]
    assert all(keys == asked_for[0] for keys in asked_for)
    assert "train.layout=segments" in asked_for[0]


def test_growth():
    # 24 and 72 bits of 10 and 30 parameters: both lines have slope 2.4; with 48 bits of 30 they differ
    sizes = {10: 8, 30: 24}
    found = [Limit((a_trial(length, parameters=p),)) for p, length in sizes.items()]
    other = Limit((a_trial(5, parameters=90, shape=Shape("gru", 1, 8)),))
    (growth,) = capacity.growth([*found, other]).values()
    assert (growth.models, growth.free, growth.through_origin) == pytest.approx((2, 2.4, 2.4), rel=1e-12)
    found[1] = Limit((a_trial(16, parameters=30),))
    growth = capacity.growth(found)["lstm"]
    assert (growth.free, growth.through_origin) == pytest.approx((1.2, 1680 / 1000), rel=1e-12)


def test_the_first_text_has_a_bit_per_parameter():
    shape = Shape("lstm", 1, 16)
    assert search.first_length(asked(), shape) == 791 == math.ceil(3987 / 5.0443941193584535)
    assert search.first_length(asked("start=12"), shape) == 12
    with pytest.raises(ValueError, match="must equal the vocabulary's size, 35"):
        search.first_length(asked("model.head=none"), shape)


# real searches


def run_limit(folder, *arguments, env=None):
    return subprocess.run(
        [*PYTHON, "-m", "charlstm", "limit", *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a real search of two tiny models, and what it said."""
    folder = tmp_path_factory.mktemp("limit")
    done = run_limit(folder, *TINY, "out=found")
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def record(folder):
    return json.loads((folder / "found" / "limit.json").read_text())


def test_what_a_search_leaves(searched):
    folder, said = searched
    found = record(folder)
    assert found["finished"]
    assert [(m["layers"], m["hidden"]) for m in found["limits"]] == [(1, 4), (1, 8)]
    for model in found["limits"]:
        trials = [t for t in found["trials"] if t["hidden"] == model["hidden"]]
        longest = max(t["length"] for t in trials if t["recalled"])
        assert (model["length"], model["recalled"]) == (longest, True)
        assert model["shortest_failure"] <= max(1.5 * longest, longest + 1)
        by_seed = {str(t["seed"]): 0 for t in trials}
        by_seed |= {
            str(t["seed"]): t["length"] for t in sorted(trials, key=lambda t: t["length"]) if t["recalled"]
        }
        assert model["by_seed"] == by_seed
        assert len(by_seed) == 2
        assert max(by_seed.values()) == longest
        tried = [t for t in trials if t["length"] == model["shortest_failure"]]
        assert sorted((t["seed"], t["recalled"]) for t in tried) == [(0, False), (1, False)]
        assert model["bits_per_parameter"] == longest * math.log2(3) / model["parameters"]
        assert model["soft_bits_per_parameter"] == max(t["soft_bits_per_parameter"] for t in trials)
    table = [line.split("\t") for line in (folder / "found" / "limit.tsv").read_text().splitlines()]
    assert table[0] == list(found["trials"][0])
    assert table[1:] == [[str(value) for value in t.values()] for t in found["trials"]]
    assert (folder / "found" / "limit.png").read_bytes().startswith(b"\x89PNG")
    lines = said.splitlines()
    assert lines[0] == report.header()
    assert lines[1 : len(table)] == [report.row(t) for t in found["trials"]]
    longest = max(found["limits"], key=lambda m: m["length"])
    assert lines[-1].startswith("write  ")
    assert lines[-1].endswith(f"python -m charlstm sample ckpt={longest['directory']}")
    growth = found["growth"]["lstm"]
    assert f"lstm: each parameter more brings {growth['free']:.3f} bits" in said
    assert f"over 2 models; of a line through the origin, {growth['through_origin']:.3f})" in said


def test_each_trial_is_a_complete_run(searched, command):
    folder, _ = searched
    for done in record(folder)["trials"]:
        path = folder / done["directory"]
        text = (path / "text.txt").read_text()
        assert text == capacity.random_text(done["length"], 3, done["seed"])
        result = json.loads((path / "result.json").read_text())
        assert (result["recalled"], result["epochs"]) == (done["recalled"], done["exposures"])
        assert f"{done['length']} characters" in (path / "train.log").read_text()
        trained = checkpoint.load(path / "best.safetensors")
        assert sum(weight.size for weight in trained.weights.values()) == done["parameters"]
        if done["recalled"]:
            assert command("sample.py", f"ckpt={path}").stdout == text
    assert {done["recalled"] for done in record(folder)["trials"]} == {True, False}  # there are both


def in_bits(weights, bits):
    """Each row's weights, and each vector's, as whole multiples of one number, by a loop over the rows."""
    found = {}
    for name, weight in weights.items():
        rows = []
        for row in np.atleast_2d(weight):
            step = max(map(abs, row)) / np.float32(2 ** (bits - 1) - 1)
            rows.append([np.rint(x / step) * step if step else 0 for x in row])
        found[name] = np.array(rows, np.float32).reshape(weight.shape)
    return found


def test_the_fewest_bits_of_a_weight(searched, command):
    folder, _ = searched
    recalled = [t for t in record(folder)["trials"] if t["recalled"]]
    assert all(t["weight_bits"] is None for t in record(folder)["trials"] if not t["recalled"])
    assert len({t["weight_bits"] for t in recalled}) > 1
    for done in recalled:
        path = folder / done["directory"]
        trained, small = checkpoint.load(path), checkpoint.load(path / trial.ROUNDED)
        framed = trained.vocabulary.framed(trained.vocabulary.encode((path / "text.txt").read_text()))
        weights = in_bits(trained.weights, done["weight_bits"])
        model = NumpyModel(trained.config, weights)
        assert writer.recall(model, trained.vocabulary, framed) == len(framed) - 1
        for name, weight in weights.items():
            np.testing.assert_array_equal(small.weights[name], weight)
        for bits in [bits for bits in trial.BITS if bits < done["weight_bits"]]:
            model = NumpyModel(trained.config, in_bits(trained.weights, bits))
            assert writer.recall(model, trained.vocabulary, framed) < len(framed) - 1
    assert command("sample.py", f"ckpt={path / trial.ROUNDED}").stdout == (path / "text.txt").read_text()


def test_a_trial_can_be_repeated(searched, command, tmp_path):
    folder, _ = searched
    found = record(folder)["trials"][-1]
    lines = (folder / found["directory"] / "config" / "overrides.yaml").read_text().splitlines()
    overrides = shlex.split(" ".join(line.removeprefix("- ") for line in lines))
    (tmp_path / "found").symlink_to(folder / "found")
    done = command("train.py", *overrides, "hydra.run.dir=again")
    assert done.returncode == 0, done.stderr
    again = checkpoint.load(tmp_path / "again")
    first = checkpoint.load(folder / found["directory"])
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(again.weights[name], weight)


def test_bits_still_needed(searched):
    folder, _ = searched
    found = record(folder)["trials"][0]
    trained = checkpoint.load(folder / found["directory"])
    model = Model(trained.config, len(trained.vocabulary))
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in trained.weights.items()})
    ids = trained.vocabulary.framed(
        trained.vocabulary.encode((folder / found["directory"] / "text.txt").read_text())
    ).astype(int)
    with torch.no_grad():
        scores, _ = model(torch.from_numpy(ids[:-2, None]))
        nats = torch.nn.functional.cross_entropy(scores[:, 0], torch.from_numpy(ids[1:-1]), reduction="sum")
    # float32 sums in another order
    assert found["needed_bits"] == pytest.approx(nats.item() / math.log(2), rel=1e-5)


def test_tensorboard_shows_the_same(searched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    folder, _ = searched
    events = EventAccumulator(str(folder / "found"))
    events.Reload()
    assert events.Tags()["images"] == ["limit"]
    (layout,) = events.Tensors("custom_scalars__config__")
    charts = layout_pb2.Layout.FromString(layout.tensor_proto.string_val[0]).category[0].chart
    drawn = {
        chart.title: [tag for tag in events.Tags()["scalars"] if re.search(chart.multiline.tag[0], tag)]
        for chart in charts
    }
    assert drawn["bits_per_parameter"] == [f"bits_per_parameter/lstm_1x{hidden}" for hidden in (4, 8)]
    for hidden in (4, 8):
        trials = [t for t in record(folder)["trials"] if t["hidden"] == hidden]
        points = {e.step: e.value for e in events.Scalars(f"soft_bits_per_parameter/lstm_1x{hidden}")}
        expected = {t["length"]: t["soft_bits_per_parameter"] for t in trials}
        assert points == pytest.approx(expected, rel=1e-6)  # float32 there
    limits = {e.step: e.value for e in events.Scalars("limit_by_hidden/lstm_1")}
    expected = {m["hidden"]: m["bits_per_parameter"] for m in record(folder)["limits"]}
    assert limits == pytest.approx(expected, rel=1e-6)


def test_without_matplotlib_only_the_picture_is_missing(searched, tmp_path):
    folder, said = searched
    shutil.copytree(folder / "found", tmp_path / "found")
    for left in ("limit.png", "limit.tsv"):
        (tmp_path / "found" / left).unlink()
    (tmp_path / "nothing" / "matplotlib").mkdir(parents=True)
    (tmp_path / "nothing" / "matplotlib" / "__init__.py").write_text("raise ImportError")
    path = f"{tmp_path / 'nothing'}:{os.environ.get('PYTHONPATH', PROJECT)}"
    done = run_limit(tmp_path, *TINY, "out=found", env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    needed = (
        'matplotlib: pip install "charlstm[plot]", then ask again with the same out: no trial is done twice'
    )
    first, *lines = done.stdout.splitlines()
    assert first == f"The picture needs {needed}."
    assert lines == said.replace("picture     found/limit.png", f"picture     needs {needed}").splitlines()
    assert record(tmp_path) == record(folder)
    assert (tmp_path / "found" / "limit.tsv").read_bytes() == (folder / "found" / "limit.tsv").read_bytes()
    assert not (tmp_path / "found" / "limit.png").exists()


# resuming


def identity(folder):
    """What tells whether a file was written again."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}


def test_finished_trials_are_not_done_again(searched):
    folder, said = searched
    before, results = record(folder), identity(folder)
    gone = folder / before["trials"][1]["directory"]
    (gone / "result.json").unlink()
    (gone / "last.safetensors").unlink()
    (gone / "best.safetensors").unlink()
    done = run_limit(folder, *TINY, "out=found")
    assert (done.returncode, done.stderr) == (0, "")
    after, again = record(folder), identity(folder)
    changed = {path for path in again if again[path] != results[path]}
    assert changed == {gone / "result.json"}
    for record_ in (before, after):  # the same weights in another time
        del record_["trials"][1]["seconds"]
        for model in record_["limits"]:
            del model["seconds"]
    assert after == before
    assert done.stdout.count("\n") == said.count("\n")


def test_a_trial_that_was_stopped_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few, many = (asked("train.epochs=5", *rest, "out=o") for rest in ([], ["train.epochs=9"]))
    shape = Shape("lstm", 1, 3)
    assert trial.done(few, shape, 40).exposures == 5
    path = tmp_path / "o" / "lstm_1x3" / "000040_0"
    (path / "best.safetensors").unlink()
    (path / "result.json").write_text("")  # as a crash may leave it
    assert trial.done(many, shape, 40).exposures == 9
    assert "Resumes from step 5 " in (path / "train.log").read_text()


def test_ctrl_c_and_on_again(tmp_path):
    arguments = ["model.hidden=2", "train.epochs=1000000000", "start=1", "threads=1", "out=o"]  # without end
    results, rows = {}, []
    for _ in range(2):
        process = subprocess.Popen(
            [*PYTHON, "-m", "charlstm", "limit", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        rows.append([process.stdout.readline() for _ in range(3)])
        process.send_signal(signal.SIGINT)
        said, error = process.communicate(timeout=300)
        assert (process.returncode, error) == (130, "")
        *_, last = said.splitlines()
        command = "python -m charlstm limit model.hidden=2 train.epochs=1000000000 start=1 threads=1 out=o"
        assert last.startswith("Stopped; to resume: ")
        assert last.endswith(command)
        assert not json.loads((tmp_path / "o" / "limit.json").read_text())["finished"]
        assert (tmp_path / "o" / "limit.png").exists()
        assert results.items() <= identity(tmp_path).items()
        results = identity(tmp_path)
    assert rows[0] == rows[1]


def test_ctrl_c_that_a_library_swallows_ends_the_search(tmp_path, monkeypatch):
    original = compose.compose

    def swallowing(*arguments):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "o").mkdir()
    settings = asked(*TINY, "out=o")
    monkeypatch.setattr(compose, "compose", swallowing)
    assert search.find(settings, str) == 130
    assert list(tmp_path.glob("o/*/*/last.safetensors")) == []


def test_ctrl_c_in_the_last_moment_of_a_trial_ends_the_search(tmp_path, monkeypatch):
    write = run.write_result

    def write_result(directory, result):
        signal.raise_signal(signal.SIGINT)
        write(directory, result)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "write_result", write_result)
    (tmp_path / "o").mkdir()
    assert search.find(asked(*TINY, "out=o"), str) == 130
    assert [path.name for path in tmp_path.glob("o/*/*")] == ["000004_0"]
    done = identity(tmp_path)
    assert len(done) == 1
    assert search.find(asked(*TINY, "out=o"), str) == 130
    assert len(identity(tmp_path)) == 2
    assert done.items() <= identity(tmp_path).items()


def test_a_model_that_goes_wrong_leaves_the_others(tmp_path, monkeypatch):
    def done(_, shape, length, __):
        if shape.hidden == 4:
            raise trial.TrialError(1)
        return a_trial(length, recalled=length < 9, shape=shape)

    monkeypatch.setattr(trial, "done", done)
    assert search.find(asked("model.hidden=[4,8]", "start=1", f"out={tmp_path}"), str) == 1
    found = json.loads((tmp_path / "limit.json").read_text())
    assert [(m["hidden"], m["length"]) for m in found["limits"]] == [(8, 8)]
    assert not found["finished"]


# wrong requests

WRONG = {
    "model.hidden=[16,0]": "model.hidden = [16, 0]: must be a whole number, at least 1 and at most 65,536",
    "model.hidden=[]": "model.hidden = []: must be a value, or a list of such",
    "model.hidden=16,32": "model.hidden=16,32: several values; put a list in [ ]",
    "model.cell=[lstm,gro]": "model.cell = ['lstm', 'gro']: must be lstm | gru | rnn_tanh | rnn_relu",
    "model.layer=3": "model.layer: no such key; did you mean model.layers?",
    "symbols=1": "symbols = 1: must be a whole number, at least 2 and at most 1,000",
    "precision=0.9": "precision = 0.9: must be a number, at least 1 and at most 2",
    "train.budget=soon": "train.budget = soon: must be a time such as 90s, 15m or 2h",
    "start=0": "start = 0: must be a whole number, at least 1",
    "model.head=none": "model.hidden = 16: with model.head=none the hidden state is the prediction",
    "out=": "out = : names no folder; give one",
    "out=file": "out = file: cannot be made: File exists",
    "out=full": "out = full: holds something other than a search; name a new folder",
    "out=damaged": "out = damaged: holds something other than a search; name a new folder",
    "out=before": "model.hidden = [16]: the search in out = before has [4]; give the same, or name a new",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "file").touch()
    for name in ("full", "damaged", "before"):
        (folder / name).mkdir()
    (folder / "full" / "train.log").touch()
    (folder / "damaged" / "limit.json").write_text("{")
    report.save_record(folder / "before", asked("model.hidden=4"), [])
    return folder


@pytest.mark.parametrize("request_", WRONG)
def test_wrong_requests_get_one_clear_line(folder, request_):
    before = sorted(folder.rglob("*"))
    code = (
        "import sys; from charlstm.cli.limit import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, request_], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.stderr.startswith("error: " + WRONG[request_])
    assert done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert sorted(folder.rglob("*")) == before


# the picture


def panels(*shapes):
    figure = plot.draw([Limit((a_trial(9, shape=shape),)) for shape in shapes])
    figure_to_image(figure, close=False)  # draws it, which warns of what cannot be shown
    return figure.axes


def test_only_panels_that_compare_something():
    one, two = Shape("lstm", 1, 8), Shape("lstm", 1, 16)
    assert [p.get_xlabel() for p in panels(one)] == ["characters of the text"]
    assert [p.get_xlabel() for p in panels(one, two)][1:] == ["hidden units"]
    assert [p.get_xlabel() for p in panels(one, Shape("gru", 3, 8))][1:] == ["layers", "cell"]
    for panel in panels(one, two):
        marks = [text.get_text() for text in panel.texts]
        assert marks[:3] == list(plot.PUBLISHED.values())
        assert panel.get_legend() is None


def test_the_limits_are_drawn():
    panel = panels(Shape("lstm", 1, 16), Shape("gru", 1, 16), Shape("lstm", 1, 8))[1]
    drawn = {line.get_label(): [list(values) for values in line.get_data()] for line in panel.lines}
    exact = 9 * 3 / 50
    assert drawn["cell lstm"] == [[0, 1], [exact, exact]]
    assert drawn["cell gru"] == [[1], [exact]]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["8", "16"]


def test_names_stand_beside_their_curves_and_on_nothing():
    shapes = [Shape("lstm", layers, hidden) for layers in (1, 2) for hidden in (8, 16)]
    first, *others = panels(*shapes)
    assert [text.get_text() for text in first.texts[3:]] == [f"lstm {s.layers} x {s.hidden}" for s in shapes]
    for panel, names in (first, 4), *((panel, 2) for panel in others):
        boxes = [text.get_window_extent() for text in panel.texts]
        assert len(boxes) == 3 + names
        curves = [line for line in panel.lines if line.get_linestyle() != "-" or line.get_marker() == "o"]
        points = [point for line in curves for point in panel.transData.transform(line.get_xydata())]
        for k, box in enumerate(boxes):
            assert not any(box.contains(*point) for point in points), panel.texts[k]
            assert not any(box.overlaps(other) for other in boxes[:k]), panel.texts[k]


def test_nothing_recalled_can_be_drawn():
    figure = plot.draw([Limit((a_trial(1, False, needed_bits=99.0),))])
    assert figure_to_image(figure, close=False).shape == (3, 360, 800)
