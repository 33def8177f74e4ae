"""One training by several processes, as torchrun starts them. Imports torch when they meet, not before.

The process of rank 0 plans, logs, saves and decides; the others do what it tells them. Each has its share of
the streams and carries their states; gradients are averaged by one all-reduce of all of them, after which
every process makes the same step.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(days=7)  # a process that ends is noticed at once; one that plans may take its time
GATHERING = timedelta(minutes=5)  # so long the one that has planned waits for those that had nothing to do


# What the process of rank 0 tells the others to do.
Order = IntEnum("Order", ["END", "START", "STEP", "TAKE", "PUT_BACK", "LOAD", "SCORE"])


def check() -> None:
    """Raise ValueError if torchrun's numbers are there, but not as it sets them."""
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK") if "RANK" in os.environ else ():
        value, least = os.environ.get(name, "1"), 1 if name.endswith("SIZE") else 0
        if not (value.isdecimal() and int(value) >= least) or (name == "RANK" and rank() >= size()):
            which = f"from {least} on{', below WORLD_SIZE' if name == 'RANK' else ''}, as torchrun sets it"
            raise ValueError(f"{name} = {value}: must be a whole number {which}; unset it to train alone")


def size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def rank() -> int:
    """The number of this one."""
    return int(os.environ.get("RANK", 0)) if size() > 1 else 0


@functools.cache  # torch, too, knows one group
def together() -> "Processes | None":
    """Those that train together; None: this one trains alone."""
    return Processes() if size() > 1 else None


def on_this_machine() -> int:
    """How many of them, or of a sweep's runs, share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def have_gpus() -> bool:
    """Whether there is a GPU for each of them."""
    from torch import cuda

    return cuda.is_available() and cuda.device_count() >= on_this_machine()


def shares(streams: int, parts: int) -> list[slice]:
    """So many streams dealt out into so many parts, as evenly as can be."""
    return [slice(streams * k // parts, streams * (k + 1) // parts) for k in range(parts)]


class Processes:
    """Those that train together. Every method is a collective: all of them call it, in the same order.

    Raises ConnectionError, from any method, if another process has ended or, from the first, never came."""

    def __init__(self) -> None:
        self.size, self.rank = size(), rank()
        self.wants_to_stop = False  # a signal asked one of the others to
        self.are_met = False  # they have found each other, which the first of the methods waits for

    def tell(self, order: Order, *numbers: float) -> None:
        """What all do next, as rank 0 decides; whether another one was asked to stop is heard at once."""
        self._agree([order, *numbers])

    def hear(self, wants_to_stop: bool) -> tuple[Order, float, float]:
        """The same, by the others: the order, and two numbers that go with it."""
        order, first, second = self._agree([], wants_to_stop)
        return Order(int(order)), first, second

    def share(self, streams: int) -> slice:
        """Which of so many streams are this one's."""
        return shares(streams, self.size)[self.rank]

    def mean(self, tensors: list["Tensor"]) -> list["Tensor"]:
        """Of each over the processes: gradients, by one all-reduce."""
        import torch

        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._met() as distributed:
            distributed.all_reduce(flat)
        parts = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def give(self, value: Any) -> Any:
        """Rank 0's value, on all."""
        box = [value]
        with self._met() as distributed:
            distributed.broadcast_object_list(box)
        return box[0]

    def scatter(self, values: list[Any]) -> Any:
        """The value for each by rank, as rank 0 has them, on each."""
        box: list[Any] = [None]
        with self._met() as distributed:
            distributed.scatter_object_list(box, values or None)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """The value of each by rank, on rank 0; elsewhere it is empty."""
        values: list[Any] = [None] * self.size if self.rank == 0 else []
        with self._met() as distributed:
            distributed.gather_object(value, values or None)
        return values

    def part(self) -> None:
        """Of no further use: its threads end, which would otherwise end the process with a signal."""
        from torch import distributed

        if self.are_met:
            distributed.destroy_process_group()

    def _agree(self, said: list[float], wants_to_stop: bool = False) -> list[float]:
        import torch

        numbers = torch.zeros(4, dtype=torch.float64)  # of which one only is not zero in each place
        numbers[: len(said)] = torch.tensor(said, dtype=torch.float64)
        numbers[3] = wants_to_stop
        with self._met() as distributed:
            distributed.all_reduce(numbers)
        *said, stop = numbers.tolist()
        self.wants_to_stop = stop > 0
        return said

    @contextmanager
    def _met(self) -> Iterator[Any]:
        """Within this context they have found each other; yields `torch.distributed`."""
        from torch import cuda, distributed
        from torch.distributed.rendezvous import rendezvous

        try:
            if not self.are_met:
                if have_gpus():
                    cuda.set_device(int(os.environ["LOCAL_RANK"]))
                by = "cpu:gloo,cuda:nccl" if have_gpus() else "gloo"
                store, rank, size = next(rendezvous("env://", timeout=PATIENCE if self.rank else GATHERING))
                store.set_timeout(PATIENCE)
                distributed.init_process_group(by, timeout=PATIENCE, world_size=size, rank=rank, store=store)
                self.are_met = True
            yield distributed
        except RuntimeError as lost:
            raise ConnectionError(f"another of its {self.size} processes has ended, or never began") from lost
