"""Large corpora: one file of ids in the cache, encoded once."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from blocks import all_of, data
from conftest import SENTENCE

from charlstm.files import PROJECT
from charlstm.text import cache as corpora
from charlstm.text import corpus, source
from charlstm.text.survey import Facts


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty cache of this test's own, in which every text is a large one."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CHARLSTM_CACHE", str(folder))
    monkeypatch.setattr(source, "SMALL", 0)
    return folder


def files_of(cache):
    return sorted(path.name for path in (cache / "corpora").iterdir())


def test_the_second_time_nothing_is_encoded(cache, monkeypatch):
    first = corpus.read(data())
    monkeypatch.setattr(corpus, "_encoded", None)
    again = corpus.read(data())
    assert again.facts == first.facts
    assert again.data == first.data
    assert again.vocabulary == first.vocabulary
    assert again.ids.tolist() == first.ids.tolist()
    assert isinstance(again.train, np.memmap)
    corpus.read(data(split=(0.8, 0.1, 0.1)))  # nor is it for other parts
    assert len(files_of(cache)) == 1


def test_a_small_text_leaves_no_file(cache, monkeypatch):
    large = corpus.read(data())
    (cache / "corpora" / files_of(cache)[0]).unlink()
    monkeypatch.setattr(source, "SMALL", len(SENTENCE))
    small = corpus.read(data())
    assert files_of(cache) == []
    assert small.ids.tolist() == large.ids.tolist()
    assert (small.facts, small.data, small.vocabulary) == (large.facts, large.data, large.vocabulary)
    assert small.ids.dtype == large.ids.dtype
    monkeypatch.setattr(source, "SMALL", len(SENTENCE) - 1)
    corpus.read(data())
    assert len(files_of(cache)) == 1


def test_content_and_settings_that_matter_make_another_file(tmp_path, cache):
    path = tmp_path / "t"
    variants = [{}, {"unit": "byte"}, {"min_count": 2}, {"records": "line"}, {"encoding": "latin-1"}]
    variants += [{"alphabet": "ab\n"}, {"errors": "skip"}, {"force": True}]
    for n, changes in enumerate(variants, 1):
        path.write_text("aabb\n" * 20)
        corpus.read(data(path=path, **changes))
        assert len(files_of(cache)) == n
    before = path.stat()
    path.write_text("aabb\n" * 19 + "abab\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # neither size nor time tells
    for _ in range(2):
        assert corpus.read(data(path=path)).vocabulary.decode(corpus.read(data(path=path)).test) == "abab\n"
    assert len(files_of(cache)) == len(variants) + 1


def test_where_one_file_ends_and_the_next_begins_matters(tmp_path, cache):
    for contents in (("ab", "cd" * 40), ("abc", "d" + "cd" * 39)):
        for name, content in zip("12", contents, strict=True):
            (tmp_path / f"{name}.txt").write_text(content)
        corpus.read(data(path=tmp_path))
    assert len(files_of(cache)) == 2


def test_the_same_text_by_another_name_is_the_same_file(tmp_path, cache):
    for name in "ab":
        (tmp_path / name).write_text("abc\n" * 30)
        found = corpus.read(data(path=tmp_path / name))
        assert found.facts.source == str(tmp_path / name)
    assert len(files_of(cache)) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "noise", "a third of its ids"])
def test_a_broken_file_is_made_anew(cache, damage):
    expected = corpus.read(data()).ids.tolist()
    (name,) = files_of(cache)
    path = cache / "corpora" / name
    blob = path.read_bytes()
    broken = {"cut": blob[:50], "empty": b"", "longer": b"x" + blob, "noise": b"\xff" * len(blob)}
    broken["a third of its ids"] = bytes(len(SENTENCE) // 3) + blob[len(SENTENCE) // 3 :]
    path.write_bytes(broken[damage])
    assert corpus.read(data()).ids.tolist() == expected
    assert path.read_bytes() == blob


def test_no_byte_can_be_another_nor_be_missing(cache):
    corpus.read(data())
    (name,) = files_of(cache)
    path = cache / "corpora" / name
    blob = path.read_bytes()
    assert corpora.load(path) is not None
    for at in range(len(blob)):
        path.write_bytes(blob[:at] + bytes([blob[at] ^ 1 << at % 8]) + blob[at + 1 :])
        assert corpora.load(path) is None, at
        path.write_bytes(blob[:at])
        assert corpora.load(path) is None, at
    path.write_bytes(blob)
    other = path.rename(path.with_name("0" + name[1:]))  # nor can it be that of another text
    assert corpora.load(other) is None


def sealed(path, ids, trailer):
    """A file whose digest is right, whatever is in it."""
    content = ids + trailer + len(trailer).to_bytes(8, "little")
    path.write_bytes(content + hashlib.sha256(path.name.encode() + content).digest())
    path.chmod(0o600)


def test_what_does_not_fit_together_is_not_believed_under_its_right_digest(tmp_path):
    path = tmp_path / "0.ids"
    names = [field.name for field in dataclasses.fields(Facts)]
    facts = dict.fromkeys(names, 1) | {"source": "a", "bom": False, "symbols": 3}
    right = {"characters": "ab", "unknown": False, "unit": "char", "facts": facts}
    sealed(path, bytes([0, 1, 3]), json.dumps(right).encode())
    ids, *_ = corpora.load(path)
    assert ids.tolist() == [0, 1, 3]
    wrong = [
        {key: value for key, value in right.items() if key != "facts"},
        right | {"facts": facts | {"records": -1}},
        right | {"facts": facts | {"cr": "1"}},
        right | {"facts": facts | {"symbols": 4}},
        right | {"characters": "a"},  # 3 is none of its ids
        right | {"characters": "aa"},
        right | {"characters": "".join(map(chr, range(300)))},  # of two bytes each
        right | {"characters": 7},
        right | {"unit": "bit"},
        [right],
        None,
    ]
    for known in map(json.dumps, wrong):
        sealed(path, bytes([0, 1, 3]), known.encode())
        assert corpora.load(path) is None, known
    for trailer in (b"[" * 100_000, b"", b"\xff", b"NaN", json.dumps(right).encode() + b" {}"):
        sealed(path, bytes([0, 1, 3]), trailer)
        assert corpora.load(path) is None, trailer
    sealed(path, b"", json.dumps(right | {"facts": facts | {"symbols": 0}}).encode())
    assert corpora.load(path) is None


@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_others_can_write_is_not_believed(cache, which, caplog):
    expected = corpus.read(data()).ids.tolist()
    (name,) = files_of(cache)
    path = cache / "corpora" / name
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    (path if which == "file" else path.parent).chmod(0o722)
    assert corpora.load(path) is None
    assert corpus.read(data()).ids.tolist() == expected
    if which == "file":  # it was made anew
        assert path.stat().st_mode & 0o777 == 0o600
        assert corpora.load(path) is not None
    else:
        assert "belongs to another user, or others can write there; the corpus is encoded" in caplog.text
        corpora.substitute.cache_clear()


def test_what_belongs_to_another_user_is_not_believed(cache, monkeypatch):
    corpus.read(data())
    path = cache / "corpora" / files_of(cache)[0]
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    believed = corpora.load(path) is not None
    assert believed == (uid == 0)  # who is master of the machine could do worse
    if uid == 0:
        os.chown(path, 12345, -1)
        assert corpora.load(path) is None
        os.chown(path, 0, -1)
        os.chown(path.parent, 12345, -1)
        assert corpora.load(path) is None


def test_a_refused_text_leaves_nothing(tmp_path, cache):
    (tmp_path / "t").write_bytes(b"abc" * 30 + b"\xff")
    with pytest.raises(ValueError, match="not utf-8 text"):
        corpus.read(data(path=tmp_path / "t"))
    assert files_of(cache) == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "file"))
    built = corpus.read(data())
    assert built.vocabulary.decode(all_of(built)) == SENTENCE
    assert "cannot be written: Not a directory; the corpus is encoded anew each time" in caplog.text
    corpus.read(data())
    assert caplog.text.count("cannot be written") == 1
    # nor can the folder for that
    monkeypatch.setattr("charlstm.text.cache.substitute", lambda _: tmp_path / "file")
    with pytest.raises(
        ValueError, match="file: cannot be written: .* set CHARLSTM_CACHE to a folder with room"
    ):
        corpus.read(data())


READ = """
import sys
from charlstm.config import compose
from charlstm.text import corpus
from charlstm.config.settings import TrainSettings
found = corpus.read(compose.compose("train", TrainSettings, sys.argv[1:]).data)
print(len(found.train), found.facts.symbols, int(found.train[:].sum()))
"""


def test_two_processes_at_once(tmp_path, cache):
    (tmp_path / "t").write_text("abc日\n" * 800_000)  # is large by itself
    command = [sys.executable, "-c", READ, f"data.path={tmp_path / 't'}"]
    both = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    assert said[0].startswith("3600000 4000000 ")
    assert len(files_of(cache)) == 1
