"""What tests of texts share."""

from dataclasses import replace

import numpy as np
from conftest import settings
from hypothesis import strategies as st

DATA = settings().data

# what can be cut in two: line ends, letters of one to four bytes, blanks between line ends
pieces = st.lists(
    st.sampled_from(["a", "é", "日", "🙂", "\r\n", "\r", "\n", "\n\n", " ", "\t", "\ufeff", "\0"])
).map("".join)
any_text = pieces | st.text()


def data(*overrides, **changes):
    """The settings of a text."""
    if "path" in changes:
        changes["path"] = str(changes["path"])
    return replace(settings(*overrides).data, **changes)


def all_of(corpus):
    """The ids of its parts."""
    return np.concatenate([corpus.train, corpus.valid, corpus.test])
