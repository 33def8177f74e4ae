"""A known file from the network: once, with progress, and only with the right SHA-256."""

import os
from pathlib import Path

from charlstm.progress_bar import progress_bar

BLOCK = 1 << 16


def fetch(url: str, wanted: str, place: Path) -> Path:
    """The file of a URL: from the cache, which `CHARLSTM_CACHE` may name, or from the network, which fills
    the cache. Raises ValueError if it cannot be downloaded, or it is another file.

    Args:
        wanted: its SHA-256, in small hexadecimal digits.
        place: where people can put the file themselves, for the message that says so.
    """
    import pooch  # type: ignore[import-untyped]  # here: only who downloads waits for it

    def download(url: str, temporary: str, pup: object) -> None:
        as_it_lies_there = {"Accept-Encoding": "identity"}
        with progress_bar(None, url):
            pooch.HTTPDownloader(False, BLOCK, headers=as_it_lies_there)(url, temporary, pup)
        Path(temporary).chmod(0o644)  # or nobody else could read it in a cache that is shared

    mend = f"download it by other means and save it as {place}"
    pooch.get_logger().setLevel("WARNING")
    cache = Path(os.environ.get("CHARLSTM_CACHE") or pooch.os_cache("charlstm"))
    try:
        return Path(pooch.retrieve(url, f"sha256:{wanted}", wanted, cache / "downloads", None, download))
    except OSError as error:  # as all that requests raises
        raise ValueError(f"data.url = {url}: cannot be downloaded: {_reason(error)}; {mend}") from None
    except ValueError as error:
        raise ValueError(f"data.url = {url}, data.sha256: {str(error).rstrip('.')}; {mend}") from None


def _reason(error: BaseException) -> object:
    """What was wrong in the first place: requests and urllib3 wrap errors in errors."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or error
