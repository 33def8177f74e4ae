"""All that the next step of a training depends on: taken out, and put back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.training.loop import Training
from charlstm.training.progress import Since
from charlstm.training.schedule import Settling

NUMBERS = ("step", "epoch", "window", "chars_seen", "lr_factor", "seconds")
"""Attributes of a `Training` that are plain numbers."""


@dataclass(frozen=True)
class Snapshot:
    """What the next step depends on, but for data and settings; copies.

    Attributes:
        weights: by the names of the model's parameters.
        arrays: moments, averages, the carried state, generators, running sums.
        numbers: the rest, as JSON knows it.
    """

    weights: dict[str, NDArray[np.float32]]
    arrays: dict[str, NDArray[Any]]
    numbers: dict[str, Any]

    def is_finite(self) -> bool:
        """Whether every number in it is."""
        return all(np.isfinite(array).all() for array in (*self.weights.values(), *self.arrays.values()))


def take(training: Training) -> Snapshot:
    """A copy of all that the next step of a training depends on."""
    optimizer, state = training.optimizer, training.state or ()
    tensors = {
        **optimizer.tensors,
        **_named(training, "average", training.average.averages if training.average else []),
        **{f"state/{k}": part for k, part in enumerate(state)},
        "figures/sums": torch.tensor(training.sums, dtype=torch.float64),
        "figures/wrong": torch.tensor(training.wrong),
        "generator": torch.get_rng_state(),
    }
    if optimizer.scale is not None:
        tensors["scale"] = torch.stack([optimizer.scale.factor, optimizer.scale.fitting])
    if training.device.type == "cuda":
        tensors["generator/cuda"] = torch.cuda.get_rng_state(training.device)
    numbers = {name: getattr(training, name) for name in NUMBERS}
    numbers |= {
        "settling": dict(vars(training.settling)),
        "since": dict(vars(training.since)),
        "state_dtypes": [str(p.dtype)[6:] for p in state],
    }
    return Snapshot(
        weights={name: array.copy() for name, array in training.model.weights().items()},
        arrays={name: _array(tensor) for name, tensor in tensors.items()},
        numbers=numbers,
    )


@torch.no_grad()
def put_back(snapshot: Snapshot, training: Training, same_place: bool = True) -> None:
    """Make a training of the same model go on from a snapshot.

    Args:
        same_place: its data are the same, and cut in the same way; otherwise the next epoch begins. What the
            snapshot has not, such as averages, stays as it is.
    """
    # in torch's own memory: kernels may round by how their operands are aligned
    arrays = {name: torch.tensor(array) for name, array in snapshot.arrays.items()}
    optimizer, average = training.optimizer, training.average
    for k, (name, parameter) in enumerate(training.model.named_parameters()):
        parameter.copy_(torch.from_numpy(snapshot.weights[name].copy()))
        if average is not None:
            average.averages[k].copy_(arrays.get(f"average/{name}", parameter))
    for name, tensor in optimizer.tensors.items():
        tensor.copy_(arrays.get(name, tensor))  # another optimiser begins anew
    if optimizer.scale is not None and "scale" in arrays:
        optimizer.scale.factor, optimizer.scale.fitting = arrays["scale"].to(training.device)
    torch.set_rng_state(arrays["generator"])
    if training.device.type == "cuda" and "generator/cuda" in arrays:
        torch.cuda.set_rng_state(arrays["generator/cuda"], training.device)
    training.sums = arrays["figures/sums"].tolist()
    training.wrong = arrays["figures/wrong"].tolist()
    for name in NUMBERS:
        setattr(training, name, snapshot.numbers[name])
    training.settling = Settling(**snapshot.numbers.get("settling", {}))
    training.since = Since(**snapshot.numbers["since"])
    dtypes = snapshot.numbers["state_dtypes"]
    state = (arrays[f"state/{k}"].to(training.device, getattr(torch, d)) for k, d in enumerate(dtypes))
    training.state = tuple(state) or None
    if not same_place:
        training.epoch += training.window > 0
        training.window, training.state = 0, None


def _named(training: Training, kind: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    names = [name for name, _ in training.model.named_parameters()]
    return {f"{kind}/{name}": tensor for name, tensor in zip(names, tensors, strict=False)}


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16; every number of it is one of float32
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
