"""The page in a real browser: what it computes is what NumPy computes, and every control does its work."""

import base64
import codecs
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from axe_core_python.selenium import Axe
from browser import chromium, show_as
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import charlstm
from charlstm.api import Model
from charlstm.cli import score
from charlstm.config.compose import compose
from charlstm.config.tool_settings import ScoreSettings
from charlstm.page.document import document

CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
VERSE = 'One two three, "buckle my shoe";\nThree four (knock at the door) 🙂 é.\n'
HOSTILE = "<script>window.broken = 1</script> & </script><!-- \u2028 <b>bold</b> \U0001f642"
SMALL = {"threads": 1, "precision": "float32", "train.batch": 4, "train.window": 20, "eval.baselines": False}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a language model for a second, in a run directory."""

    def train(text, *, cell="lstm", layers=1, hidden=24, steps=60, **overrides):
        keys = SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
        sizes = {"cell": cell, "layers": layers, "hidden": hidden, "steps": steps}
        folder = tmp_path_factory.mktemp(cell)
        return charlstm.train(text, task="lm", **sizes, overrides=keys, directory=folder)

    return train


@pytest.fixture(scope="module")
def models(trained):
    """A model of each cell: one-hot and embedded input, of one and of two layers, with and without head."""
    text = VERSE * 30
    size = len(set(text)) + 2
    return {
        "lstm": trained(text, layers=2, model__embedding=6),
        "gru": trained(text, cell="gru", layers=2, model__embedding=0),
        "rnn_tanh": trained(text, cell="rnn_tanh", hidden=size, model__head="none", model__embedding=0),
        "rnn_relu": trained(text, cell="rnn_relu", model__embedding=5),
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        # nothing can be reached, and the page must not miss it
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        found.execute_cdp_cmd("Network.enable", {})
        found.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield found


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page of models at a size and with a fragment, ready to be used and not writing; in the end
    the browser must have nothing to complain of."""

    def opened(*models, excerpt=VERSE, weights="float16", fragment="written=x", width=1280, scheme="light"):
        path = tmp_path / "a model & its page.html"
        named = [(str(model.path), model) for model in models]
        path.write_text(document(named, weights, excerpt), encoding="utf-8")
        browser.get("about:blank")
        show_as(browser, width, scheme)
        browser.get(f"{path.as_uri()}#{fragment}")
        until(browser, "return document.body.classList.contains('ready') && !!window.app.inside.kept")
        return browser

    yield opened
    assert [line["message"] for line in browser.get_log("browser")] == []


def until(browser, script, *arguments):
    """What a script returns as soon as that is true."""
    return WebDriverWait(browser, 20, 0.02).until(lambda b: b.execute_script(script, *arguments))


def element(browser, css):
    return browser.find_element(By.CSS_SELECTOR, css)


def written(browser, n=0):
    return browser.execute_script("return app.writings[arguments[0]].text", n)


def embedded(page):
    """What a page has of its models, read in another way than the page does."""
    found = re.search(r'<script id="models" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def unpacked(packed):
    blob = zlib.decompress(base64.b64decode(packed["data"]))
    if "scales" in packed:
        return np.frombuffer(blob, np.int8).reshape(packed["shape"]) * np.float32(packed["scales"])[:, None]
    low, high = np.frombuffer(blob, np.uint8).reshape(2, -1)
    return np.stack([low, high], axis=1).copy().view("<f2").astype(np.float32).reshape(packed["shape"])


def as_stored(model, weights="float16"):
    """The model with the weights that its page has."""
    (data,) = embedded(document([(str(model.path), model)], weights, ""))
    arrays = {name: np.asarray(unpacked(packed), np.float32) for name, packed in data["weights"].items()}
    return Model(replace(model.checkpoint, weights=arrays), model.path)


# --- what it computes


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_the_likeliest_text_is_that_of_sample(models, show, cell, weights):
    expected = as_stored(models[cell], weights).sample(length=2000, temperature=0)
    browser = show(
        models[cell], weights=weights, fragment="written=x&temperature=0&length=2000&pace=1000000000"
    )
    browser.execute_script("app.begin(); app.go()")
    until(browser, "return !app.isWriting")
    assert len(expected) == 2000
    assert written(browser) == expected


@pytest.mark.parametrize("cell", CELLS)
def test_its_probabilities_are_those_of_numpy(models, show, cell):
    browser, model = show(models[cell]), models[cell]
    ids = model.vocabulary.framed(model.vocabulary.encode(VERSE))[:-1]
    found = browser.execute_script(
        "const m = app.models[0]; m.reset();"
        "return arguments[0].map((id) => { m.step(id); return Array.from(m.probabilities()); })",
        ids.tolist(),
    )
    for source, tolerance in ((as_stored(model), 1e-5), (model, 1e-3)):  # float32's order of sums; float16
        scores, _ = source.checkpoint.model()(ids)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        np.testing.assert_allclose(found, odds / odds.sum(axis=1, keepdims=True), rtol=0, atol=tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_its_gates_are_those_of_trace(models, show, cell):
    browser, terms = show(models[cell]), as_stored(models[cell]).trace(VERSE)
    found = browser.execute_script(
        "return app.inside.kept.map((layer) => "
        "Object.fromEntries(Object.entries(layer).map(([letter, values]) => [letter, Array.from(values)])))"
    )
    for layer, kept in enumerate(found):
        assert kept.keys() == {name for name in terms if not name.endswith("_pre")}
        for letter, values in kept.items():
            rows = np.reshape(values, (-1, models[cell].config.hidden))[1:]  # row 0 is the start token's
            np.testing.assert_allclose(rows, terms[letter][:, layer], rtol=0, atol=2e-5)


def test_both_ways_to_multiply_are_one(models, show):
    """WebAssembly's instructions and the loop that explains them, in sizes that fill no block of 16."""
    difference = show(models["gru"]).execute_script(
        "const random = randomOf(5); let worst = 0;"
        "for (const [rows, columns] of [[1, 1], [16, 3], [17, 4], [33, 70], [100, 9]]) {"
        "  const m = new Matrix(Float32Array.from({length: rows * columns}, random), rows, columns);"
        "  const y = m.times(Float32Array.from({length: columns}, random)).slice();"
        "  const plain = new Float32Array(y.length); plainProduct(m.packed, m.x, plain);"
        "  if (!m.compiled || plain.slice(0, rows).includes(0)) return 'not compiled';"
        "  for (let k = 0; k < y.length; k++) worst = Math.max(worst, Math.abs(y[k] - plain[k]) / columns);"
        "} return worst"
    )
    assert difference < 1e-6


RECORDS = "Anna\nBob\n\nClara é\n"


@pytest.fixture(scope="module")
def of_records(trained):
    return trained(RECORDS * 40, steps=150, data__records="line", model__embedding=4)


@pytest.fixture(scope="module")
def of_bytes(trained):
    return trained("é日🙂 " * 200, steps=80, data__unit="byte", model__embedding=4)


@pytest.mark.parametrize("text", [VERSE, "Three\n\nfour\r\n \n\nknock é\n", "🙂"])
@pytest.mark.parametrize("which", ["lstm", "records", "blank", "bytes"])
def test_bits_are_those_of_score(models, of_records, of_bytes, show, tmp_path, text, which):
    others = {"records": of_records, "bytes": of_bytes}
    others["blank"] = Model(replace(models["gru"].checkpoint, records="blank"), models["gru"].path)
    model = others.get(which) or models["lstm"]
    known = model.vocabulary.skip_unknown(text)
    if which == "records":
        known = "".join(c for c in text if c in model.vocabulary.characters or c == "\n")
    if not known.strip():  # it knows nothing of it
        known = model.vocabulary.characters[-1]
    (tmp_path / "text").write_bytes(known.encode())
    model.save(tmp_path / "model")
    asked = compose(
        "score", ScoreSettings, [f"ckpt={tmp_path}/model", f"path={tmp_path}/text", "format=json"]
    )
    (total,) = json.loads("".join(score.score(asked)))["totals"]
    browser = show(model, excerpt=known)
    until(browser, "return !!app.readings[0].found")
    bits, count = browser.execute_script("return mean(app.readings[0].found.bits)")
    assert count == total["characters"]
    assert abs(bits - total["bits_per_char"]) < 0.005
    assert f"{bits:.3f} bits per character, {count} characters" in element(browser, "#read .figure").text


# --- texts


def test_a_model_of_bytes_writes_characters(of_bytes, show):
    browser = show(of_bytes, fragment="written=x&temperature=0&length=300")
    browser.execute_script("app.set({pace: 1e9}); app.begin(); app.go()")
    until(browser, "return !app.isWriting")
    expected = as_stored(of_bytes).sample(length=300, temperature=0)
    assert "é" in expected
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character is shown when it is complete
    assert written(browser) == decoder.decode(expected.encode("utf-8", "surrogateescape"))


def test_a_text_ends_and_another_begins(of_records, show):
    browser = show(of_records, fragment="written=x&temperature=0&length=50")
    browser.execute_script("app.begin(); app.go()")
    until(browser, "return !app.isWriting")
    first = as_stored(of_records).sample(temperature=0)
    assert written(browser) == f"{first}\n"
    assert "here the text ends" in element(browser, ".said").text
    element(browser, "#step-one").click()
    assert len(written(browser)) == len(first) + 2


def test_what_looks_like_html_is_text(trained, show):
    model = trained((HOSTILE + "\n") * 30, model__embedding=0)
    browser = show(model, excerpt=HOSTILE, fragment="written=%3Cb%3E&prompt=%3C/script%3E%3Ci%3E")
    assert browser.execute_script("return window.broken") is None
    assert browser.execute_script("return app.inside.strip.box.textContent") == HOSTILE
    until(browser, "return app.readings[0].strip.box.textContent === arguments[0]", HOSTILE)
    shown = browser.execute_script("return app.writings[0].strip.box.textContent")
    assert shown == "</script><i><b>"
    assert browser.execute_script("return document.querySelectorAll('.strip b, .strip i').length") == 0


def test_unknown_characters_are_left_out_and_said(models, show):
    browser = show(models["lstm"], excerpt="One 日two", fragment="written=x&prompt=O%E6%97%A5n")
    until(browser, "return !!app.readings[0].found")
    assert "7 characters; 1 unknown, left out" in element(browser, "#read .figure").text
    assert "left out, as the model never saw it: 日" in element(browser, "#write .said").text


# --- its controls


def test_writing_by_mouse(models, show):
    browser = show(models["gru"])
    browser.execute_script("app.begin()")
    element(browser, "#step-one").click()
    assert len(written(browser)) == 1
    element(browser, "#go").click()
    assert element(browser, "#go").text == "Stop"
    until(browser, "return app.writings[0].text.length > 3")
    element(browser, "#go").click()
    text = written(browser)
    until(browser, "return location.hash.includes('written')")
    browser.execute_script(
        "app.writings[0].strip.spans[1].dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    )
    choices = browser.find_elements(By.CSS_SELECTOR, "#tip button")
    assert len(choices) == 5
    wanted = browser.execute_script(
        "const w = app.writings[0]; return app.models[0].characters[w.items[1].likely[3][0]]"
    )
    choices[3].click()
    until(browser, "return app.writings[0].text.length > 2")
    browser.execute_script("app.stop()")
    assert written(browser)[:2] == text[0] + chr(wanted)
    element(browser, "#again").click()
    until(browser, "return app.writings[0].text.length > 3")
    assert browser.execute_script("return app.seed") == 2


def test_going_on_from_an_alternative_is_having_begun_with_it(models, show):
    browser = show(models["lstm"], fragment="written=x&temperature=0&length=150&pace=1000000000")
    browser.execute_script("app.begin(); app.go()")
    until(browser, "return !app.isWriting")
    text = written(browser)
    browser.execute_script("app.writings[0].turn(100, app.writings[0].items[100].likely[1][0])")
    until(browser, "return !app.isWriting")
    turned = written(browser)
    assert turned[:100] == text[:100]
    assert turned[100] != text[100]
    assert turned == as_stored(models["lstm"]).sample(turned[:101], length=150, temperature=0)


def test_writing_by_keyboard(models, show):
    browser = show(models["lstm"], fragment="written=hree&prompt=T")
    strip = element(browser, "#write .strip")
    strip.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "bits" in element(browser, "#tip p").text
    strip.send_keys(Keys.ESCAPE)
    assert not element(browser, "#tip").is_displayed()
    strip.send_keys(Keys.HOME, Keys.ARROW_RIGHT, "2")
    until(browser, "return app.writings[0].text.length > 1")
    browser.execute_script("app.stop()")
    assert written(browser)[0] != "h"
    prompt = element(browser, "#prompt")
    prompt.send_keys("wo", Keys.ENTER)
    assert browser.execute_script("return [app.prompt, app.writings[0].text]") == ["Two", ""]


def test_reading_live(models, show):
    browser = show(models["lstm"])
    box = element(browser, "#text")
    box.clear()
    box.send_keys("One two")
    until(browser, "return app.readings[0].strip.box.textContent === 'One two'")
    assert "7 characters" in element(browser, "#read .figure").text
    until(browser, "return app.inside.strip.box.textContent === 'One two'")
    element(browser, "#reset-text").click()
    until(browser, "return app.readings[0].strip.box.textContent === arguments[0]", VERSE)


def test_looking_inside(models, show):
    browser, model = show(models["lstm"], excerpt=VERSE * 3), as_stored(models["lstm"])
    first = browser.execute_script("return app.models[0].data.telling[0]")
    assert first["feature"] in element(browser, "#telling button").text
    cell = model.trace(VERSE * 3)["c"]
    position = np.concatenate([np.r_[1 : len(line) + 1, 0] for line in (VERSE * 3).split("\n")[:-1]])
    ranked = {one["feature"]: one for one in reversed(embedded(browser.page_source)[0]["telling"])}
    best = ranked["line position"]
    if best["state"] == "c":
        found = np.corrcoef(position, cell[:, best["layer"], best["unit"]])[0, 1]
        assert abs(found - best["correlation"]) < 0.01
    unit = element(browser, "#unit")
    unit.clear()
    unit.send_keys("7", Keys.TAB)
    element(browser, "#letter").send_keys("f")
    assert element(browser, "#inside-name").text == "forget gate of unit 7, layer " + str(first["layer"])
    shade = browser.execute_script("return app.inside.strip.spans[20].style.getPropertyValue('--shade')")
    forget = model.trace(VERSE * 3)["f"][20, first["layer"], 7]
    assert abs(float(shade) - forget) < 0.001


def test_holding_a_unit(models, show):
    browser = show(models["gru"])
    free = browser.execute_script("return mean(app.inside.free.bits)[0]")
    element(browser, "#off").click()
    until(browser, "return app.inside.found !== app.inside.free")
    held = browser.execute_script("return [mean(app.inside.free.bits)[0], mean(app.inside.found.bits)[0]]")
    assert held[0] == pytest.approx(free)
    assert held[1] != pytest.approx(free)
    kept = browser.execute_script(
        "const {unit, layer, inside} = app; return Array.from(inside.characters, (_, k) => "
        "inside.value(inside.lastOf.get(k), unit, layer, 'h'))"
    )
    assert set(kept) == {0}
    assert f"{held[1]:.3f}" in element(browser, "#effect").text
    assert "1 unit is held" in element(browser, "#held-note").text
    until(browser, "return location.hash.includes('held')")
    element(browser, "#held button").click()
    until(browser, "return app.inside.found === app.inside.free")
    assert element(browser, "#effect").text == ""


def test_selecting_a_span(models, show):
    browser = show(models["lstm"], excerpt=VERSE * 3)
    strip = element(browser, "#inside-text")
    strip.send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.SHIFT + Keys.ARROW_RIGHT)
    assert "In “ne” " in element(browser, "#selected").text
    cells = np.tanh(as_stored(models["lstm"]).trace(VERSE * 3)["c"])
    count = int((cells[1:3] > 0.3).all(axis=0).sum())
    assert f"{count} unit" in element(browser, "#selected").text
    element(browser, "#selected button").click()
    layer, unit = browser.execute_script("return [app.layer, app.unit]")
    assert (cells[1:3, layer, unit] > 0.3).all()


@pytest.mark.parametrize("cell", CELLS)
def test_the_recurrence_has_the_numbers(models, show, cell):
    browser, terms = (
        show(models[cell], fragment="written=x&at=9&unit=3&layer=0"),
        as_stored(models[cell]).trace(VERSE),
    )
    shown = element(browser, "#equations").text.replace("−", "-")
    for letter in set("ifgorznch") & terms.keys():
        assert f"= {terms[letter][8, 0, 3]:.2f}".replace("-0.00", "0.00") in shown.replace("-0.00", "0.00")
    element(browser, "#forth").click()
    assert browser.execute_script("return app.at") == 10
    element(browser, "#step").send_keys(Keys.ARROW_RIGHT)
    assert browser.execute_script("return app.at") == 11
    assert f"step 12 of {len(VERSE) + 1}" in element(browser, "#step-text").text


def test_a_link_shows_what_one_saw(models, show):
    browser = show(
        models["lstm"],
        fragment="prompt=One&written=+two&temperature=0.35&text=three+four&layer=1&unit=9"
        "&letter=o&held=0:3:-1.5&at=4",
    )
    browser.execute_script("app.remember()")
    names = ["prompt", "written", "temperature", "text", "layer", "unit", "letter", "held", "at"]
    assert browser.execute_script("return arguments[0].map((name) => app[name])", names) == [
        *("One", " two", 0.35, "three four", 1, 9, "o"),
        [{"layer": 0, "unit": 3, "value": -1.5}],
        4,
    ]
    assert browser.execute_script("return app.writings[0].strip.box.textContent") == "One two"
    for hostile in ("unit=999&layer=-4&letter=%3Cb%3E&held=x&looked=7", "temperature=&at=1e9&length=x&%FF"):
        show(models["lstm"], fragment=hostile + "&written=x")


def test_two_models_side_by_side(models, show):
    browser = show(
        models["lstm"], models["rnn_relu"], fragment="written=x&temperature=0&length=100&pace=1000000000"
    )
    browser.execute_script("app.begin(); app.go()")
    until(browser, "return !app.isWriting")
    for n, cell in enumerate(("lstm", "rnn_relu")):
        assert written(browser, n) == as_stored(models[cell]).sample(length=100, temperature=0)
    element(browser, "#looked").send_keys(models["rnn_relu"].path.name)
    until(browser, "return app.looked === 1 && app.inside.kept.length === 1 && !app.inside.kept[0].c")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#card .column")) == 2


# --- how it looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_used_by_all(models, show, width, scheme):
    browser = show(
        models["lstm"], excerpt=VERSE * 3, width=width, scheme=scheme, fragment="written=One+two&held=1:3:1"
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
    until(browser, "return document.querySelector('#effect b')")
    found = Axe().run(browser)["violations"]
    assert [
        (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
    ] == []
    assert browser.get_screenshot_as_png()
