"""The bar for whatever takes longer than a second."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(total: int, description: str | None = None) -> "tqdm[Any]":
    """A bar over `total` characters on standard error, for people, and only where it takes over a second."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit="char",
        unit_scale=True,
        delay=1,
        leave=False,
        dynamic_ncols=True,
        disable=sys.stderr is None or not sys.stderr.isatty(),
    )
