import gc
import hashlib
import http.server
import subprocess
import sys
import threading
from functools import partial

import pytest
from conftest import settings

from charlstm.text import corpus

TEXT = b"First Citizen:\n" * 100
SHA256 = hashlib.sha256(TEXT).hexdigest()


class Server(http.server.SimpleHTTPRequestHandler):
    """A server of files that cuts off those called `cut`, and counts what it is asked for."""

    asked = []  # noqa: RUF012  # each test has its own

    def send_header(self, keyword, value):
        if keyword == "Content-Length" and self.path == "/cut":
            value = str(int(value) + 1)
        super().send_header(keyword, value)

    def log_message(self, *_):
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "asked", [])
    (tmp_path / "remote").mkdir()
    for name in ("text", "cut"):
        (tmp_path / "remote" / name).write_bytes(TEXT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Server, directory=tmp_path / "remote")
    ) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def build(url, sha256=SHA256):
    return corpus.read(settings("data.path=local", f"data.url={url}", f"data.sha256='{sha256}'").data)


def refused(url, sha256=SHA256):
    with pytest.raises(ValueError, match="; download it by other means and save it as /.*/local$") as caught:
        build(url, sha256)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("sha256", [SHA256, SHA256.upper()])
def test_it_is_downloaded_once(server, cache, sha256, capfd):
    for _ in range(2):
        assert build(f"{server}/text", sha256).facts.bytes == len(TEXT)
    assert len(Server.asked) == 1
    (downloaded,) = (cache / "downloads").iterdir()
    assert downloaded.read_bytes() == TEXT
    assert downloaded.stat().st_mode & 0o777 == 0o644
    assert capfd.readouterr() == ("", "")


def test_a_damaged_one_is_downloaded_again(server, cache):
    build(f"{server}/text")
    (damaged,) = (cache / "downloads").iterdir()
    for content in (TEXT[:-1], b"", TEXT[:-1] + b"!"):
        damaged.write_bytes(content)
        assert build(f"{server}/text").facts.bytes == len(TEXT)
        assert damaged.read_bytes() == TEXT
    assert len(Server.asked) == 4


def test_a_file_that_is_there_is_used(tmp_path, cache):
    (tmp_path / "local").write_bytes(TEXT)
    assert build("http://127.0.0.1:1/text").facts.bytes == len(TEXT)
    assert not (cache / "downloads").exists()
    (tmp_path / "local").write_bytes(b"mine")
    with pytest.raises(ValueError, match="data.path = local: its SHA-256 is .*; another text"):
        build("http://127.0.0.1:1/text")


@pytest.mark.parametrize(
    "sha256", ["0" * 64, "md5:" + hashlib.md5(TEXT).hexdigest(), "sha256:" + SHA256[:-1]]
)
def test_another_text_is_refused(server, cache, sha256):
    said = refused(f"{server}/text", sha256)
    assert said.startswith(f"data.url = {server}/text, data.sha256: ")
    assert f"{sha256} but got {SHA256}" in said
    assert list((cache / "downloads").iterdir()) == []


@pytest.mark.filterwarnings(
    "ignore:unclosed <socket"
)  # urllib3 leaves that of a torn download to the collector
def test_what_cannot_be_downloaded_is_named_with_the_reason(server, cache):
    for url, reason in {
        f"{server}/cut": "IncompleteRead(1500 bytes read, 1 more expected)",
        f"{server}/none": "404 Client Error: File not found",
        "http://127.0.0.1:1/text": "Connection refused",
        "ftp://127.0.0.1/text": "No connection adapters were found for",
        f"file://{cache.parent}/remote/text": "No connection adapters were found for",
        "text": "Invalid URL 'text': No scheme supplied",
    }.items():
        said = refused(url)
        assert said.startswith(f"data.url = {url}: cannot be downloaded: ")
        assert reason in said
        assert list((cache / "downloads").iterdir()) == []
    gc.collect()


def test_a_cache_that_cannot_be_written_is_named(server, cache):
    cache.write_bytes(b"")
    assert "cannot be downloaded: " in refused(f"{server}/text")


def test_who_downloads_nothing_does_not_wait_for_what_downloads():
    code = "import sys, charlstm.text.source; assert not {'pooch', 'requests', 'urllib3'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
