"""`charlstm page`: what is wrong with a request is said in one line; `test_page.py` opens what it writes."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

import charlstm
from charlstm.api import Model
from charlstm.cli import page
from charlstm.files import PROJECT
from charlstm.page.document import document


@pytest.fixture
def answer(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder: its exit code, and what it says on both outputs."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["charlstm", *map(str, arguments)])
        code = 0
        try:
            page.main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


def test_the_file_is_written_whole_and_never_opens_a_tag_that_is_not_its_own(trained, answer, tmp_path):
    text = "hello <script> how"
    code, said, _ = answer(f"ckpt={trained}", "text=hello pytorch", "out=a.html")
    assert (code, said.split(":")[0]) == (0, "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    once = document([(str(trained), charlstm.load(trained))], "int8", text + "</script>\u2028")
    assert once.count("</script>") == 2  # of the data and of the program
    assert "\u2028" not in once


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "ckpt: name a checkpoint or run directory, such as ckpt=outputs/..., or two"),
        (["ckpt=a,b,c"], "ckpt: name a checkpoint or run directory, such as ckpt=outputs/..., or two"),
        (
            ["ckpt=nowhere"],
            "nowhere: no such checkpoint; give the file or run directory",
        ),
        (
            ["ckpt=RUN", "out=no/such/folder.html"],
            "out = no/such/folder.html: cannot be written: No such file",
        ),
        (["ckpt=RUN", "out=RUN"], "out = RUN: cannot be written: Is a directory"),
        (["ckpt=RUN", "path=nothing.txt"], "path = nothing.txt: no such file"),
        (["ckpt=RUN", "weights=int4"], "weights = int4: must be float16 | int8"),
    ],
)
def test_wrong_requests(trained, answer, tmp_path, arguments, said):
    code, out, error = answer(*(argument.replace("RUN", str(trained)) for argument in arguments))
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: " + said.replace("RUN", str(trained)))
    assert list(tmp_path.iterdir()) == []


def test_models_that_no_page_can_hold(trained):
    model = charlstm.load(trained)
    name = "head.weight"
    large = replace(model.checkpoint, weights={name: np.zeros((6000, 6000), np.float32)})
    with pytest.raises(
        ValueError, match=re.escape("36,000,000 parameters in float16 are too many for a page")
    ):
        document([(str(trained), Model(large))], "float16", "")
    far = replace(model.checkpoint, weights=model.weights | {name: model.weights[name] * 1e6})
    with pytest.raises(
        ValueError, match=re.escape("weights = float16: head.weight has numbers beyond 65,504")
    ):
        document([(str(trained), Model(far))], "float16", "")
    assert "head.weight" in document([(str(trained), Model(far))], "int8", "")


def test_the_page_in_the_docs_is_of_this_program():
    """`charlstm page ckpt=runs/hello out=docs/hello.html weights=int8` renews it."""
    shown = (PROJECT / "docs" / "hello.html").read_text("utf-8")
    parts = [path for path in (PROJECT / "charlstm" / "page").iterdir() if path.suffix in (".js", ".css")]
    assert len(parts) > 5
    assert [path.name for path in parts if path.read_text("utf-8") not in shown] == []
