import logging
import os

import numpy as np
import pytest
import torch
from conftest import settings
from resuming import LM, MEMORIZE, assert_same, go, plan, text

from charlstm import checkpoint
from charlstm.tasks import table
from charlstm.training import machine, memory
from charlstm.training.loop import Training


def test_what_cannot_fit_is_refused():
    chosen = settings("task=lm", "model.hidden=4096", "train.batch=64")
    needed = memory.training_bytes(chosen.model, chosen.train, 65, 64)
    memory.check(chosen.model, chosen.train, 65, 64, needed)
    expected = (
        r"4096, model.layers = 1, train.batch = 64, 64 time steps: .* about .* and here .*; try a smaller"
    )
    with pytest.raises(ValueError, match=expected):
        memory.check(chosen.model, chosen.train, 65, 64, needed - 1)
    smaller = settings("task=lm", "model.hidden=4096", "train.batch=32")
    memory.check(smaller.model, smaller.train, 65, 64, needed - 1)


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/", {}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {"memory.max": "5000000"}, 5_000_000),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "6000000"}, 6_000_000),
        ("0::/a/b", {"a/b/memory.max": "6000000", "a/memory.max": "7000000"}, 6_000_000),
        ("0::/elsewhere", {"memory.max": "8000000"}, 8_000_000),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "9000000"}, 9_000_000),
        ("4:cpu,memory:/a:b", {"memory/memory.limit_in_bytes": "9000000"}, 9_000_000),
        ("4:memory:/", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("4:cpu:/a", {"a/memory.max": "1", "memory/a/memory.limit_in_bytes": "1"}, None),
        (
            "1:memory:/a\n0::/",
            {"memory/a/memory.limit_in_bytes": "4000000", "memory.max": "3000000"},
            3_000_000,
        ),
    ],
)
def test_the_limits_of_a_container_count(tmp_path, groups, limits, expected):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups + "\n")
    for name, limit in limits.items():
        place = tmp_path / "sys" / "fs" / "cgroup" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(limit + "\n")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory.physical(tmp_path) == (expected or machine)
    assert memory.physical(tmp_path / "none") == machine


@pytest.mark.parametrize("task", [MEMORIZE, LM], ids=["memorize", "lm"])
def test_a_window_longer_than_the_text_is_not_refused_for_its_size(task, tmp_path):
    (tmp_path / "text").write_text(text(), encoding="utf-8")
    chosen = plan(*task, f"data.path={tmp_path / 'text'}", "train.window=1000000000000")
    assert chosen.window <= 2 * len(text())


def test_signs_of_no_memory():
    for allocate in (lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.zeros(2**60, np.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            allocate()
        assert machine.is_out_of_memory(caught.value)
    assert not machine.is_out_of_memory(RuntimeError("shapes do not fit"))


def test_no_memory_for_the_first_step(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Training, "make_step", lambda *_: torch.empty(2**60, dtype=torch.uint8))
    (tmp_path / "text").write_text(text(), encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    assert table.run(plan(*LM, f"data.path={tmp_path / 'text'}"), run).code == 1
    assert "error: out of memory before the first step; try a smaller train.batch" in caplog.text
    assert not list(run.glob("*.safetensors"))


@pytest.mark.parametrize("task", [MEMORIZE, LM], ids=["memorize", "lm"])
def test_a_run_without_memory_says_so_and_can_be_resumed(task, tmp_path, caplog):
    caplog.set_level(logging.INFO, "charlstm")
    (tmp_path / "text").write_text(text(), encoding="utf-8")
    arguments = [*task, f"data.path={tmp_path / 'text'}", "save.steps=4"]
    whole = go(tmp_path / "whole", *arguments)

    def greedy(training: Training) -> None:
        if training.step == 10:
            torch.empty(2**60, dtype=torch.uint8)

    run = go(tmp_path / "run", *arguments, before_step=greedy, code=1)
    assert "error: out of memory at step 11; " in caplog.text
    assert checkpoint.load(run / checkpoint.LAST).step == 8
    assert_same(go(tmp_path / "on", f"resume={run}"), whole)
