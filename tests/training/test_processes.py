"""Two processes make the steps of one, in float64, with every optimiser, clipping and averaging."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
from warm import PYTHON

from charlstm.cli import train
from charlstm.config.compose import compose
from charlstm.config.settings import TrainSettings
from charlstm.files import PROJECT
from charlstm.model.torch_model import Model
from charlstm.training import processes
from charlstm.training.loop import OPTIMIZERS, Training, of_corpus
from charlstm.training.optimizer import Average
from charlstm.training.processes import Order, together

STEPS = 50


def training(optimizer: str, accumulate: int = 1) -> Training:
    torch.manual_seed(0)
    keys = ["task=lm", "train.batch=6", "train.window=7", "train.clip=0.1", "model.hidden=12"]
    keys += ["train.weight_decay=0.1"]
    settings = compose(
        "train", TrainSettings, [*keys, "model.layers=2", "model.embedding=5", "train.lr=0.01"]
    )
    model, config = Model(settings.model, 9), settings.train
    config = replace(config, optimizer=optimizer, accumulate=accumulate)
    ids = np.random.default_rng(0).integers(9, size=999).cumsum() % 9
    average = Average(model.parameters(), 10)
    which = {"steps": STEPS, "every": 1, "average": average, "processes": together()}
    return of_corpus(model, ids, 0, config, **which)


def numbers(made: Training) -> list[float]:
    """What came of all steps: losses, accuracies, norms, and the average's weights."""
    figures = [
        figure
        for progress in made.figures()
        for figure in (progress.loss, progress.accuracy, progress.gradient_norm)
    ]
    return figures + torch.cat([weight.flatten() for weight in made.average.averages]).tolist()


def main() -> None:
    torch.set_default_dtype(torch.float64)
    processes, found = together(), {}
    for optimizer in OPTIMIZERS:
        made = training(optimizer)
        if processes.rank == 0:
            found[optimizer] = numbers(made)
            continue
        for _ in range(STEPS):
            order, lr, made.average.weight = processes.hear(False)
            assert order == Order.STEP
            made.make_step(lr)
    if processes.rank == 0:
        print(json.dumps(found))
    processes.part()


@pytest.fixture(scope="module")
def by_two() -> dict:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    place |= {"LOCAL_WORLD_SIZE": "2", "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])}
    two = [
        subprocess.Popen(
            [*PYTHON, __file__],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=120)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0]
    return json.loads(said[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_processes_make_the_steps_of_one(by_two, optimizer):
    torch.set_default_dtype(torch.float64)
    try:
        one = numbers(training(optimizer))
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(one) > 3 * STEPS
    # eigenvectors of eigenvalues that are nearly the same turn with the last bit, and SOAP's steps with them
    which, rel = (slice(0, 3 * STEPS, 3), 3e-3) if optimizer == "soap" else (slice(None), 1e-9)
    assert by_two[optimizer][which] == pytest.approx(one[which], rel=rel, abs=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_batch_in_three_parts_makes_the_steps_of_a_whole_one(optimizer):
    torch.set_default_dtype(torch.float64)
    try:
        whole, parts = numbers(training(optimizer)), numbers(training(optimizer, accumulate=3))
    finally:
        torch.set_default_dtype(torch.float32)
    which, rel = (slice(0, 3 * STEPS, 3), 3e-3) if optimizer == "soap" else (slice(None), 1e-9)
    assert parts[which] == pytest.approx(whole[which], rel=rel, abs=1e-12)


PLACE = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({"WORLD_SIZE": "two"}, [], "WORLD_SIZE = two: must be a whole number from 1 on, as torchrun sets "),
        ({"WORLD_SIZE": "0"}, [], "WORLD_SIZE = 0: must be a whole number from 1 on, as torchrun sets it; "),
        ({"LOCAL_RANK": "-1"}, [], "LOCAL_RANK = -1: must be a whole number from 0 on, as torchrun sets "),
        ({"RANK": "2"}, [], "RANK = 2: must be a whole number from 0 on, below WORLD_SIZE, as torchrun "),
        ({}, ["--multirun", "seed=1,2"], "--multirun: several processes train one run; start it without "),
    ],
)
def test_what_was_not_started_as_torchrun_does_is_one_line(monkeypatch, capsys, variables, arguments, said):
    for name, value in (PLACE | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    together.cache_clear()
    with pytest.raises(SystemExit) as ended:
        train.main()
    together.cache_clear()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1


def test_nobody_waits_for_ever_for_a_process_that_never_began(monkeypatch):
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "GATHERING", timedelta(seconds=0.2))
    with pytest.raises(ConnectionError, match="another of its 2 processes has ended, or never began"):
        processes.Processes().tell(Order.START)


if __name__ == "__main__":
    main()
