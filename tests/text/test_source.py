import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from blocks import data

from charlstm.text import source


def contents(found):
    return found.read()[0]


def test_a_text_is_its_own_source():
    (found,) = source.find(data(text="héllo", path="ignored.txt"))
    assert (found.name, contents(found)) == ("data.text", b"h\xc3\xa9llo")


def test_a_file_where_you_stand_comes_before_one_beside_train_py(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (found,) = source.find(data())
    assert contents(found) == (source.PROJECT / "data" / "hello.txt").read_bytes()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hello.txt").write_text("mine")
    (found,) = source.find(data())
    assert (found.name, contents(found)) == ("data.path = data/hello.txt", b"mine")


def test_the_files_of_a_folder_come_in_the_order_of_their_paths(tmp_path):
    for name in ("b.txt", "a.txt", "c.md", "sub/d.txt", "old-e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = source.find(data(path=tmp_path, exclude=("old-*",)))
    assert [(one.name, contents(one)) for one in found] == [
        (f"data.path = {tmp_path}/a.txt", b"a.txt"),
        (f"data.path = {tmp_path}/b.txt", b"b.txt"),
    ]
    found = source.find(data(path=tmp_path, glob="**/*.txt"))
    assert [contents(one).decode() for one in found] == ["a.txt", "b.txt", "old-e.txt", "sub/d.txt"]


def test_a_folder_without_a_match_says_what_it_holds(tmp_path):
    for name in ("a.md", "b.md", "NOTES", "sub/c.md", "sub/d.md", "sub/e.md", ".git/f.md", ".hidden.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="without files that match") as caught:
        source.find(data(path=tmp_path))
    expected = r"data.glob = *.txt; it holds 3 **/*.md, 2 *.md, 1 NOTES; choose, such as data.glob='**/*.md'"
    assert str(caught.value).endswith(expected)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"data\.glob = \*\.txt$"):
        source.find(data(path=tmp_path / "empty"))


def test_the_standard_library_is_there():
    config = data("data=python")
    assert config.path == str(Path(json.__file__).parents[1])
    found = source.find(config)
    assert len(found) > 300
    assert not any("/test/" in one.name or "site-packages" in one.name for one in found)


def test_paths_that_are_no_file(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, message in {
        "missing.txt": "data.path = missing.txt: no such file",
        tmp_path / "file" / "below": "no such file",
        "a\0b": "cannot be read: embedded null",
        tmp_path / "loop": "cannot be read: Too many levels of symbolic links",
        "/dev/zero": "a device",
        "x" * 5000: "cannot be read",
    }.items():
        with pytest.raises(ValueError, match=message):
            source.find(data(path=path))
    with pytest.raises(ValueError, match="data.path is not set"):
        source.find(data(path=""))
    with pytest.raises(ValueError, match="data.text: not valid Unicode at position 1; .* by data.path=..."):
        source.find(data(text="a\udce9"))


@pytest.mark.parametrize("text", ["a" * 4_200_000, "\n" * 1_400_000, "ö" * 600_000, "\U0001f600" * 300_000])
def test_a_text_is_no_longer_than_a_checkpoint_holds(text):
    """In JSON within JSON a new line takes 3 bytes, a letter beyond ASCII 7, one beyond 16 bits 14."""
    name = f"data.text: {len(text):,} characters are more than a checkpoint keeps"
    with pytest.raises(ValueError, match=f"{name} .* put them into a file, and name it by data.path=..."):
        source.find(data(text=text))
    assert source.find(data(text=text[: len(text) * 8 // 10]))


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="a file that even root cannot read: Linux only"
)
def test_a_file_that_cannot_be_read():
    (found,) = source.find(data(path="/proc/self/mem"))
    with pytest.raises(ValueError, match="data.path = /proc/self/mem: cannot be read: Input/output error"):
        contents(found)


def test_what_comes_out_of_a_pipe_is_kept(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[b"abc" * 18])
    writer.start()
    for _ in range(2):  # by another run of a sweep
        (found,) = source.find(data(path=tmp_path / "pipe"))
        for _ in range(2):
            assert contents(found) == b"abc" * 18
    writer.join()


def test_standard_input(monkeypatch):
    source._drained.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa\r\n\xe9"), encoding="ascii"))
    for _ in range(2):
        (found,) = source.find(data(path="-"))
        assert contents(found) == b"\xef\xbb\xbfa\r\n\xe9"
    source._drained.cache_clear()
    monkeypatch.setattr("sys.stdin", None)
    (found,) = source.find(data(path="-"))
    with pytest.raises(ValueError, match="data.path = -: standard input is closed"):
        contents(found)


def test_a_digest_is_compared():
    (found,) = source.find(data(text="abc"))
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert found.read() == replace(found, sha256=right).read() == (b"abc", right)
    with pytest.raises(ValueError, match=f"data.text: its SHA-256 is {right}, not that of data.sha256"):
        replace(found, sha256="0" * 64).read()
