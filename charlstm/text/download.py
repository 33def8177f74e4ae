"""A known file from the network: once, with progress, and only with the right SHA-256."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from charlstm import files
from charlstm.progress_bar import progress_bar

TIMEOUT = 30
"""Seconds without an answer."""

BLOCK = 1 << 16


def fetch(url: str, wanted: str, place: Path) -> Path:
    """The file of a URL: from the cache, or from the network, which fills the cache.

    Args:
        wanted: its SHA-256, in small hexadecimal digits.
        place: where people can put the file themselves, for the message that says so.

    Raises:
        ValueError: it cannot be downloaded, or it is another file.
    """
    path = files.cache() / "downloads" / wanted
    if path.exists():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == wanted:
                return path
    mend = f"download it by other means and save it as {place}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as file, urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            digest = hashlib.sha256()
            with progress_bar(int(answer.headers.get("Content-Length") or 0), url) as bar:
                while block := answer.read(BLOCK):
                    file.write(block)
                    digest.update(block)
                    bar.update(len(block))
            if digest.hexdigest() != wanted:
                raise ValueError(
                    f"data.url = {url}: what came has the SHA-256 {digest.hexdigest()}, not that of "
                    f"data.sha256; {mend}"
                )
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError, and so is a timeout
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ValueError(f"data.url = {url}: cannot be downloaded: {reason}; {mend}") from None
    return path
