"""TensorBoard itself, in a real browser, on the run directory of a real command."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, show_as
from selenium.webdriver.support.ui import WebDriverWait
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import charlstm
from charlstm.files import PROJECT

RUN = "0_train.lr-0.01"
KEYS = ["task=lm", "model.hidden=12", "model.embedding=5", "train.batch=4", "train.window=16", "eval.times=4"]
KEYS += ["threads=1", "precision=float32", "train.lr=0.01", "data.path=text"]

# what one sees of the page, without blanks, through the roots and frames that TensorBoard's parts hide behind
SEEN = """
const seen = [], blocks = [], pictures = [];
function walk(node) {
  if (!node) return; // a page or a frame that has only begun
  if (node.nodeType === Node.TEXT_NODE) { seen.push(node.data); return; }
  if (['STYLE', 'SCRIPT', 'TEMPLATE', 'DOM-MODULE'].includes(node.nodeName)) return;
  if (node.nodeName === 'PRE') blocks.push([node.textContent, node.getBoundingClientRect().right]);
  if (node.nodeName === 'IMG') pictures.push(node.naturalWidth);
  if (node.shadowRoot) walk(node.shadowRoot);
  if (node.nodeName === 'IFRAME' && node.contentDocument) walk(node.contentDocument.body);
  for (const child of node.childNodes) walk(child);
}
walk(document.body);
const loaded = pictures.filter((width) => width > 200).length;
return {text: `${seen.join('').replace(/\\s/g, '')}|${loaded}pictures`, blocks};
"""


def train(folder, *keys):
    """The real command in its own process."""
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "train.py"), *keys],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a run is, in `runs`, that learnt from lines without end, and from what looks like HTML."""
    folder = tmp_path_factory.mktemp("tensorboard")
    words = np.random.default_rng(0).choice(["<b>bold</b>", "&amp;", "* item", "~~~", "# head\n", "x"], 2000)
    (folder / "text").write_text(" ".join(words))
    finished(train(folder, *KEYS, "train.steps=40", f"hydra.run.dir=runs/{RUN}"))
    return folder


@contextmanager
def tensorboard(logdir):
    """Its address."""
    program = [Path(sys.executable).with_name("tensorboard"), "--logdir", logdir, "--port", "0"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if found := re.search(r"(http://\S+:\d+/)", line):
                    yield found[1]
                    break
        finally:
            process.terminate()
            process.stderr.read()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        show_as(found, 1280)
        yield found
        complaints = [line for line in found.get_log("browser") if line["level"] == "SEVERE"]
        assert complaints == []


def until(browser, address, tab, wanted):
    """What is seen of a tab as soon as it has all that is wanted."""
    browser.get("about:blank")
    browser.get(f"{address}#{tab}")

    def complete(browser):
        seen = browser.execute_script(SEEN)
        return seen if all(re.search(one.replace(" ", ""), seen["text"]) for one in wanted) else None

    try:
        return WebDriverWait(browser, 20, 0.1).until(complete)
    finally:
        if shots := os.environ.get("CHARLSTM_SHOTS"):
            time.sleep(1)
            browser.save_screenshot(f"{shots}/test_{tab}.png")


def points(address, tag):
    """The points of a curve as TensorBoard's page gets them."""
    url = f"{address}data/plugin/scalars/scalars?run={RUN}&tag={tag}"
    with urllib.request.urlopen(url) as answer:
        return [(step, value) for _, step, value in json.load(answer)]


TABS = {
    "timeseries": ["bits_per_char/train", "bits_per_char/5-gram", "LOSS"],
    "custom_scalars": ["loss, beside simpler models", "weight norm of each layer", "Matches"],
    "images": ["view/layer_1_forget_gate", "view/layer_1_cell", r"\|[67] pictures"],
    "text": ["temperature 0.5", "temperature 0.8", "temperature 1.0", "step 40"],
    "hparams": ["train.batch", "model.cell", "lstm"],
    "projector": [r"Points: \d+", "Dimension: 5"],
    "histograms": ["values/layer_1_cell", "weights"],
}


def test_every_tab_has_its_data(folder, browser):
    result = json.loads((folder / "runs" / RUN / "result.json").read_text())
    with tensorboard(folder / "runs") as address:
        for tab, wanted in TABS.items():
            wanted = [one.replace("LOSS", f"{result['bits_per_char']:.4f}") for one in wanted]
            named = [re.escape(RUN)] * (tab != "projector")  # which names a run only where there are several
            seen = until(browser, address, tab, [*wanted, *named])
            if tab == "text":
                texts = seen["blocks"][:3]
        browser.get("about:blank")  # which asks for nothing when the server has gone
        with urllib.request.urlopen(f"{address}data/runs") as answer:
            assert json.load(answer) == [RUN]
        plotted = points(address, "bits_per_char/train")
        assert plotted[-1] == (40, pytest.approx(result["bits_per_char"], rel=1e-6))
        assert points(address, "final/test_bpc") == [(40, pytest.approx(result["test_bpc"], rel=1e-6))]
    model = charlstm.load(folder / "runs" / RUN / "last.safetensors")
    for temperature, (text, right) in zip((0.5, 0.8, 1.0), texts, strict=True):
        expected = model.sample(length=200, temperature=temperature, seed=0)
        assert text.replace("↩\n", "") == f"{expected}\n"
        assert right < 1280  # within the window, however long its lines


def test_after_a_kill_and_a_resume_steps_only_rise(folder, browser):
    run = folder / "killed" / RUN
    killed = train(
        folder,
        *KEYS,
        "eval.baselines=false",
        "train.steps=1500",
        "save.steps=20",
        f"hydra.run.dir=killed/{RUN}",
    )
    while not any(int(path.stem[5:]) >= 100 for path in run.glob("step_*")):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (run / "result.json").exists()
    finished(train(folder, f"resume=killed/{RUN}", f"hydra.run.dir=killed/{RUN}"))
    shown = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    for tag in shown.Tags()["tensors"]:
        steps = [event.step for event in shown.Tensors(tag)]
        assert steps == sorted(set(steps)), tag
    result = json.loads((run / "result.json").read_text())
    with tensorboard(folder / "killed") as address:
        until(browser, address, "text", ["step 1,500", re.escape(RUN)])
        browser.get("about:blank")  # which asks for nothing when the server has gone
        with urllib.request.urlopen(f"{address}data/runs") as answer:
            assert json.load(answer) == [RUN]
        plotted = points(address, "bits_per_char/train")
        assert [step for step, _ in plotted] == sorted({step for step, _ in plotted})
        assert plotted[-1] == (1500, pytest.approx(result["bits_per_char"], rel=1e-6))
        assert len(points(address, "final/steps")) == 1
