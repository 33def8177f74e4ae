import io
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SENTENCE, settings

from charlstm.cli.score import read_files
from charlstm.text import corpus


def read_text(config):
    """The text of a request, decoded from its ids."""
    corpus.refuse_for_memorize(config)
    found = corpus.read(config)
    return found.vocabulary.decode(found.ids)


def data(text=None, path=None, encoding="utf-8"):
    path = None if path is None else str(path)
    return replace(settings().data, text=text, path=path, encoding=encoding)


def test_the_sentence_of_the_main_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it is found beside train.py from anywhere
    assert read_text(data(path="data/hello.txt")) == SENTENCE


def test_a_file_where_you_stand_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hello.txt").write_text("mine")
    assert read_text(data(path="data/hello.txt")) == "mine"


@pytest.mark.parametrize("text", ["a\r\nb\rc\n", " blanks ", "one \0 in sixteen", "日本", "a\ufeffb"])
def test_text_is_unchanged(tmp_path, text):
    (tmp_path / "t.txt").write_bytes(text.encode())
    assert read_text(data(path=tmp_path / "t.txt")) == text
    assert read_text(data(text=text, path="ignored.txt")) == text


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(data(path=tmp_path / "t.txt")) == "abc"
    (tmp_path / "t.txt").write_text("abc", encoding="utf-16")
    assert read_text(data(path=tmp_path / "t.txt", encoding="utf-16")) == "abc"


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"", "utf-8", "the text is empty"),
        (b"\xef\xbb\xbf", "utf-8", "the text is empty"),
        (b"caf\xe9 au lait", "utf-8", "not utf-8 text: bytes e9 20 61 75 at offset 3"),
        (b"abc", "utf-99", "data.encoding = utf-99: no such encoding"),
        (b"abc", "hex", "data.encoding = hex: no such encoding"),
    ],
)
def test_a_file_that_is_no_text(tmp_path, content, encoding, message):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_text(data(path=tmp_path / "t.txt", encoding=encoding))


def test_paths_that_are_no_file(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, message in {
        "missing.txt": "missing.txt: no such file",
        tmp_path / "file" / "below": "no such file",
        tmp_path: "a folder",
        "a\0b": "cannot be read: embedded null",
        tmp_path / "loop": "cannot be read: Too many levels of symbolic links",
        "/dev/zero": "a device",
        "x" * 5000: "cannot be read",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_text(data(path=path))


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="a file that even root cannot read: Linux only"
)
def test_a_file_that_cannot_be_read():
    with pytest.raises(ValueError, match="data.path = /proc/self/mem: cannot be read: Input/output error"):
        read_text(data(path="/proc/self/mem"))


def test_no_text_at_all():
    with pytest.raises(ValueError, match="data.path is not set"):
        read_text(data())
    with pytest.raises(ValueError, match="data.text: the text is empty"):
        read_text(data(text=""))
    with pytest.raises(ValueError, match="not valid Unicode at position 1"):
        read_text(data(text="a\udce9"))


def test_a_folder_is_its_txt_files_by_name(tmp_path):
    for name, content in {"b.txt": "B\r\n", "a.txt": "\ufeffA", "c.md": "no", "sub/d.txt": "no"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    files = read_files(None, str(tmp_path), "utf-8")
    assert list(files.items()) == [(f"{tmp_path}/a.txt", "A"), (f"{tmp_path}/b.txt", "B\r\n")]


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa\r\n\xe9"), encoding="ascii"))
    assert read_files(None, "-", "latin-1") == {"-": "ï»¿a\r\né"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa\r\n")))
    assert read_files(None, "-", "utf-8") == {"-": "a\r\n"}


def test_files_that_cannot_be_had(tmp_path, monkeypatch):
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
            read_files(text, path, "utf-8")
