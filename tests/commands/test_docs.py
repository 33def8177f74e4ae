"""Every code block of every page in docs/ runs and prints what the page says."""

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from charlstm.text.source import PROJECT

PAGES = sorted((PROJECT / "docs").glob("*.md"))
SYBIL = Sybil([PythonCodeBlockParser()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page):
    examples = list(SYBIL.parse(page))
    assert examples
    for example in examples:  # in the order of the page: a block goes on from those above it
        example.evaluate()
