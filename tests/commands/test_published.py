import json
import statistics

import pytest

from benchmarks.published import PUBLISHED, losses
from charlstm.files import PROJECT


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_the_published_curves_come_out(experiment):
    # three seeds and 150 epochs here; `python -m benchmarks.published` has ten seeds and all epochs
    curves = [losses(experiment, f"seed={seed}", "train.epochs=151")[0] for seed in range(3)]
    for epoch in (0, 50, 100, 150):
        ratio = PUBLISHED[experiment][epoch // 10] / statistics.median(curve[epoch] for curve in curves)
        assert 0.5 <= ratio <= 2, (epoch, ratio)


def test_the_published_figures_are_copied_right():
    source = PROJECT.parent / "shared" / "data" / "notebook_losses.json"
    if not source.exists():
        pytest.skip("needs ../shared")
    figures = json.loads(source.read_text())
    assert PUBLISHED["notebook"] == figures["single"]
    assert PUBLISHED["notebook_batch"] == figures["staggered_batch_of_5"]
