import json
import re
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from charlstm.cli.train import next_steps
from charlstm.runs.report import Outcome, write_result
from charlstm.runs.tracker import SHOWN_CHARACTERS, Tracker


def events(directory):
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return accumulator


def text_of(accumulator, name):
    return [e.tensor_proto.string_val[0].decode() for e in accumulator.Tensors(f"{name}/text_summary")]


def test_curves_have_their_points(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.curves(1, {"loss": 2.0, "bits_per_char": None})
        tracker.curves(5, {"loss": 1.5, "bits_per_char": None})
    curves = events(tmp_path)
    assert curves.Tags()["scalars"] == ["loss"]
    (layout,) = curves.Tensors("custom_scalars__config__")
    first, *_ = layout_pb2.Layout.FromString(layout.tensor_proto.string_val[0]).category[0].chart
    assert first.title == "loss, beside simpler models"
    (pattern,) = first.multiline.tag
    shown = ("bits_per_char/train", "bits_per_byte/xz", "train/bits_per_char")
    assert [bool(re.search(pattern, name)) for name in shown] == [True, True, False]
    assert [(e.step, e.value) for e in curves.Scalars("loss")] == [(1, 2.0), (5, 1.5)]


@pytest.mark.parametrize(
    "text", ["# no heading\n\n* no list <b>", "", "``` no fence ```", "x" * (SHOWN_CHARACTERS + 1)]
)
def test_text_is_shown_as_it_is(tmp_path, text):
    with Tracker(tmp_path) as tracker:
        tracker.text(3, "written", text)
    (shown,) = text_of(events(tmp_path), "written")
    lines = shown.split("\n")
    assert all(line.startswith("    ") for line in lines if line)  # Markdown's code block
    shortened = text[:SHOWN_CHARACTERS] + ("..." if len(text) > SHOWN_CHARACTERS else "")
    assert "\n".join(line[4:] for line in lines) == shortened


def test_one_run_on_the_page(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.curves(1, {"loss": 2.0})
        tracker.text(1, "written", "x")
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["events"]


def test_the_result_is_json_that_any_program_reads(tmp_path):
    write_result(tmp_path, {"loss": 0.5, "recalled": True, "checkpoint": "é"})
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["checkpoint"] == "é"
    with pytest.raises(ValueError, match="JSON"):
        write_result(tmp_path, {"loss": float("nan")})


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_the_next_steps_are_named_from_where_one_stands(tmp_path, monkeypatch, place):
    (tmp_path / place).mkdir()
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / place / "outputs" / "run" / "best.safetensors"
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    run, curves = ("outputs/run", "outputs") if place == "here" else (path.parent, path.parent)
    assert list(next_steps(Outcome(0, False, path, ("train.lr=0.1",), "ab>"), path))[1:] == [
        f"resume      python train.py resume={run} train.lr=0.1",
        f"write       python sample.py ckpt={run} prompt='ab>'",
        f"curves      tensorboard --logdir {curves}",
    ]
