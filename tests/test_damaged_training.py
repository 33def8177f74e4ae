"""Files with a right digest whose training part is damaged: one CheckpointError, in resume as in sample."""

import copy
import subprocess
from pathlib import Path

import pytest
from resuming import LM, go, text
from warm import PYTHON

from charlstm import checkpoint
from charlstm.checkpoint import CheckpointError
from charlstm.files import PROJECT
from charlstm.runs import resume
from tests.soak import forging


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of the last states of all tasks, stopped in the middle."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "text").write_text(text())
    lm = go(folder / "lm", *LM, f"data.path={folder / 'text'}", stop_before=17)
    copying = (
        "task=copy",
        "copy.symbols=2",
        "model.hidden=9",
        "train.batch=4",
        "train.log_every=5",
        "threads=1",
    )
    copied = go(folder / "copy", *copying, "train.budget=null", "train.epochs=40", stop_before=23)
    long = ("model.layers=1", "model.hidden=9", "train.epochs=30", "threads=1", "save.every=null")
    soap = go(folder / "soap", *long, f"data.text={text()}", stop_before=7)
    muon = go(folder / "muon", *long, "train.optimizer=muon", f"data.text={text()}", stop_before=7)
    runs = {"muon": muon, "lm": lm, "copy": copied, "soap": soap}
    found = {name: (run / checkpoint.LAST).read_bytes() for name, run in runs.items()}
    return found | {"memorize": forging.written(forging.made(3, training=True))}


TRAINING = {
    "numbers": (
        "step",
        "epoch",
        "window",
        "chars_seen",
        "lr_factor",
        "seconds",
        "since",
        "state_dtypes",
        "settling",
    ),
    "driver": ("pending", "finished", "returns"),
    "settings": ("task", "data", "model", "train", "eval", "save", "seed", "device", "threads"),
    "data": ("size", "sha256"),
    "provenance": ("charlstm", "python", "torch", "numpy", "device", "precision", "threads"),
}
MAY_BE_MISSING = {
    ("numbers", "settling"),
    ("progress", "free_run"),
    ("progress", "recalled"),
}  # they have defaults
PLACES = [("memorize", ()), *(("memorize", (key,)) for key in (*TRAINING, "progress", "task", "folder"))]
PLACES += [("memorize", (group, key)) for group, keys in TRAINING.items() for key in keys]
PLACES += [("memorize", ("task", "recalled_at_epoch")), ("memorize", ("task", "proof", "known"))]
PLACES += [("lm", ("task", key)) for key in ("best", "since_best", "decided")]
PLACES += [("lm", ("task", "decided", key)) for key in ("precision", "threads", "seconds_per_step", "steps")]
PLACES += [("lm", ("progress", key)) for key in ("epoch", "loss", "bits_per_char", "free_run", "recalled")]
PLACES += [("copy", ("task", key)) for key in ("length", "longest", "share")]
OF_NUMBERS = (-1, 10**30, 0.5, "1", None, True, [1], {})


def damaged(blob, change):
    """The file with a change to its metadata and arrays, and a right digest."""
    metadata, entries, data = forging.parts(blob)
    change(metadata["training"], entries)
    return forging.sealed(forging.joined(metadata, entries, data))


def inner(values, place):
    for key in place:
        values = values[key]
    return values


def refused(blob, folder):
    """What is said of a file, the same when it is resumed and when it is sampled from."""
    path = folder / checkpoint.LAST
    path.write_bytes(blob)
    said = []
    for read in (checkpoint.load, resume.find):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert said[0].startswith(f"{path}: its content does not fit together: ")
    assert "\n" not in said[0]
    return said[0]


@pytest.mark.parametrize(("task", "place"), [(t, p) for t, p in PLACES if p and p not in MAY_BE_MISSING])
def test_a_field_that_is_missing(good, tmp_path, task, place):
    def remove(training, _):
        del inner(training, place[:-1])[place[-1]]

    assert "its training" in refused(damaged(good[task], remove), tmp_path)


@pytest.mark.parametrize(("task", "place"), [(t, p) for t, p in PLACES if p])
def test_a_field_of_another_type(good, tmp_path, task, place):
    before = inner(forging.parts(good[task])[0]["training"], place)
    other = 7.5 if isinstance(before, str | dict | list | bool) else {"a": "group"}

    def put(training, _):
        inner(training, place[:-1])[place[-1]] = other

    refused(damaged(good[task], put), tmp_path)


@pytest.mark.parametrize(("task", "place"), PLACES)
def test_a_field_that_is_surplus(good, tmp_path, task, place):
    def put(training, _):
        within = inner(training, place)
        within = within if isinstance(within, dict) else inner(training, place[:-1])
        within["__class__"] = 1

    assert "__class__: no such key" in refused(damaged(good[task], put), tmp_path)


@pytest.mark.parametrize(
    ("task", "place", "value"),
    [
        *(("memorize", ("numbers", "step"), value) for value in OF_NUMBERS if value != []),
        ("memorize", ("numbers", "lr_factor"), 2.0),
        ("memorize", ("numbers", "state_dtypes"), ["int8"]),
        ("memorize", ("numbers", "since"), {"steps": -1, "chars": 0, "seconds": 0.0}),
        ("memorize", ("provenance", "threads"), 0),
        ("memorize", ("settings", "model", "hidden"), 4),
        ("memorize", ("settings", "task"), "lm"),
        ("memorize", ("settings", "train", "lr"), -1.0),
        ("memorize", ("driver", "pending"), {"epoch": 1}),
        ("lm", ("task", "best", "nats"), -1.0),
        ("lm", ("task", "decided", "seconds_per_step"), 0),
        ("lm", ("task", "decided", "precision"), "int8"),
        ("copy", ("task", "share"), 1.5),
        ("copy", ("task", "length"), 0),
    ],
)
def test_a_value_out_of_range(good, tmp_path, task, place, value):
    def put(training, _):
        inner(training, place[:-1])[place[-1]] = value

    refused(damaged(good[task], put), tmp_path)


@pytest.mark.parametrize("task", ["lm", "copy", "soap", "muon", "memorize"])
def test_every_array_has_to_be_there_and_right(good, tmp_path, task):
    _, entries, _ = forging.parts(good[task])
    names = [name for name in entries if name.startswith("training/")]
    kinds = {name.split("/")[1] for name in names}
    assert kinds >= {"figures", "generator", task if task in ("soap", "muon") else "adam"}
    for name in names:
        entry = entries[name]

        def rename(_, entries, name=name):
            entries[name + "x"] = entries.pop(name)

        def reshape(_, entries, name=name, entry=entry):
            entries[name] = copy.deepcopy(entry) | {"shape": [1, *entry["shape"]]}

        for change in (rename, reshape):
            assert name.removeprefix("training/") in refused(damaged(good[task], change), tmp_path)


@pytest.mark.parametrize("program", ["train.py resume=", "sample.py ckpt="])
def test_the_command_says_it_in_a_line(good, tmp_path, program):
    def put(training, _):
        training["numbers"]["step"] = "many"

    path = tmp_path / checkpoint.LAST
    path.write_bytes(damaged(good["memorize"], put))
    script, key = program.split()
    done = subprocess.run(
        [*PYTHON, str(PROJECT / script), key + str(path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(
        f"error: {path}: its content does not fit together: its training: numbers.step"
    )
    assert [path.name for path in Path(tmp_path).iterdir()] == [checkpoint.LAST]
