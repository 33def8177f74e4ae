import hashlib

import pytest
from conftest import settings

from charlstm.text import corpus, download

TEXT = b"First Citizen:\n" * 100
SHA256 = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "remote").write_bytes(TEXT)
    return tmp_path / "cache"


def build(tmp_path, *overrides, path="local", sha256=SHA256):
    url = f"data.url=file://{tmp_path}/remote"
    return corpus.read(settings(f"data.path={path}", url, f"data.sha256='{sha256}'", *overrides).data)


def test_it_is_downloaded_once(tmp_path, cache):
    assert build(tmp_path).facts.bytes == len(TEXT)
    (tmp_path / "remote").unlink()
    assert build(tmp_path).facts.bytes == len(TEXT)
    damaged = cache / "downloads" / SHA256
    damaged.write_bytes(TEXT[:-1])
    with pytest.raises(ValueError, match="cannot be downloaded: .*; download it by other means and save it"):
        build(tmp_path)


def test_a_file_that_is_there_is_used(tmp_path, cache):
    (tmp_path / "remote").rename(tmp_path / "local")
    assert build(tmp_path).facts.bytes == len(TEXT)
    assert not (cache / "downloads").exists()
    (tmp_path / "local").write_bytes(b"mine")
    with pytest.raises(ValueError, match="data.path = local: its SHA-256 is .*; it is another text"):
        build(tmp_path)


def test_another_text_is_refused(tmp_path, cache):
    with pytest.raises(ValueError, match=f"what came has the SHA-256 {SHA256}, not that of data.sha256"):
        build(tmp_path, sha256="0" * 64)
    assert list((cache / "downloads").iterdir()) == []


def test_without_a_network_the_message_says_where_to_put_it(monkeypatch):
    def unreachable(*_, **__):
        raise download.urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    config = settings("data=shakespeare", "data.path=not_there.txt").data
    with pytest.raises(ValueError, match="Name or service not known; .* save it as .*/not_there.txt"):
        corpus.read(config)
