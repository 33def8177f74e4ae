import html
import json
import re
import sys
from pathlib import Path

import markdown
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from charlstm.cli.train import next_steps
from charlstm.runs.report import Outcome, write_result
from charlstm.runs.tracker import SHOWN_CHARACTERS, SHOWN_COLUMNS, Tracker


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
    "text",
    [
        *("\n\n# no heading\n\n* no list <b> &amp;\n\n", "", "``` no fence ```", "~~~\n~~~~~~\nno end\n~~~"),
        *("x" * (SHOWN_CHARACTERS + 1), "<script>1</script>\u2028\u2029 é 日 \U0001f642", "    four blanks"),
        *("\x00\x02\x1b[31m\r\x7f", "no text: \udc80"),
    ],
)
def test_text_is_shown_as_it_is(tmp_path, text):
    with Tracker(tmp_path) as tracker:
        tracker.text(3, "written", {"one": text, "another": "text"})
    (shown,) = text_of(events(tmp_path), "written")
    page = markdown.markdown(shown, extensions=["tables", "fenced_code"])  # as TensorBoard has it
    blocks = re.findall("<p>(.*?)</p>\n<pre><code>(.*?)\n?</code></pre>", page, re.DOTALL)
    (heading, first), second = ((heading, html.unescape(block)) for heading, block in blocks)
    assert (heading, second) == ("one", ("another", "text"))
    if text.startswith("\x00"):
        assert first == "␀␂␛[31m␍␡"
    elif text.endswith("\udc80"):
        assert first == "no text: ���"
    else:
        assert max(map(len, first.split("\n"))) <= SHOWN_COLUMNS + 1
        assert first.replace("↩\n", "") == text[:SHOWN_CHARACTERS] + (
            "..." if len(text) > SHOWN_CHARACTERS else ""
        )


def test_one_run_on_the_page(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.curves(1, {"loss": 2.0})
        tracker.text(1, "written", {"": "x"})
    tracker.conclude(1, {"train.lr": 0.1}, {"accuracy": 1.0})
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"events"}


def row_of(directory):
    """The settings of TensorBoard's table of runs, of a run's directory."""
    content = events(directory).SummaryMetadata(metadata.SESSION_START_INFO_TAG)
    row = metadata.parse_session_start_info_plugin_data(content.plugin_data.content).hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in row.items()}


def test_a_row_of_the_table_is_of_the_latest_end(tmp_path):
    for step, lr in ((5, 0.1), (9, 0.2)):  # the second resumes the first
        with Tracker(tmp_path, from_step=step - 4) as tracker:
            tracker.curves(step, {"bits_per_char/train": 2.0})
        settings = {"train.lr": lr, "train.budget": None, "train.stop": True, "data.text": "é" * 1000}
        tracker.conclude(step, settings, {"test_bpc": lr})
    assert row_of(tmp_path) == {
        "train.lr": 0.2,
        "train.stop": "True",
        "data.text": "é" * 80,
    }
    shown = events(tmp_path)
    assert [(e.step, e.value) for e in shown.Scalars("final/test_bpc")] == [(9, pytest.approx(0.2))]
    assert [e.step for e in shown.Scalars("bits_per_char/train")] == [9]


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
