"""A bfloat16 LSTM in plain torch beside torch's own: is there a faster one for training?

    python -m benchmarks.by_hand [size=1x512] [batch=32] [seconds=20]

One product a step for input and state together, and one for the gradients of all weights after the way back,
in place of a small one at each step. Forward and backward of 64 steps on one thread, in turn, and how far the
gradients of either are from those in float32.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import arguments, describe

T, INPUTS = 64, 64
BF16 = torch.bfloat16


class Layer(torch.autograd.Function):
    """x `(T, I, B)` and W `(4H, I + H)`, in bfloat16, bias `(4H, 1)` -> h `(T, H, B)`; the state is zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, bias: Tensor) -> Tensor:
        steps, inputs, B = x.shape
        H = len(W) // 4
        read = x.new_zeros(steps + 1, inputs + H, B)  # what each step reads: x and h
        read[:steps, :inputs] = x
        gates, cells = x.new_empty(steps, 4 * H, B), torch.zeros(steps + 1, H, B)
        squashed, b = x.new_empty(steps, H, B), bias.to(BF16)
        for t in range(steps):
            torch.mm(W, read[t], out=gates[t]).add_(b)
            i, f, g, o = gates[t].split(H)
            for gate in (i, f, o):
                gate.sigmoid_()
            g.tanh_()
            torch.mul(f, cells[t], out=cells[t + 1]).add_(i * g)
            squashed[t].copy_(cells[t + 1]).tanh_()
            torch.mul(o, squashed[t], out=read[t + 1, inputs:])
        ctx.save_for_backward(read, gates, cells, squashed, W)
        return read[1:, inputs:]

    @staticmethod
    def backward(ctx: Any, from_above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        read, gates, cells, squashed, W = ctx.saved_tensors
        steps, rows, B = gates.shape
        H, inputs, turned = rows // 4, read.shape[1] - rows // 4, W.t().contiguous()
        i, f, g, o = gates.split(H, dim=1)
        # what does not depend on the way back, for all steps at once
        slopes = [
            g * i * (1 - i),
            cells[:steps].to(BF16) * f * (1 - f),
            i * (1 - g * g),
            squashed * o * (1 - o),
        ]
        slope = torch.stack(slopes, dim=1)  # (T, 4, H, B)
        to_cell = o * (1 - squashed * squashed)
        d, back = torch.empty_like(slope), gates.new_empty(steps, inputs + H, B)
        dc, dh = torch.zeros(H, B), from_above[-1]
        for t in reversed(range(steps)):
            dc.addcmul_(dh.float(), to_cell[t].float())
            torch.mul(slope[t, :3], dc.to(BF16), out=d[t, :3])
            torch.mul(slope[t, 3], dh, out=d[t, 3])
            dc.mul_(f[t])
            torch.mm(turned, d[t].view(rows, B), out=back[t])
            dh = from_above[t - 1] + back[t, inputs:]
        flat = d.view(steps, rows, B)
        of_all = flat.permute(1, 0, 2).reshape(rows, steps * B)
        weights = of_all @ read[:steps].permute(0, 2, 1).reshape(steps * B, -1)
        return back[:, :inputs], weights, flat.sum((0, 2)).float()[:, None]


def main(size: str, batch: int, seconds: int) -> None:
    """Print how near and how fast the two are."""
    print(describe())
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    layers, hidden = map(int, size.split("x"))
    nets = [torch.nn.LSTM(hidden if k else INPUTS, hidden) for k in range(layers)]
    weights = [parameter for net in nets for parameter in net.parameters()]
    x, direction = torch.randn(T, batch, INPUTS, requires_grad=True), torch.randn(T, batch, hidden)

    def fused() -> Tensor:
        y = x
        for net in nets:
            y, _ = net(y)
        return y

    def mixed() -> Tensor:
        with torch.autocast("cpu", BF16):
            return fused()

    def by_hand() -> Tensor:
        y = x.to(BF16).transpose(1, 2)
        for net in nets:
            weight_ih, weight_hh, bias_ih, bias_hh = net.parameters()
            y = Layer.apply(y, torch.cat([weight_ih, weight_hh], 1).to(BF16), (bias_ih + bias_hh)[:, None])
        return y.transpose(1, 2)

    def gradients(forward: Callable[[], Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad((forward().float() * direction).sum(), [x, *weights]))

    exact = gradients(fused)
    ways = {"torch.nn.LSTM": mixed, "plain torch": by_hand}
    times: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, forward in ways.items():
            begin = time.perf_counter()
            gradients(forward)
            times[name].append(time.perf_counter() - begin)
    print(f"LSTM of {size}, {batch} streams, {T} steps")
    for name, forward in ways.items():
        pairs = zip(gradients(forward), exact, strict=True)
        error = max(float((mine - its).norm() / its.norm()) for mine, its in pairs)
        print(
            f"{name:14} {1000 * min(times[name]):7.1f} ms, median "
            f"{1000 * statistics.median(times[name]):.1f}; gradients off by {error:.3f}"
        )
    print(f"plain torch is {min(times['torch.nn.LSTM']) / min(times['plain torch']):.2f} times as fast")


if __name__ == "__main__":
    main(*arguments(size="1x512", batch=32, seconds=20))
