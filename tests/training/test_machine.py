import os
import signal

import pytest
import torch

from charlstm.runs import signals
from charlstm.training import machine


def test_a_signal_is_noted_and_the_second_one_ends():
    before = signal.getsignal(signal.SIGINT)
    with signals.StopSignals() as stop:
        assert (stop.received, stop.exit_code()) == (None, 0)
        os.kill(os.getpid(), signal.SIGINT)
        assert (stop.received, stop.exit_code()) == (signal.SIGINT, 130)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_can_be_broken_off_is():
    with signals.StopSignals() as stop:
        for _ in range(2):  # the second time it does not even begin
            with pytest.raises(signals.Stopped), stop.breaking_off():
                os.kill(os.getpid(), signal.SIGTERM)


def test_a_save_can_be_asked_for():
    before = signal.getsignal(signal.SIGUSR1)
    with signals.StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (stop.save_wanted, stop.received) == (True, None)
    assert signal.getsignal(signal.SIGUSR1) is before


def test_terminated_is_143():
    with signals.StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.exit_code() == 143


def test_handlers_are_put_back_when_nothing_came():
    before = signal.getsignal(signal.SIGTERM)
    with signals.StopSignals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_threads_are_as_asked_or_by_size():
    assert machine.choose_threads(7, hidden=8, streams=1) == 7
    assert machine.choose_threads("auto", hidden=128, streams=1) == 1
    assert machine.choose_threads("auto", hidden=512, streams=64) == machine.available_cores()


def test_devices():
    assert machine.choose_device("cpu") == torch.device("cpu")
    assert machine.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="device = cuda: .* use device=cpu"):
        machine.choose_device("cuda")


NAMES = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize(
    ("wanted", "seconds", "chosen"),
    [
        ("float32", (None, None), "float32"),
        ("bfloat16", (1.0, 9.0), "bfloat16"),
        ("auto", (1.0, 0.8), "bfloat16"),
        ("auto", (1.0, 0.95), "float32"),  # worth its rounding only where it is clearly faster
        ("auto", (1.0, 2.0), "float32"),
        ("auto", (1.0, None), "float32"),
        ("auto", (1.0, 0.8, 0.4), "float16"),
    ],
)
def test_precision_is_as_asked_or_what_is_faster(monkeypatch, wanted, seconds, chosen):
    monkeypatch.setattr(
        machine, "_probe_lstm", lambda _, name: dict(zip(NAMES, seconds, strict=False)).get(name)
    )
    assert machine.choose_precision(wanted, torch.device("cpu")) == chosen


def test_precision_without_a_kernel_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "_probe_lstm", lambda _, name: 1.0 if name == "float32" else None)
    with pytest.raises(ValueError, match="precision = bfloat16: this machine has no LSTM kernel for it"):
        machine.choose_precision("bfloat16", torch.device("cpu"))


def test_the_probe_measures():
    assert 0 < machine._probe_lstm(torch.device("cpu"), "float32") < 5


def test_prepare_seeds_and_sets_threads():
    machine.prepare(seed=5, threads=1)
    first = torch.rand(3)
    machine.prepare(seed=5, threads=1)
    assert torch.equal(torch.rand(3), first)
    assert torch.get_num_threads() == 1
    assert (torch.tensor([1e-40]) * 1).item() == 0  # denormals are flushed
