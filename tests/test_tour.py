"""The notebook of the docs, its cells one after the other in one process."""

import json

from charlstm.files import PROJECT


def test_the_notebook_runs():
    cells = json.loads((PROJECT / "docs" / "tour.ipynb").read_text("utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert names["model"].sample() == "to be, or not to be"
    assert names["other"].sample() == "to bé, or not"
    assert not any(cell.get("outputs") for cell in cells)
