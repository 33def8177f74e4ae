"""A request -> ids."""

import hashlib
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from blocks import all_of, data
from conftest import SENTENCE
from hypothesis import HealthCheck, given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from charlstm.text import corpus, source, vocabulary
from charlstm.text.corpus import Fingerprint
from charlstm.text.vocabulary import Vocabulary


@at_most(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=40), st.integers(1, 7))
def test_ids_decode_to_the_text(tmp_path, monkeypatch, text, block):
    monkeypatch.setattr(vocabulary, "BLOCK", block)
    (tmp_path / "t").write_bytes(text.encode())
    built = corpus.read(data(path=tmp_path / "t", force=True))
    assert built.vocabulary.decode(all_of(built)) == text.removeprefix("\ufeff")
    assert built.train.dtype == built.vocabulary.dtype
    assert len(built.ids) == built.facts.characters == len(text.removeprefix("\ufeff"))


def test_the_sentence():
    built = corpus.read(data(split=(1.0, 0.0, 0.0)))
    assert built.vocabulary == Vocabulary.of_text(SENTENCE)
    assert built.train.tolist() == built.vocabulary.encode(SENTENCE).tolist()
    assert not built.train.flags.writeable
    assert not built.ids.flags.writeable
    assert (built.facts.source, built.facts.files, built.facts.distinct) == ("data/hello.txt", 1, 22)


@pytest.mark.parametrize("split", [(0.9, 0.05, 0.05), (0.5, 0.5, 0.0), (0.3, 0.0, 0.7), (1.0, 0.0, 0.0)])
def test_parts_are_disjoint_and_cover_the_text_in_its_order(split):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))  # every character once: its id is its position
    built = corpus.read(data(text=text, split=split))
    parts = [built.train, built.valid, built.test]
    assert all_of(built).tolist() == list(range(1000))
    assert [len(part) for part in parts] == pytest.approx([1000 * share for share in split])


def test_parts_have_whole_records(tmp_path):
    (tmp_path / "t").write_text("".join(f"{'n' * (k % 7 + 1)}\n" for k in range(100)))
    built = corpus.read(data(path=tmp_path / "t", records="line", split=(0.7, 0.2, 0.1)))
    start, end = built.vocabulary.start, built.vocabulary.end
    for part, share in zip((built.train, built.valid, built.test), (0.7, 0.2, 0.1), strict=True):
        assert part[0] == start
        assert part[-1] == end
        # off by half a record at each end, at most
        assert abs(len(part) - share * len(built.ids)) <= 9
    assert (all_of(built) == start).sum() == built.facts.records == 100
    assert "\n" not in built.vocabulary.characters


def test_each_file_is_a_record(tmp_path):
    for name, content in {"b.txt": "\ufeffB\n", "a.txt": "A\r\n", "e.txt": "", "c.md": "no"}.items():
        (tmp_path / name).write_bytes(content.encode())
    built = corpus.read(data(path=tmp_path, records="file", split=(1.0, 0.0, 0.0)))
    start, end = built.vocabulary.start, built.vocabulary.end
    of = built.vocabulary.encode
    assert built.train.tolist() == [start, *of("A\r\n"), end, start, *of("B\n"), end]
    facts = built.facts
    assert (facts.records, facts.crlf, facts.cr, facts.bom) == (2, 1, 0, True)
    assert (facts.bytes, facts.characters, len(built.ids)) == (8, 5, 9)


def test_without_records_files_are_one_text(tmp_path):
    for name in ("b.py", "a.py", "sub/c.py", "tests/d.py", "sub/old-e.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name[-4]}\n")
    built = corpus.read(
        data(path=tmp_path, glob="**/*.py", exclude=("tests", "old-*"), split=(1.0, 0.0, 0.0))
    )
    assert built.vocabulary.decode(built.train) == "a\nb\nc\n"


def test_files_that_are_no_text_can_be_left_out(tmp_path):
    for name, blob in {"a.txt": b"ab\n" * 20, "b.txt": b"\xff" * 99, "c.txt": b"a" * 20 + b"\xe6"}.items():
        (tmp_path / name).write_bytes(blob)
    built = corpus.read(data(path=tmp_path, errors="skip"))
    assert built.vocabulary.decode(all_of(built)) == "ab\n" * 20
    assert (built.facts.files, built.facts.left_out, built.facts.bytes) == (1, 2, 60)


def test_binary_files_of_a_folder_are_left_out(tmp_path):
    (tmp_path / "a").write_text("text")
    (tmp_path / "b").write_bytes(bytes(range(256)))
    (tmp_path / "c").write_bytes(b"ab\0\0")  # which is UTF-8
    built = corpus.read(data(path=tmp_path, glob="*"))
    assert (built.facts.files, built.facts.left_out, built.facts.characters) == (1, 2, 4)
    first, _ = built.describe()
    assert "2 files left out, being no text" in first
    (tmp_path / "b").unlink()
    assert corpus.read(data(path=tmp_path, glob="*", force=True)).facts.characters == 8
    (tmp_path / "b").write_bytes("é".encode("latin-1"))  # text, but of another encoding
    with pytest.raises(ValueError, match=r"/b: not utf-8 text"):
        corpus.read(data(path=tmp_path, glob="*"))
    for path in (tmp_path / "c", tmp_path):  # alone
        with pytest.raises(ValueError, match=r"/c: 50% control characters: a binary file"):
            corpus.read(data(path=path, glob="c"))


def test_files_that_are_left_out_anywhere(tmp_path):
    # first, last, and one that is read for a while before it is no text
    for name, blob in {"1": b"\xff", "2": b"ab", "3": b"c" * 2**20 + b"\xff", "4": b"ba", "5": b"\0"}.items():
        (tmp_path / f"{name}.txt").write_bytes(blob)
    built = corpus.read(data(path=tmp_path, errors="skip", records="file", split=(1.0, 0.0, 0.0)))
    assert built.ids.tolist() == [2, 0, 1, 3, 2, 1, 0, 3]
    assert (built.facts.files, built.facts.left_out, built.facts.characters) == (2, 3, 4)


def test_rare_characters_become_one_unknown_token():
    built = corpus.read(data(text="aaaabbbbcd" * 1 + "aabb", min_count=2, split=(1.0, 0.0, 0.0)))
    assert built.vocabulary == Vocabulary("ab", unknown=True)
    assert built.train.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 4, 4, 0, 0, 1, 1]
    assert (built.facts.distinct, built.facts.rare) == (4, 2)
    built = corpus.read(data(text="aabb", min_count=2, split=(1.0, 0.0, 0.0)))
    assert built.vocabulary == Vocabulary("ab")  # a token that stands for nothing could not be trained


def test_twenty_thousand_characters():
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))
    built = corpus.read(data(text=text))
    assert len(built.vocabulary) == 20_002
    assert built.train.dtype == np.uint16
    assert built.vocabulary.decode(all_of(built)) == text


def test_an_alphabet_decides():
    built = corpus.read(data(text="abba" * 20, alphabet="cba"))
    assert built.vocabulary.characters == "cba"
    with pytest.raises(ValueError, match=r"data.text has 'b' \(U\+0062\) at position 1, .* 1 known"):
        corpus.read(data(text="abba", alphabet="a"))


def test_bytes_are_characters(tmp_path):
    blob = bytes(range(256)) + b"\xef\xbb\xbf\r\n"
    (tmp_path / "t").write_bytes(blob)
    built = corpus.read(data(path=tmp_path / "t", unit="byte", split=(1.0, 0.0, 0.0)))
    assert bytes(built.train.tolist()) == blob
    assert built.vocabulary.decode(built.train).encode("utf-8", "surrogateescape") == blob


WRONG = {
    ("text",): "data.text: the text is empty",
    ("path", "nothing"): "data.path = nothing: no such file",
    (
        "path",
        "folder",
    ): r"data.path = folder: a folder without files that match data.glob = \*.txt; it holds 1 ",
    ("path", "folder", "glob", "*.md"): r"data.path = folder/bad.md: not utf-8 text: bytes e9 at offset 1;",
    ("path", "folder", "glob", "*.md", "errors", "skip"): "folder: none of its 1 files is text in",
    ("path", "folder", "glob", "*.md", "exclude", ("bad*",)): "but for those that data.exclude leaves out, 1",
    ("path", "folder", "glob", "/etc/*"): "data.glob = /etc/.: not a pattern",
    ("path", "lines", "records", "line"): "data.path = lines: there are only empty records",
    ("text", "abc", "min_count", 5): "data.min_count = 5: no character occurs that often; .* occurs 1 times",
    ("text", "abc", "min_count", 2, "alphabet", "abc"): "data.min_count = 2: data.alphabet says already",
    ("text", "abc", "alphabet", "aa"): "the alphabet has 'a' .* twice",
    ("text", "abc", "alphabet", "日", "unit", "byte"): "the alphabet has '日' .*, which is no byte",
    (
        "text",
        "abc",
    ): "data.split = .*: of 3 symbols, 0 records, valid gets 0, which leaves nothing to predict",
    ("text", "abc", "encoding", "hex"): None,
    ("path", "lines", "encoding", "hex"): "data.encoding = hex: no such encoding",
    ("path", "lines", "sha256", "00"): "data.path = lines: its SHA-256 is .*, not that of data.sha256",
    ("path", "lines", "url", "file:///x"): "data.url = file:///x: needs data.sha256",
}


@pytest.mark.parametrize("request_", WRONG, ids=str)
def test_wrong_requests(tmp_path, monkeypatch, request_):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "bad.md").write_bytes(b"a\xe9")
    (tmp_path / "lines").write_text("\n\r\n\r")
    changes = dict(zip(request_[::2], [*request_[1::2], ""], strict=False))
    if WRONG[request_] is None:  # a text that is no file has no encoding
        changes |= {"text": "abc", "split": (1.0, 0.0, 0.0)}
        assert len(corpus.read(data(**changes)).ids) == 3
        return
    asked = data(**changes)
    with pytest.raises(ValueError, match=WRONG[request_]):
        corpus.read(asked).fit_split(asked.split)


def test_a_named_text_gives_way_to_what_is_asked_for_beside_it(tmp_path):
    (tmp_path / "t").write_text("abc" * 30)
    for name in ("python", "hello"):
        assert len(corpus.read(data(f"data={name}", f"data.path={tmp_path / 't'}")).ids) == 90


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """How many bytes are read of each file of `tmp_path`, each time it is opened, and how many are hashed."""
    read, hashed, read_bytes, sha256 = {}, [], Path.read_bytes, hashlib.sha256

    def watch(path):
        blob = read_bytes(path)
        if tmp_path in path.parents:
            read.setdefault(path, []).append(len(blob))
        return blob

    def digest(blob):
        hashed.append(len(blob))
        return sha256(blob)

    monkeypatch.setattr(Path, "read_bytes", watch)
    monkeypatch.setattr(hashlib, "sha256", digest)
    return read, hashed


@pytest.mark.parametrize("errors", ["strict", "skip"])
@pytest.mark.parametrize("records", ["none", "line"])
@pytest.mark.parametrize("kind", ["file", "file with its sum", "folder", "pipe", "standard input"])
def test_every_text_is_read_once_and_digested_once(kind, records, errors, tmp_path, monkeypatch, watched):
    read, hashed = watched
    blob = b"all is well that ends well.\n" * 10_000
    place = tmp_path / "texts"
    changes = {"path": place, "records": records, "errors": errors}
    if kind == "folder":
        place.mkdir()
        for name in ("1.txt", "2.txt"):
            (place / name).write_bytes(blob)
    elif kind == "pipe":
        os.mkfifo(place)
        threading.Thread(target=place.write_bytes, args=[blob]).start()
    elif kind == "standard input":
        source._drained.cache_clear()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(blob)))  # which comes but once
        changes["path"] = "-"
    else:
        place.write_bytes(blob)
    if kind == "file with its sum":
        changes["sha256"] = hashlib.sha256(blob).hexdigest().upper()
    hashed.clear()
    first = corpus.read(data(**changes))
    files = 2 if kind == "folder" else 1
    assert first.data.size == first.facts.bytes == len(blob) * files
    of_digests = [128] * (kind == "folder")
    assert hashed == [len(blob)] * files + of_digests
    again = corpus.read(data(**changes))
    assert hashed == 2 * ([len(blob)] * files + of_digests)
    times = {"pipe": 1, "standard input": 0}.get(kind, 2)
    assert list(read.values()) == [[len(blob)] * times] * files if times else not read
    assert again.ids.tolist() == first.ids.tolist()
    assert (again.data, again.facts) == (first.data, first.facts)


def test_fingerprints(tmp_path):
    blob = "\ufeffé日🙂\r\n".encode("utf-16")
    (tmp_path / "t").write_bytes(blob)
    built = corpus.read(data(path=tmp_path / "t", encoding="utf-16"))
    assert built.data == Fingerprint(size=len(blob), sha256=hashlib.sha256(blob).hexdigest())
    text = blob.decode("utf-16").removeprefix("\ufeff")
    # the first runs of task=memorize have that of what was decoded
    assert Fingerprint.of_text(text) == Fingerprint(
        size=len(text.encode()), sha256=hashlib.sha256(text.encode()).hexdigest()
    )
    assert built.matches(built.data)
    assert built.matches(Fingerprint.of_text(text))
    assert not built.matches(Fingerprint.of_text(text + "x"))
    assert not built.matches(Fingerprint(size=len(blob), sha256="0" * 64))


def test_the_fingerprint_of_several_files(tmp_path):
    digests = []
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name * 20)
        digests.append(hashlib.sha256((name * 20).encode()).hexdigest())
    expected = Fingerprint(size=200, sha256=hashlib.sha256("".join(digests).encode()).hexdigest())
    assert corpus.read(data(path=tmp_path)).data == expected


@pytest.mark.parametrize("changes", [{"unit": "byte"}, {"min_count": 2}, {"records": "line"}])
def test_what_is_no_plain_text_has_one_fingerprint(changes):
    built = corpus.read(data(text="abc" * 30 + "\n" + "x", **changes))
    assert built.matches(built.data)
    assert not built.matches(Fingerprint.of_text("abc"))


def test_a_text_between_its_tokens():
    built = corpus.read(data())
    framed = built.vocabulary.framed(built.ids)
    assert framed.tolist() == built.vocabulary.framed(built.vocabulary.encode(SENTENCE)).tolist()
    assert framed.dtype == built.vocabulary.dtype


def test_what_is_said_of_it(tmp_path):
    built = corpus.read(data())
    assert built.characters() == "68 characters, 22 distinct"
    assert list(built.describe()) == [
        "data/hello.txt: 68 bytes, 68 characters, 22 distinct",
        "parts: train 61, valid 4, test 3",
    ]
    (tmp_path / "t").write_bytes("\ufeffaé\r\n\r\rb\n".encode())
    built = corpus.read(data(path=tmp_path / "t"))
    characters = "8 characters, 5 distinct, 1 CRLF line ends, 2 CR line ends"
    assert built.characters() == f"{characters}, a byte order mark left out"
    (first, _) = corpus.read(data(path=tmp_path / "t", min_count=2)).describe()
    assert first == (
        f"{tmp_path}/t: 12 bytes, {characters}, 3 rare characters made unknown, a byte order mark left out"
    )


@pytest.mark.parametrize(
    "text", ["a\r\nb\rc\n", " blanks ", "one \0 in sixteen", "日本", "a\ufeffb", "\ufeffa"]
)
def test_text_is_unchanged(tmp_path, text):
    (tmp_path / "t.txt").write_bytes(text.encode())
    given, of_file = corpus.read(data(text=text, path="no")), corpus.read(data(path=tmp_path / "t.txt"))
    assert given.vocabulary.decode(given.ids) == text
    assert of_file.vocabulary.decode(of_file.ids) == text.removeprefix("\ufeff")


def test_another_text_is_refused_as_another_even_if_it_is_none(tmp_path):
    (tmp_path / "t").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="t: its SHA-256 is da6f.*, not that of data.sha256; another text"):
        corpus.read(data(path=tmp_path / "t", sha256="00"))


def test_parts_of_one_symbol_are_refused_where_parts_are_asked_for():
    built = corpus.read(data(text="abc", split=(0.6, 0.4, 0.0)))
    assert [len(part) for part in (built.train, built.valid, built.test)] == [2, 1, 0]
    built.fit_split((1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="of 3 symbols, 0 records, valid gets 1, which leaves nothing to"):
        built.fit_split((0.6, 0.4, 0.0))


@pytest.mark.parametrize("kind", ["none", "line", "blank", "file"])
def test_the_original_of_ids(tmp_path, kind):
    texts = ["\ufeffab\r\n\r\n \r\nc日\n\n", "éd\n\n🙂c", "ca\n\nab\n"]
    for n, text in enumerate(texts):
        (tmp_path / f"{n}.txt").write_bytes(text.encode())
    (tmp_path / "1a.txt").write_bytes(b"\xff is left out")
    asked = {"path": tmp_path, "records": kind, "errors": "skip", "split": (0.5, 0.2, 0.3)}
    built = corpus.read(data("task=lm", min_count=2, **asked))  # 日, é, d and 🙂 are unknown
    plain = corpus.read(data("task=lm", **asked))
    assert (built.facts.left_out, len(built.ids), plain.vocabulary.unknown) == (1, len(plain.ids), None)
    whole = {
        "none": "".join(texts).removeprefix("\ufeff"),
        "line": "ab\n \nc日\néd\n🙂c\nca\nab\n",
        "blank": "ab\n\nc日\n\néd\n\n🙂c\n\nca\n\nab\n\n",
        "file": "".join(f"{text}\n" for text in texts).removeprefix("\ufeff"),
    }[kind]
    cut, end = len(built.train), len(built.ids)
    for one in (built, plain):
        assert one.original(0, end).decode() == whole
        assert one.original(0, cut) + one.original(cut, end) == whole.encode()
        after = one.original(cut, end)
        symbols = sum(id_ != one.vocabulary.start for id_ in one.ids[cut:])
        assert one.extent(cut, end) == (symbols, len(after.decode()), len(after))


def test_bytes_that_are_no_text_are_characters_each(tmp_path):
    blob = "a日".encode() + b"\xff\xc3" + "é🙂".encode()
    (tmp_path / "blob").write_bytes(blob)
    built = corpus.read(data("task=lm", "data.unit=byte", path=tmp_path / "blob", split=(0.5, 0, 0.5)))
    assert built.original(0, len(blob)) == blob
    assert built.extent(0, len(blob)) == (len(blob), 6, len(blob))
    # without one byte of a character of three, the other two are no character
    assert built.extent(2, len(blob)) == (len(blob) - 2, 6, len(blob) - 2)


@pytest.mark.parametrize(
    ("text", "records", "advice"),
    [
        ("Ann\nBob\n" * 10, "none", "20 short lines, none empty: if it is a list, data.records=line"),
        ("Ann\nBob\n" * 10, "line", ""),
        ("Ann\nBob\n" * 9, "none", ""),
        ("Ann\nBob\n\n" * 10, "none", ""),
        (("x" * 40 + "\n") * 20, "none", ""),
        ("one line\r\nand another\nand " * 3, "none", "Its line ends are mixed"),
        ("one line\rand another\nand " * 3, "none", "Its line ends are mixed"),
        ("one line\r\nand another\r\n", "none", ""),
        ("\r\n\r\n", "none", ""),
    ],
)
def test_advice_about_lines(text, records, advice):
    said = list(corpus.read(data(text=text, records=records)).advice())
    assert [line.startswith(advice) for line in said] == [True] * bool(advice)
