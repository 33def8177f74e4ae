"""`python -m charlstm score` from outside: real processes, as a user runs them."""

import csv
import io
import json
import math
import os
import pty
import shlex
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SENTENCE, settings
from warm import PYTHON

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint
from charlstm.cli.score import FIGURES, checkpoint_names, read_files
from charlstm.cli.terminal import escaped
from charlstm.files import PROJECT
from charlstm.model.torch_model import Model
from charlstm.scoring import surprisal
from charlstm.text import corpus
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
    line = f"set -o pipefail; {shlex.join(PYTHON)} -m charlstm score {arguments}"
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
    bits = expected(folder, trained, SENTENCE).mean()
    assert bits < 1.5
    assert said == f"{bits:.4f} bits per character   {bits:.4f} per byte   68 characters   {trained}\n"


def test_one_line_for_each_checkpoint(folder):
    said = score(folder, "ckpt=a,b/best.safetensors", "path=book.txt")
    assert said == "".join(
        f"{expected(folder, name, TEXT).mean():.4f} bits per character   "
        f"{expected(folder, name, TEXT).sum() / len(TEXT.encode()):.4f} per byte   "
        f"{len(TEXT)} characters   {shown}\n"
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
        assert (
            total["bits_per_byte"]
            == total["bits"] / (len(TEXT.encode()) + 3)
            == total["bits"] / total["bytes"]
        )
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
            **{f"{f}:{t['checkpoint']}": str(t[f]) for f in FIGURES for t in found["totals"]},
            **{"characters": str(len(TEXT) + 3), "file": "total"},
        }
    assert len(table) == len(found["rows"])
    for from_tsv, row in zip(table, found["rows"], strict=True):
        for k, name in enumerate("ab"):
            for figure in FIGURES:
                assert float(from_tsv[f"{figure}:{name}"]) == row[figure][k]
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
        "bits_per_char  bits_per_byte        bits  characters        line    position        file  text\n"
        f"{head / 2:13.4f}  {head / 2:13.4f}  {head:10.4f}           2           1           0"
        "        text  'a\\t'\n"
        f"{rest / 4:13.4f}  {rest / 4:13.4f}  {rest:10.4f}           4           1           2"
        "        text  'here'\n"
        f"\n{totals[0] / 6:.4f} bits per character   {totals[0] / 6:.4f} per byte   6 characters   a\n"
    )
    assert score(folder, "ckpt=a,b", "text=a\there", "format=tsv") == (
        "bits_per_char\tbits_per_byte\tbits\tcharacters\tcheckpoint\n"
        + "".join(
            f"{bits / 6}\t{bits / 6}\t{bits}\t6\t{name}\n" for name, bits in zip("ab", totals, strict=True)
        )
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
    done = run(folder, "ckpt=a path=long.txt")
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 1)
    assert b"\r" not in done.stderr  # a slow machine has a line there after 10 s
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))  # a new one has no columns to draw in
    os.set_blocking(leader, False)  # without a bar the test shall fail, not wait
    arguments = [*PYTHON, "-m", "charlstm", "score", "ckpt=a", "path=long.txt"]
    subprocess.run(arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=follower, timeout=300)
    assert b" left, scoring" in os.read(leader, 100_000)
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


def saved(folder, name, vocabulary, records="none"):
    """A checkpoint of a small model that knows nothing yet."""
    torch.manual_seed(7)
    config = settings("model.layers=2", "model.hidden=6").model
    model = Model(config, len(vocabulary))
    with torch.no_grad():
        for weight in model.parameters():  # away from the even odds of a new network
            weight *= 2
    path = folder / name
    checkpoint.save(Checkpoint(config, vocabulary, "lm", 1, {}, {}, model.weights(), records=records), path)
    return model, path


@pytest.mark.parametrize("kind", ["line", "blank"])
def test_a_model_of_records_reads_them_as_in_its_training(tmp_path, kind):
    text = "\r\nParis\r\n\r\n\r\n Rome\r\nOslo\n \n\nRio"
    records = {"line": ["Paris", " Rome", "Oslo", " ", "Rio"], "blank": ["Paris", " Rome\r\nOslo", "Rio"]}[
        kind
    ]
    (tmp_path / "cities").write_bytes(text.encode())
    # without line ends, the model of lines does not know what separates them
    model, ckpt = saved(tmp_path, "c", Vocabulary.of_text("".join(records)), kind)
    ids = corpus.read(replace(settings().data, path=str(tmp_path / "cities"), records=kind)).ids
    targets = torch.from_numpy(ids.astype(np.int64))
    with torch.no_grad():
        scores, _ = model(targets[:-1, None])
    nats = torch.nn.functional.cross_entropy(scores[:, 0].double(), targets[1:], reduction="none").numpy()
    bits = nats[ids[1:] < checkpoint.load(ckpt).vocabulary.start] / math.log(2)  # not those of tokens
    found = json.loads(score(tmp_path, f"ckpt={ckpt}", "path=cities", "per=char", "format=json"))
    assert [row["text"] for row in found["rows"]] == list("".join(records))
    # float32 rounding in another order
    np.testing.assert_allclose([row["bits"][0] for row in found["rows"]], bits, rtol=0, atol=1e-5)
    (total,) = found["totals"]
    assert total["characters"] == len(bits) == len("".join(records))
    assert total["bits"] == pytest.approx(bits.sum(), abs=1e-4)
    rows = json.loads(score(tmp_path, f"ckpt={ckpt}", "path=cities", "per=line", "format=json"))["rows"]
    lines = {"line": records, "blank": ["Paris", " Rome\r\n", "Oslo", "Rio"]}[kind]
    assert [row["text"] for row in rows] == lines
    assert [text[row["position"] :].startswith(row["text"]) for row in rows] == [True] * len(rows)
    assert [row["line"] for row in rows] == {"line": [2, 5, 6, 7, 9], "blank": [2, 5, 6, 9]}[kind]


def test_what_records_are_can_be_said(tmp_path):
    vocabulary = Vocabulary.of_text("ab\n")
    _, plain = saved(tmp_path, "plain", vocabulary)
    _, lines = saved(tmp_path, "lines", vocabulary, "line")  # the same weights
    (tmp_path / "t").write_text("ab\nba\n")

    def of(*arguments):
        return json.loads(score(tmp_path, *arguments, "path=t", "format=json"))["totals"]

    (as_text,), (as_lines,) = of(f"ckpt={plain}"), of(f"ckpt={lines}")
    assert (as_text["characters"], as_lines["characters"]) == (6, 4)
    assert of(f"ckpt={plain}", "records=line")[0]["bits"] == as_lines["bits"] != as_text["bits"]
    assert of(f"ckpt={lines}", "records=none")[0]["bits"] == as_text["bits"]
    assert of(f"ckpt={plain},{lines}", "records=line")[1]["bits"] == as_lines["bits"]
    assert of(f"ckpt={plain}", "records=file")[0] == as_text  # one record, and its end token is not counted
    for arguments, message in {
        f"ckpt={plain},{lines} path=t": f"error: ckpt = {plain},{lines}: their records are not of one kind; ",
        f"ckpt={lines} text='\n\n'": "error: text: there are only empty records; it needs at least one",
        f"ckpt={lines} text='a\nbx'": "error: text, record 2 has 'x' (U+0078) at position 1, ",
        f"ckpt={lines} path=t records=lines": "error: records = lines: must be none | line | blank | file",
    }.items():
        done = run(tmp_path, arguments)
        assert done.stderr.decode().startswith(message)
        assert done.returncode == 2


BLOB = "\ufeffé日🙂\r\n".encode() + b"\xff\xc3\0 end"  # UTF-8, and then bytes that are none


def test_a_model_of_bytes_reads_any_file_as_it_is(tmp_path):
    vocabulary = Vocabulary("".join(map(chr, range(256))), unit="byte")
    _, ckpt = saved(tmp_path, "c", vocabulary)
    (tmp_path / "blob").write_bytes(BLOB)
    trained = checkpoint.load(ckpt)
    bits = surprisal.bits(trained.model(), vocabulary, np.frombuffer(BLOB, np.uint8))
    found = json.loads(score(tmp_path, f"ckpt={ckpt}", "path=blob", "per=char", "format=json"))
    pieces = [row["text"].encode("utf-8", "surrogateescape") for row in found["rows"]]
    assert pieces[:5] == ["\ufeff".encode(), "é".encode(), "日".encode(), "🙂".encode(), b"\r"]
    assert pieces[6:] == [bytes([byte]) for byte in BLOB[14:]]
    ends = np.cumsum([len(piece) for piece in pieces])
    expected = [bits[end - len(piece) : end].sum() for end, piece in zip(ends, pieces, strict=True)]
    np.testing.assert_allclose(
        [row["bits"][0] for row in found["rows"]], expected, rtol=1e-12
    )  # order of a sum
    assert found["totals"][0]["bits"] == pytest.approx(bits.sum(), rel=1e-12)
    assert "\\udcff" in score(tmp_path, f"ckpt={ckpt}", "path=blob", "per=line", "format=tsv")
    # another encoding is one of text, which is read in UTF-8
    (tmp_path / "latin").write_bytes(b"\xe9")
    latin = json.loads(score(tmp_path, f"ckpt={ckpt}", "path=latin", "encoding=latin-1", "format=json"))
    both = surprisal.bits(trained.model(), vocabulary, vocabulary.encode("é")).sum()
    assert latin["totals"][0] == {
        "checkpoint": str(ckpt),
        "characters": 1,
        "bytes": 2,
        "bits": both,
        "bits_per_char": both,
        "bits_per_byte": both / 2,
    }
    done = run(tmp_path, f"ckpt={ckpt} path=blob encoding=utf-16")
    assert b"blob: not utf-16 text: " in done.stderr


def test_a_model_of_records_of_bytes(tmp_path):
    vocabulary = Vocabulary("".join(map(chr, range(256))), unit="byte")
    _, ckpt = saved(tmp_path, "c", vocabulary, "line")
    (tmp_path / "blob").write_bytes(BLOB + b"\n\xff")
    trained = checkpoint.load(ckpt)
    ids = np.concatenate([np.frombuffer(BLOB[:12], np.uint8), [257, 256], np.frombuffer(BLOB[14:], np.uint8)])
    ids = np.concatenate([ids, [257, 256, 255]]).astype(vocabulary.dtype)
    bits = surprisal.bits(trained.model(), vocabulary, ids)[ids < 256]
    found = json.loads(score(tmp_path, f"ckpt={ckpt}", "path=blob", "per=file", "format=json"))
    assert found["totals"][0]["bits"] == pytest.approx(bits.sum(), rel=1e-12)  # order of a sum
    assert found["rows"][0]["characters"] == found["totals"][0]["characters"] == 4 + 7 + 1


def test_a_run_says_what_its_records_are(command, tmp_path):
    tiny = ["task=lm", "data.path=data/cities.txt", "data.records=line", "train.steps=2", "model.hidden=8"]
    done = command("train.py", *tiny, "threads=1", "hydra.run.dir=run", "eval.baselines=false")
    assert done.returncode == 0, done.stderr
    for name in ("best", "last"):
        assert checkpoint.load(tmp_path / "run" / f"{name}.safetensors").records == "line"
    said = score(tmp_path, "ckpt=run", "path=data/cities.txt", "per=line", "format=json")
    lines = (PROJECT / "data" / "cities.txt").read_text("utf-8").splitlines()
    assert [row["text"] for row in json.loads(said)["rows"]] == lines


def test_a_folder_is_its_txt_files_by_name(tmp_path):
    for name, content in {"b.txt": "B\r\n", "a.txt": "\ufeffA", "c.md": "no", "sub/d.txt": "no"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    files = read_files(None, str(tmp_path), "utf-8", False)
    assert list(files.items()) == [(f"{tmp_path}/a.txt", "A"), (f"{tmp_path}/b.txt", "B\r\n")]


def test_standard_input_is_a_text(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa\r\n\xe9"), encoding="ascii"))
    assert read_files(None, "-", "latin-1", False) == {"-": "ï»¿a\r\né"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa\r\n")))
    assert read_files(None, "-", "utf-8", False) == {"-": "a\r\n"}


def test_texts_that_cannot_be_had(tmp_path, monkeypatch):
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "one of two").mkdir()
    (tmp_path / "one of two" / "a.txt").write_text("a")
    (tmp_path / "one of two" / "b.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    for (text, path), message in {
        (None, None): "path: give it or text, one of the two",
        ("a", "b.txt"): "path: give it or text, one of the two",
        ("", None): "text: the text is empty",
        ("a\udce9", None): "text: not valid Unicode at position 1; .* by path=...",
        (None, "-"): "path = -: standard input is closed",
        (None, "empty folder"): "path = empty folder: a folder without .txt files",
        (None, "one of two"): "path = one of two/b.txt: the text is empty",
        (None, "latin.txt"): "path = latin.txt: not utf-8 text: bytes e9 at offset 0; .* such as encoding=",
        (None, ""): "path: give it or text, one of the two",
        (None, "missing"): "path = missing: no such file",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_files(text, path, "utf-8", False)
