import subprocess
import sys

import pytest
import torch
from conftest import settings

from charlstm.optimizer import Adam


def problem():
    torch.manual_seed(3)
    return [torch.randn(4, 3, requires_grad=True), torch.randn(5, requires_grad=True)]


def loss_of(parameters):
    first, second = parameters
    return (first.tanh().sum() - 2) ** 2 + (second**3).sum().cos()


@pytest.mark.parametrize("clip", [0, 0.5])
def test_the_steps_are_those_of_torch(clip):
    ours, theirs = problem(), problem()
    config = settings(f"train.clip={clip}", "train.lr=0.03").train
    optimizer = Adam(ours, config)
    reference = torch.optim.Adam(theirs, lr=0.03, betas=(config.beta1, config.beta2), fused=True)
    for _ in range(20):
        norm = optimizer.step(loss_of(ours))
        reference.zero_grad()
        loss_of(theirs).backward()
        expected_norm = torch.nn.utils.clip_grad_norm_(theirs, clip or 1e9)
        reference.step()
        assert norm == expected_norm
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)


def test_making_one_does_not_import_the_compiler():
    # torch.optim.Adam would, and that takes longer than all of the main job's training
    code = (
        "import sys, torch; from charlstm.optimizer import Adam; from types import SimpleNamespace as N;"
        "w = torch.ones(3, requires_grad=True); o = Adam([w], N(clip=1.0, beta1=.9, beta2=.99, lr=.1));"
        "o.step(w.sum()); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
