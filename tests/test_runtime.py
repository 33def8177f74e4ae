import os
import signal

import pytest
import torch

from charlstm import runtime


def test_a_signal_is_noted_and_the_second_one_ends():
    before = signal.getsignal(signal.SIGINT)
    with runtime.StopSignals() as stop:
        assert (stop.received, stop.exit_code()) == (None, 0)
        os.kill(os.getpid(), signal.SIGINT)
        assert (stop.received, stop.exit_code()) == (signal.SIGINT, 130)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_terminated_is_143():
    with runtime.StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.exit_code() == 143


def test_handlers_are_put_back_when_nothing_came():
    before = signal.getsignal(signal.SIGTERM)
    with runtime.StopSignals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_threads_are_as_asked_or_by_size():
    assert runtime.choose_threads(7, hidden=8, streams=1) == 7
    assert runtime.choose_threads("auto", hidden=128, streams=1) == 1
    assert runtime.choose_threads("auto", hidden=512, streams=64) == runtime.available_cores()


def test_devices():
    assert runtime.choose_device("cpu") == torch.device("cpu")
    assert runtime.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="device = cuda: .* use device=cpu"):
        runtime.choose_device("cuda")


def test_prepare_seeds_and_sets_threads():
    runtime.prepare(seed=5, threads=1)
    first = torch.rand(3)
    runtime.prepare(seed=5, threads=1)
    assert torch.equal(torch.rand(3), first)
    assert torch.get_num_threads() == 1
    assert (torch.tensor([1e-40]) * 1).item() == 0  # denormals are flushed
