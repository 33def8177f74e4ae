"""`python -m charlstm score` from outside: real processes, as a user runs them."""

import csv
import json
import math
import os
import pty
import shlex
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SENTENCE, settings

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint
from charlstm.cli.score import checkpoint_names
from charlstm.model.torch_model import Model
from charlstm.scoring import surprisal
from charlstm.scoring.report import escaped
from charlstm.text.vocabulary import Vocabulary

TEXT = "a tab\there\r\na\\b\n\nlong lines, \"quotes\" and 'é日'\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two small checkpoints, `a` and `b`, of different vocabularies, and texts."""
    folder = tmp_path_factory.mktemp("score")
    for seed, (name, characters) in enumerate({"a": TEXT, "b": TEXT + "xyz"}.items()):
        torch.manual_seed(seed)
        vocabulary = Vocabulary.of_text(characters)
        config = settings("model.layers=1", "model.hidden=5").model
        weights = Model(config, len(vocabulary)).weights()
        (folder / name).mkdir()
        saved = Checkpoint(config, vocabulary, "memorize", 1, {}, {}, weights)
        checkpoint.save(saved, folder / name / "best.safetensors")
    (folder / "book.txt").write_bytes(TEXT.encode())
    (folder / "texts").mkdir()
    for name, text in {"2.txt": "and", "1.txt": TEXT, "no.md": "?"}.items():
        (folder / "texts" / name).write_bytes(text.encode())
    for name in ("nothing_here", "xyz"):
        (folder / name).mkdir()
    (folder / "foreign").write_bytes(b"PK\3\4 not a model")
    (folder / "cut").write_bytes((folder / "a" / "best.safetensors").read_bytes()[:-9])
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    return folder


def run(folder, arguments, stdin=b""):
    """A run with arguments as in a shell."""
    line = f"set -o pipefail; {shlex.quote(sys.executable)} -m charlstm score {arguments}"
    return subprocess.run(["bash", "-c", line], cwd=folder, input=stdin, capture_output=True, timeout=300)


def score(folder, *arguments, stdin=b""):
    """The standard output of a run that went well."""
    done = run(folder, shlex.join(arguments), stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def expected(folder, name, text):
    """The bits of each character, by the functions that scoring/test_surprisal.py compares with torch."""
    trained = checkpoint.load(folder / name)
    return surprisal.bits(trained.model(), trained.vocabulary, trained.vocabulary.encode(text))


def test_the_text_that_was_learnt(trained, folder):
    said = score(folder, f"ckpt={trained}", "path=data/hello.txt")  # found beside train.py
    bits = surprisal.total("", {"": expected(folder, trained, SENTENCE)}).bits_per_char
    assert bits < 1.5
    assert said == f"{bits:.4f} bits per character   68 characters   {trained}\n"


def test_one_line_for_each_checkpoint(folder):
    said = score(folder, "ckpt=a,b/best.safetensors", "path=book.txt")
    assert said == "".join(
        f"{expected(folder, name, TEXT).mean():.4f} bits per character   {len(TEXT)} characters   {shown}\n"
        for name, shown in {"a": "a", "b": "b/best.safetensors"}.items()
    )


def test_the_same_text_by_every_way_in(folder):
    by_file = json.loads(score(folder, "ckpt=a", "path=book.txt", "format=json"))
    assert json.loads(score(folder, "ckpt=a", f"text={TEXT}", "format=json")) == by_file
    by_input = score(folder, "ckpt=a", "path=-", "format=json", stdin=b"\xef\xbb\xbf" + TEXT.encode())
    assert json.loads(by_input) == by_file
    latin = score(folder, "ckpt=a", "path=-", "format=json", "encoding=latin-1", stdin=b"\xe9")
    assert json.loads(latin)["totals"][0]["bits"] == expected(folder, "a", "é").sum()


@pytest.mark.parametrize("per", ["char", "word", "line", "file"])
def test_rows_as_json_and_tsv(folder, per):
    arguments = ["ckpt=a,b", "path=texts", f"per={per}"]
    found = json.loads(score(folder, *arguments, "format=json"))
    files = {"texts/1.txt": TEXT, "texts/2.txt": "and"}
    for k, name in enumerate("ab"):
        bits = [expected(folder, name, text) for text in files.values()]  # each file from the start token
        total = found["totals"][k]
        assert total["checkpoint"] == name
        assert total["characters"] == len(TEXT) + 3
        assert total["bits"] == pytest.approx(sum(b.sum() for b in bits), rel=1e-14)  # one rounding each
        assert total["bits_per_char"] == total["bits"] / (len(TEXT) + 3)
        assert sum(row["bits"][k] for row in found["rows"]) == pytest.approx(total["bits"], rel=1e-13)
        if per == "char":
            np.testing.assert_array_equal([row["bits"][k] for row in found["rows"]], np.concatenate(bits))
    if per != "file":
        for name, text in files.items():
            assert "".join(row["text"] for row in found["rows"] if row["file"] == name) == text
    if per == "line":
        places = [(row["line"], row["position"]) for row in found["rows"]]
        assert places == [(1, 0), (2, 12), (3, 16), (4, 17), (1, 0)]

    lines = score(folder, *arguments, "format=tsv").split("\n")
    table = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if per == "file":
        assert table.pop() == {
            **{f"bits:{name}": str(t["bits"]) for name, t in zip("ab", found["totals"], strict=True)},
            **{f"bits_per_char:{t['checkpoint']}": str(t["bits_per_char"]) for t in found["totals"]},
            **{"characters": str(len(TEXT) + 3), "file": "total"},
        }
    assert len(table) == len(found["rows"])
    for from_tsv, row in zip(table, found["rows"], strict=True):
        for k, name in enumerate("ab"):
            assert float(from_tsv[f"bits:{name}"]) == row["bits"][k]
            assert float(from_tsv[f"bits_per_char:{name}"]) == row["bits_per_char"][k]
        for key in from_tsv.keys() & row.keys() - {"text"}:
            assert from_tsv[key] == str(row[key])
        if per != "file":
            assert from_tsv["text"] == escaped(row["text"])


def test_escapes():
    assert escaped("a b'\"é日") == "a b'\"é日"
    assert escaped("\t\n\r\\n\0\u2028\udce9") == r"\t\n\r\\n\x00\u2028\udce9"


def test_tables(folder):
    totals = [math.fsum(expected(folder, name, "a\there")) for name in "ab"]
    bits = expected(folder, "a", "a\there")
    head, rest = bits[:2].sum(), bits[2:].sum()
    assert score(folder, "ckpt=a", "text=a\there", "per=word") == (
        "bits_per_char        bits  characters        line    position        file  text\n"
        f"{head / 2:13.4f}  {head:10.4f}           2           1           0        text  'a\\t'\n"
        f"{rest / 4:13.4f}  {rest:10.4f}           4           1           2        text  'here'\n"
        f"\n{totals[0] / 6:.4f} bits per character   6 characters   a\n"
    )
    assert score(folder, "ckpt=a,b", "text=a\there", "format=tsv") == (
        "bits_per_char\tbits\tcharacters\tcheckpoint\n"
        f"{totals[0] / 6}\t{totals[0]}\t6\ta\n{totals[1] / 6}\t{totals[1]}\t6\tb\n"
    )


def test_the_worst_lines_first(folder):
    def lines(*arguments):
        return json.loads(score(folder, "ckpt=a", "path=texts", "per=line", "format=json", *arguments))[
            "rows"
        ]

    ordered = sorted(lines(), key=lambda row: row["bits_per_char"][0], reverse=True)
    assert lines("sort=true") == ordered != lines()


def test_torch_is_not_imported(folder):
    code = "import sys; from charlstm.cli import score; score.main(); sys.exit('torch' in sys.modules)"
    arguments = [sys.executable, "-c", code, "ckpt=a", "path=book.txt", "per=word"]
    assert subprocess.run(arguments, cwd=folder, timeout=300, stdout=subprocess.DEVNULL).returncode == 0


WRONG = {
    "path=book.txt": "ckpt: missing; name a checkpoint",
    "ckpt=, path=book.txt": "ckpt: missing; name a checkpoint",
    "ckpt=no path=book.txt": "no: no such checkpoint",
    "ckpt=a,no path=book.txt": "no: no such checkpoint",
    "ckpt=foreign path=book.txt": "foreign: not a charlstm checkpoint",
    "ckpt=cut path=book.txt": "cut: damaged or cut off",
    "ckpt=nothing_here path=book.txt": "nothing_here/best.safetensors: no such checkpoint",
    "ckpt=LONG path=book.txt": "LONG: cannot be read: File name too long",
    "ckpt=a path=LONG": "path = LONG: cannot be read: File name too long",
    "ckpt=a": "path: give it or text, one of the two",
    "ckpt=a path=book.txt text=a": "path: give it or text, one of the two",
    "ckpt=a path=no": "path = no: no such file",
    "ckpt=a path=xyz": "path = xyz: a folder without .txt files",
    "ckpt=a path=empty.txt": "path = empty.txt: the text is empty",
    "ckpt=a path=-": "path = -: the text is empty",
    "ckpt=a text=": "text: the text is empty",
    "ckpt=a path=latin.txt": "path = latin.txt: not utf-8 text: bytes e9 at offset 3",
    "ckpt=b,a text=taxi": "text has 'x' (U+0078) at position 2, which is not among the ",
    "ckpt=a path=book.txt per=page": "per = page: must be char | word | line | file",
    "ckpt=a path=book.txt sort=true": "sort = true: there are no rows to sort; add per=line",
    "ckpt=a pat=book.txt": "pat: no such key; did you mean path?",
}


@pytest.mark.parametrize("request_", WRONG)
def test_wrong_requests_get_one_clear_line(folder, request_):
    done = run(folder, request_.replace("LONG", "x" * 300))
    said = done.stderr.decode()
    assert said.startswith("error: " + WRONG[request_].replace("LONG", "x" * 300))
    assert said.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ("ckpt=a path=book.txt >&-", 0, ""),
        ("ckpt=a path=book.txt per=char | true", 0, ""),
        ("--help | true", 0, ""),
        ("ckpt=a path=- <&-", 2, "error: path = -: standard input is closed; "),
        ("ckpt=a path=book.txt >/dev/full", 1, "error: standard output cannot be written: No space left"),
    ],
)
def test_streams_that_are_closed_or_full(folder, arguments, code, error):
    if "/dev/full" in arguments and not Path("/dev/full").exists():
        pytest.skip("a disk that is always full: Linux only")
    done = run(folder, arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode().startswith(error)
    assert done.stderr.count(b"\n") == (error != "")


def test_a_progress_bar_for_people_only(folder):
    (folder / "long.txt").write_text(TEXT * 4000)  # some seconds
    assert score(folder, "ckpt=a", "path=long.txt").count("\n") == 1
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))  # a new one has no columns to draw in
    os.set_blocking(leader, False)  # without a bar the test shall fail, not wait
    arguments = [sys.executable, "-m", "charlstm", "score", "ckpt=a", "path=long.txt"]
    subprocess.run(arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=follower, timeout=300)
    assert b"char/s" in os.read(leader, 100_000)
    os.close(leader)
    os.close(follower)


def test_several_checkpoints_between_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    assert checkpoint_names("a,b") == ["a,b"]
    assert checkpoint_names("a,c") == ["a", "c"]
    assert checkpoint_names(",a,") == ["a"]
    assert checkpoint_names("") == []
    assert checkpoint_names(",".join("x" * 300)) == ["x"] * 300  # as one path it would be too long
