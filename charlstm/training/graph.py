"""A step on a GPU that is started as one: a CUDA graph (the documentation of `torch.cuda.CUDAGraph`)."""

import logging
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger("charlstm")

Function = Callable[..., tuple[Tensor, ...]]

AHEAD = 2  # replays that wait for the GPU at most, so that their time is about that of the calls
EAGER = 3  # steps before one is recorded: in the first, libraries make what they keep


class Recorded:
    """A function of tensors on a GPU that does the same each time: recorded once, with all that it starts
    there, and then replayed. A step of 128 characters by 1 x 1024 units starts a thousand kernels, for which
    the GPU waits three times as long as it computes; a graph takes a single start. The results are the same,
    bit for bit, as is what the function changes in place and torch's generator.

    Tensors of other shapes than the first go through the function itself, and so do all where it cannot be
    recorded."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.shapes: list[torch.Size] = []
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.waiting = deque[torch.cuda.Event]()

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the function returns; copies that the next call leaves alone."""
        shapes = [tensor.shape for tensor in tensors]
        self.shapes = self.shapes or shapes
        if shapes == self.shapes:
            self.calls += 1
            if self.calls == EAGER + 1:
                self._record(tensors)
            if self.graph is not None:
                for mine, tensor in zip(self.inputs, tensors, strict=True):
                    mine.copy_(tensor)
                self.graph.replay()
                results = tuple(tensor.clone() for tensor in self.outputs)
                self.waiting.append(torch.cuda.current_stream().record_event())
                if len(self.waiting) > AHEAD:
                    self.waiting.popleft().synchronize()
                return results
        return self.function(*tensors)

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        self.inputs = [tensor.clone() for tensor in tensors]
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[tensors[0].device.index]
        state = generator.clone_state()
        try:
            with torch.cuda.graph(graph):
                self.outputs = self.function(*self.inputs)
        except RuntimeError as error:
            generator.graphsafe_set_state(state)  # the other one believes that it is still recorded
            log.debug(f"no step is recorded as a CUDA graph: {error}")
        else:
            self.graph = graph
