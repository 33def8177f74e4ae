import os
import signal
from pathlib import Path

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


CPUS = {  # what torch or Linux says of some processors, in part
    "Haswell": ({"avx2", "fma3", "f16c"}, []),
    "Skylake server": ({"avx2", "avx512_f", "avx512_vnni", "f16c"}, []),
    "Zen 4": ({"avx512_f", "avx512_bf16"}, ["bfloat16"]),
    "Sapphire Rapids": ({"amx_tile", "amx_bf16", "avx512_fp16"}, ["bfloat16", "float16"]),
    "Raspberry Pi 4": ({"neon", "crc32"}, []),
    "Graviton 2": ({"neon", "fp16_arith", "dot"}, ["float16"]),
    "Graviton 3, by Linux": ({"asimd", "asimdhp", "bf16", "svebf16"}, ["bfloat16", "float16"]),
    "V100": ({f"cuda {n}" for n in range(8)}, ["float16"]),
    "A100": ({f"cuda {n}" for n in range(9)}, ["bfloat16", "float16"]),
}


@pytest.mark.parametrize(("capabilities", "expected"), CPUS.values(), ids=CPUS)
def test_only_what_the_hardware_has_is_tried(capabilities, expected):
    assert machine.kernels(capabilities) == ("float32", *expected)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="compares with what Linux says")
def test_the_processor_is_asked():
    here = machine.kernels(machine.capabilities(torch.device("cpu")))
    assert here == machine.kernels(Path("/proc/cpuinfo").read_text().split())


def test_precision_without_a_kernel_is_refused(monkeypatch):
    machine.check_kernel("float32", torch.device("cpu"))

    def forward(*_):
        raise RuntimeError("could not create a primitive descriptor")  # as oneDNN does

    monkeypatch.setattr(torch.nn.LSTM, "forward", forward)
    with pytest.raises(ValueError, match="precision = bfloat16: this machine has no LSTM kernel for it"):
        machine.check_kernel("bfloat16", torch.device("cpu"))


def test_prepare_seeds_and_sets_threads():
    machine.prepare(seed=5, threads=1)
    first = torch.rand(3)
    machine.prepare(seed=5, threads=1)
    assert torch.equal(torch.rand(3), first)
    assert torch.get_num_threads() == 1
    assert (torch.tensor([1e-40]) * 1).item() == 0  # denormals are flushed
