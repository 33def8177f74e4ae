"""How far are the cells from torch.nn? The largest difference of any number, over all cells and options.

python -m benchmarks.deviations          on the CPU
python -m benchmarks.deviations cuda     the torch cells on a GPU, against cuDNN
"""

import itertools
import sys

import torch
from torch import Tensor, nn

from benchmarks.machine import describe
from charlstm.cells import numpy_cells, torch_cells
from charlstm.cells.gates import GATES, STATE
from charlstm.training import machine

# cell, layers, bidirectional, bias, state given
GRID = list(itertools.product(GATES, (1, 2, 3), (False, True), (True, False), (True, False)))


def fused(cell: str, *sizes: int, **options: bool) -> nn.RNNBase:
    """torch.nn's module for a cell."""
    if cell == "lstm":
        return nn.LSTM(*sizes, **options)
    if cell == "gru":
        return nn.GRU(*sizes, **options)
    return nn.RNN(*sizes, nonlinearity=cell.removeprefix("rnn_"), **options)


def run(module: nn.Module, x: Tensor, state: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Output and final state; the gradients of the parameters, the input and the state."""
    leaves = [tensor.clone().requires_grad_() for tensor in (x, *state)]
    given = leaves[1] if len(leaves) == 2 else tuple(leaves[1:]) or None
    output, final = module(leaves[0], given)
    results = [output, *((final,) if isinstance(final, Tensor) else final)]
    loss = sum((result**2).sum() for result in results)
    return [r.detach() for r in results], list(torch.autograd.grad(loss, [*module.parameters(), *leaves]))


def largest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest absolute difference of two lists of tensors."""
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


def deviations(
    cell: str,
    layers: int,
    bidirectional: bool,
    bias: bool,
    given: bool,
    T: int,
    dtype: torch.dtype,
    device: str,
) -> tuple[float, float, float]:
    """Largest difference from torch.nn in NumPy's values, torch's values and torch's gradients."""
    theirs = fused(cell, 5, 9, layers, bias=bias, bidirectional=bidirectional).to(device, dtype)
    ours = torch_cells.Recurrent(cell, 5, 9, layers, bias, bidirectional).to(device, dtype)
    ours.load_state_dict(theirs.state_dict())
    oracle = numpy_cells.Recurrent(cell, {name: w.cpu().numpy() for name, w in theirs.state_dict().items()})
    x = torch.randn(T, 6, 5, dtype=dtype).to(device)
    shape = (layers * (2 if bidirectional else 1), 6, 9)
    state = tuple(torch.randn(shape, dtype=dtype).to(device) for _ in STATE[cell]) if given else ()

    expected, expected_gradients = run(theirs, x, state)
    values, gradients = run(ours, x, state)
    output, final = oracle(x.cpu().numpy(), [part.cpu().numpy() for part in state] or None)
    numpy_values = [torch.from_numpy(array).to(device) for array in (output, *final)]
    return largest(numpy_values, expected), largest(values, expected), largest(gradients, expected_gradients)


def main(device: str) -> None:
    """Print the table."""
    machine.prepare(seed=0, threads=1)
    print(torch.cuda.get_device_name() if device == "cuda" else describe())
    rows = [deviations(*case, T=7, dtype=torch.float64, device=device) for case in GRID]
    numpy_values, values, gradients = map(max, zip(*rows, strict=True))
    print(f"float64, T = 7, {len(GRID)} cases")
    print(f"  NumPy values {numpy_values:.1e}, torch values {values:.1e}, torch gradients {gradients:.1e}")
    rows = [deviations(cell, 2, False, True, True, 2000, torch.float32, device) for cell in GATES]
    numpy_values, values, _ = map(max, zip(*rows, strict=True))  # gradients add up over T: no common scale
    print(f"float32, T = 2000, 2 layers, {len(GATES)} cells")
    print(f"  NumPy values {numpy_values:.1e}, torch values {values:.1e}")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["cpu"]
    if wanted not in (["cpu"], ["cuda"]) or (wanted == ["cuda"] and not torch.cuda.is_available()):
        sys.exit(f"error: {' '.join(wanted)}: there is cpu and, with such a device, cuda")
    main(*wanted)
