"""Every block of Python in the README and in docs/ runs and prints what the page says."""

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from charlstm.files import PROJECT

PAGES = [
    path
    for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    if "```python" in path.read_text(encoding="utf-8")
]
SYBIL = Sybil([PythonCodeBlockParser()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a page may make runs
    examples = list(SYBIL.parse(page))
    assert examples
    for example in examples:  # in the order of the page: a block goes on from those above it
        example.evaluate()
