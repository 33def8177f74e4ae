import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCE, settings
from hypothesis import HealthCheck, given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from charlstm.text import corpus, source
from charlstm.text.source import PROJECT
from charlstm.text.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty cache of this test's own, for texts of any size."""
    monkeypatch.setattr(source, "SMALL", 0)
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CHARLSTM_CACHE", str(folder))
    return folder


def data(*overrides, **changes):
    if "path" in changes:
        changes["path"] = str(changes["path"])
    return replace(settings(*overrides).data, **changes)


def all_of(built):
    return np.concatenate([built.train, built.valid, built.test])


@at_most(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=40), st.integers(1, 7))
def test_ids_decode_to_the_text_wherever_it_is_cut(tmp_path, monkeypatch, text, block):
    monkeypatch.setattr(source, "BLOCK", block)
    (tmp_path / "t").write_bytes(text.encode())
    built = corpus.read(data(path=tmp_path / "t", force=True))
    assert built.vocabulary.decode(all_of(built)) == text.removeprefix("\ufeff")
    assert built.train.dtype == built.vocabulary.dtype
    assert built.facts.symbols == built.facts.characters == len(text.removeprefix("\ufeff"))


def test_the_sentence():
    built = corpus.read(data(split=(1.0, 0.0, 0.0)))
    assert built.vocabulary == Vocabulary.of_text(SENTENCE)
    assert built.train.tolist() == built.vocabulary.encode(SENTENCE).tolist()
    assert isinstance(built.train, np.memmap)
    assert not built.train.flags.writeable
    assert (built.facts.source, built.facts.files, built.facts.distinct) == ("data/hello.txt", 1, 22)


@pytest.mark.parametrize("split", [(0.9, 0.05, 0.05), (0.5, 0.5, 0.0), (0.3, 0.0, 0.7), (1.0, 0.0, 0.0)])
def test_parts_are_disjoint_and_cover_the_text_in_its_order(split):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))  # every character once: its id is its position
    built = corpus.read(data(text=text, split=split))
    parts = [built.train, built.valid, built.test]
    assert all_of(built).tolist() == list(range(1000))
    assert [len(part) for part in parts] == pytest.approx([1000 * share for share in split])


@pytest.mark.parametrize("block", [3, 1 << 20])
def test_parts_have_whole_records(tmp_path, monkeypatch, block):
    monkeypatch.setattr(source, "BLOCK", block)
    (tmp_path / "t").write_text("".join(f"{'n' * (k % 7 + 1)}\n" for k in range(100)))
    built = corpus.read(data(path=tmp_path / "t", records="line", split=(0.7, 0.2, 0.1)))
    start, end = built.vocabulary.start, built.vocabulary.end
    for part, share in zip((built.train, built.valid, built.test), (0.7, 0.2, 0.1), strict=True):
        assert part[0] == start
        assert part[-1] == end
        # off by half a record at each end, at most
        assert abs(len(part) - share * built.facts.symbols) <= 9
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
    assert (facts.records, facts.crlf, facts.lf, facts.cr, facts.bom) == (2, 1, 1, 0, True)
    assert (facts.bytes, facts.characters, facts.symbols) == (8, 5, 9)


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


def test_a_pipe_is_read_once_for_all(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"printf 'abcabcabc%.0s' 1 2 3 4 5 6 > '{tmp_path / 'pipe'}'"]):
        for _ in range(2):
            assert corpus.read(data(path=tmp_path / "pipe")).facts.symbols == 54


def test_rare_characters_become_one_unknown_token():
    built = corpus.read(data(text="aaaabbbbcd" * 1 + "aabb", min_count=2, split=(1.0, 0.0, 0.0)))
    assert built.vocabulary == Vocabulary("ab", unknown=True)
    assert built.train.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 4, 4, 0, 0, 1, 1]
    assert (built.facts.distinct, built.facts.rare_distinct, built.facts.rare) == (4, 2, 2)
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


def files_of(cache):
    return sorted(path.name for path in (cache / "corpora").iterdir())


def test_the_second_time_nothing_is_encoded(cache, monkeypatch):
    first = corpus.read(data())
    monkeypatch.setattr(corpus, "_encoded", None)
    again = corpus.read(data())
    assert again.facts == first.facts
    assert again.vocabulary == first.vocabulary
    assert all_of(again).tolist() == all_of(first).tolist()
    corpus.read(data(split=(0.8, 0.1, 0.1)))  # nor is it for other parts
    assert len(files_of(cache)) == 1


def test_content_and_settings_that_matter_make_another_file(tmp_path, cache):
    path = tmp_path / "t"
    variants = [{}, {"unit": "byte"}, {"min_count": 2}, {"records": "line"}, {"encoding": "latin-1"}]
    variants += [{"alphabet": "ab\n"}, {"errors": "skip"}]
    for n, changes in enumerate(variants, 1):
        path.write_text("aabb\n" * 20)
        corpus.read(data(path=path, **changes))
        assert len(files_of(cache)) == n
    before = path.stat()
    path.write_text("aabb\n" * 19 + "abab\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # neither size nor time tells
    assert corpus.read(data(path=path)).vocabulary.decode(corpus.read(data(path=path)).test) == "abab\n"
    assert len(files_of(cache)) == len(variants) + 1


def test_where_one_file_ends_and_the_next_begins_matters(tmp_path, cache):
    for contents in (("ab", "cd" * 40), ("abc", "d" + "cd" * 39)):
        for name, content in zip("12", contents, strict=True):
            (tmp_path / f"{name}.txt").write_text(content)
        corpus.read(data(path=tmp_path))
    assert len(files_of(cache)) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "noise"])
def test_a_broken_file_is_made_anew(cache, damage):
    expected = all_of(corpus.read(data())).tolist()
    (name,) = files_of(cache)
    path = cache / "corpora" / name
    blob = path.read_bytes()
    broken = {"cut": blob[:50], "empty": b"", "longer": b"x" + blob, "noise": b"\xff" * len(blob)}
    path.write_bytes(broken[damage])
    assert all_of(corpus.read(data())).tolist() == expected
    assert path.read_bytes() == blob


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "file"))
    built = corpus.read(data())
    assert built.vocabulary.decode(all_of(built)) == SENTENCE
    assert "cannot be written: Not a directory; the corpus is encoded anew each time" in caplog.text
    corpus.read(data())
    assert caplog.text.count("cannot be written") == 1


BUILD = """
import sys
from charlstm.config import compose
from charlstm.text import corpus
from charlstm.config.settings import TrainSettings
config = compose.compose("train", TrainSettings, sys.argv[1:]).data
built = corpus.read(config)
print(len(built.train), built.facts.symbols, int(built.train[:].sum()))
"""


def test_two_processes_at_once(tmp_path, cache):
    (tmp_path / "t").write_text("abc日\n" * 800_000)
    command = [sys.executable, "-c", BUILD, f"data.path={tmp_path / 't'}"]
    both = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    assert said[0].startswith("3600000 4000000 ")
    assert len(files_of(cache)) == 1


def test_standard_input_is_read_once_for_all(monkeypatch):
    source._drained.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfabc\r\n" * 30)))
    for _ in range(2):
        built = corpus.read(data(path="-", split=(1.0, 0.0, 0.0)))
        assert built.vocabulary.decode(built.train).startswith("abc\r\n\ufeffabc")
    source._drained.cache_clear()
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="data.path = -: standard input is closed"):
        corpus.read(data(path="-"))


WRONG = {
    ("text",): "data.text: the text is empty",
    ("path", "nothing"): "data.path = nothing: no such file",
    ("path", "folder"): r"data.path = folder: a folder without files that match data.glob = \*.txt$",
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
        assert corpus.read(data(**changes)).facts.symbols == 3
        return
    asked = data(**changes)
    with pytest.raises(ValueError, match=WRONG[request_]):
        corpus.read(asked).fit_split(asked.split)


def test_the_standard_library_is_there():
    config = data("data=python")
    assert config.path == str(Path(json.__file__).parents[1])
    found = source.find(config)
    assert len(found) > 300
    assert not any("/test/" in source.name or "site-packages" in source.name for source in found)


def test_a_named_text_gives_way_to_what_is_asked_for_beside_it(tmp_path):
    (tmp_path / "t").write_text("abc" * 30)
    for name in ("python", "hello"):
        assert corpus.read(data(f"data={name}", f"data.path={tmp_path / 't'}")).facts.symbols == 90
