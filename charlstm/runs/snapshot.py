"""All that the next step of a training depends on: taken out, and put back."""

import copy
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.checkpoint import CheckpointError
from charlstm.state import Dtype, Numbers
from charlstm.training.loop import Training
from charlstm.training.processes import Order

NAMES: dict[torch.dtype, Dtype] = {getattr(torch, name): name for name in get_args(Dtype)}

OF_TRAINING = [field.name for field in fields(Numbers) if field.name != "state_dtypes"]
"""The fields of `Numbers` that are attributes of a training of the same name."""


@dataclass(frozen=True)
class Snapshot:
    """What the next step depends on, but for data and settings; copies."""

    weights: dict[str, NDArray[np.float32]]  # by the names of the model's parameters
    arrays: dict[str, NDArray[Any]]  # moments, averages, the carried state, generators, running sums
    numbers: Numbers  # the rest

    def is_finite(self) -> bool:
        """Whether every number in it is."""
        return all(np.isfinite(array).all() for array in (*self.weights.values(), *self.arrays.values()))


def take(training: Training) -> Snapshot:
    """A copy of all that the next step of a training depends on."""
    optimizer, state = training.optimizer, training.state or ()
    shares = [share_of(training)]
    if training.processes is not None:
        training.processes.tell(Order.TAKE)
        shares = training.processes.gather(shares[0])
    averages = training.average.averages if training.average else []
    tensors = {
        **optimizer.tensors,
        **{f"average/{name}": tensor for name, tensor in zip(optimizer.names, averages, strict=False)},
        "figures/sums": torch.tensor(training.sums, dtype=torch.float64),
        "figures/wrong": torch.tensor(training.wrong),
    }
    first, *others = shares
    carried = {
        name: np.concatenate([share[name] for share in shares], axis=1) if name.startswith("state") else array
        for name, array in first.items()
    }
    for rank, share in enumerate(others, 1):
        carried |= {f"{name}/{rank}": array for name, array in share.items() if name.startswith("generator")}
    return Snapshot(
        weights={name: array.copy() for name, array in training.model.weights().items()},
        arrays={name: _array(tensor) for name, tensor in tensors.items()} | carried,
        numbers=Numbers(
            **{name: copy.copy(getattr(training, name)) for name in OF_TRAINING},
            state_dtypes=tuple(NAMES[part.dtype] for part in state),
        ),
    )


def share_of(training: Training) -> dict[str, NDArray[Any]]:
    """What a process that trains with others has of its own: its streams' state, and its generators."""
    tensors = {f"state/{k}": part for k, part in enumerate(training.state or ())}
    tensors["generator"] = torch.get_rng_state()
    if training.device.type == "cuda":
        tensors["generator/cuda"] = torch.cuda.get_rng_state(training.device)
    return {name: _array(tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def put_back(snapshot: Snapshot | None, training: Training, same_place: bool = True) -> None:
    """Put a training of the same model where a snapshot was taken; what that has not, such as averages, stays
    as it is. Raises CheckpointError if an array is not the one that this training has in its place.

    `snapshot` is None in the processes that train along: they get that of rank 0. With `same_place` its data
    are the same, and cut in the same way; otherwise the epoch begins anew."""
    own, streams = "", slice(None)
    if (processes := training.processes) is not None:
        if processes.rank == 0:
            processes.tell(Order.PUT_BACK)
        snapshot, same_place = processes.give((snapshot, same_place))
        own, streams = f"/{processes.rank}" if processes.rank else "", processes.share(training.config.batch)
    assert snapshot is not None
    # in torch's own memory: kernels may round by how their operands are aligned
    arrays = {name: torch.tensor(array) for name, array in snapshot.arrays.items()}
    optimizer, average = training.optimizer, training.average
    numbers = snapshot.numbers
    if same_place and numbers.window >= len(training.windows(numbers.epoch)):
        raise CheckpointError(f"the run that is resumed is in window {numbers.window} of an epoch without it")
    named = dict(training.model.named_parameters())
    for k, (name, parameter) in enumerate(named.items()):
        parameter.copy_(torch.from_numpy(snapshot.weights[name].copy()))
        if average is not None:
            average.averages[k].copy_(arrays.get(f"average/{name}", parameter))
    for name, tensor in optimizer.tensors.items():
        # another optimiser begins anew, and weights that are rounded from now on were not before
        tensor.copy_(arrays.get(name, named.get(name.removeprefix("exact/"), tensor)))
    try:  # where there were fewer processes, this one's is a new one
        torch.set_rng_state(arrays.get(f"generator{own}", torch.get_rng_state()))
    except RuntimeError as error:
        raise CheckpointError(f"the generator of the run that is resumed: {error}") from None
    if training.device.type == "cuda" and f"generator/cuda{own}" in arrays:
        torch.cuda.set_rng_state(arrays[f"generator/cuda{own}"], training.device)
    training.sums = arrays["figures/sums"].tolist()
    training.wrong = arrays["figures/wrong"].tolist()
    for name in OF_TRAINING:
        setattr(training, name, copy.copy(getattr(numbers, name)))
    training.state = None
    if not same_place:
        training.window = 0
    elif numbers.state_dtypes:
        parts = ((arrays[f"state/{k}"], getattr(torch, name)) for k, name in enumerate(numbers.state_dtypes))
        training.state = tuple(part[:, streams].clone().to(training.device, dtype) for part, dtype in parts)


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16; every number of it is one of float32
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
