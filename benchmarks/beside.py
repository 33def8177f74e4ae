"""Other people's recipes and ours on the same text, in the same time on the same machine.

    python -m benchmarks.beside path=book.txt [seconds=85] [only=nanoGPT]

nanoGPT with the recipe that its README has for a CPU (4 layers, 4 heads, 128 features, 64 characters of
context, batches of 12), char-rnn with its defaults (LSTM of 2 x 128, 50 characters, batches of 50, RMSProp,
dropout 0.5), and `train.py task=lm` as it stands. Trained on nine tenths of the text, scored on its last
twentieth, in nats per character: a recurrent network reads it in one stream, the transformer each character
with half a context or more before it.

A. Karpathy: nanoGPT, README.md, model.py and train.py, 2022; char-rnn, train.lua, 2015.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.machine import arguments, describe
from charlstm.files import PROJECT

SPLIT = (0.9, 0.05, 0.05)
Nats = Callable[[Tensor], float]


class Block(nn.Module):
    """Attention and two layers, each behind a layer norm and beside what it adds to."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.wide, self.back = (
            nn.Linear(width, 4 * width, bias=False),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> the same."""
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.back(F.gelu(self.wide(self.norms[1](x))))


class GPT(nn.Module):
    """Ids (B, T) -> scores (B, T, V)."""

    def __init__(self, V: int, context: int = 64, width: int = 128, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.context = context
        self.characters, self.places = nn.Embedding(V, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                narrow = math.sqrt(2 * layers) if name.endswith(("out.weight", "back.weight")) else 1
                nn.init.normal_(weight, std=0.02 / narrow)

    def forward(self, ids: Tensor) -> Tensor:
        """Of each place the scores of what comes next; the embedding is the output layer, too."""
        x = self.characters(ids) + self.places.weight[: ids.shape[1]]
        return self.norm(self.blocks(x)) @ self.characters.weight.T


class CharRNN(nn.Module):
    """Ids (B, T) and a state -> scores (B, T, V) and the state after them."""

    def __init__(self, V: int, width: int = 128, layers: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.characters = nn.Embedding.from_pretrained(torch.eye(V))
        self.rnn = nn.LSTM(V, width, layers, dropout=dropout, batch_first=True)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, V)
        for weight in (*self.rnn.parameters(), *self.head.parameters()):
            nn.init.uniform_(weight, -0.08, 0.08)

    def forward(
        self, ids: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One window of each stream."""
        read, state = self.rnn(self.characters(ids), state)
        return self.head(self.dropout(read)), state


def cross_entropy(scores: Tensor, following: Tensor, reduction: str = "mean") -> Tensor:
    """In nats."""
    return F.cross_entropy(scores.flatten(0, 1), following.flatten(), reduction=reduction)


def nanogpt(train: Tensor, V: int, seconds: float) -> tuple[nn.Module, int, Nats]:
    """The trained model, its steps, and what it says of a text."""
    model, batch, begin, step = GPT(V), 12, time.perf_counter(), 0
    groups = [
        {
            "params": [p for p in model.parameters() if (p.ndim < 2) == small],
            "weight_decay": 0 if small else 0.1,
        }
        for small in (False, True)
    ]
    optimizer, offsets = torch.optim.AdamW(groups, betas=(0.9, 0.99)), torch.arange(model.context + 1)
    while (share := (time.perf_counter() - begin) / seconds) < 1:
        step += 1
        lr = 1e-4 + 0.5 * (1 + math.cos(math.pi * share)) * 9e-4
        for group in optimizer.param_groups:
            group["lr"] = lr * min(step / 100, 1)
        windows = train[torch.randint(len(train) - model.context, (batch, 1)) + offsets]
        optimizer.zero_grad()
        cross_entropy(model(windows[:, :-1]), windows[:, 1:]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()

    def nats(text: Tensor) -> float:
        half = model.context // 2
        windows = text[: (len(text) - 1) // half * half + 1].unfold(0, model.context + 1, half)
        scores = torch.cat([model(part[:, :-1])[:, half:] for part in windows.split(256)])
        return float(cross_entropy(scores, windows[:, half + 1 :]))

    return model, step, nats


def char_rnn(train: Tensor, V: int, seconds: float) -> tuple[nn.Module, int, Nats]:
    """The trained model, its steps, and what it says of a text."""
    model, batch, window, begin, step = CharRNN(V), 50, 50, time.perf_counter(), 0
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.95)
    streams = train[: len(train) // batch * batch].view(batch, -1)
    state, at, epoch = None, 0, 0
    while time.perf_counter() - begin < seconds:
        if at + window + 1 > streams.shape[1]:
            state, at, epoch = None, 0, epoch + 1
            optimizer.param_groups[0]["lr"] *= 0.97 if epoch >= 10 else 1
        scores, (h, c) = model(streams[:, at : at + window], state)
        optimizer.zero_grad()
        cross_entropy(scores, streams[:, at + 1 : at + window + 1]).backward()
        nn.utils.clip_grad_value_(model.parameters(), 5)
        optimizer.step()
        state, at, step = (h.detach(), c.detach()), at + window, step + 1

    def nats(text: Tensor) -> float:
        return float(cross_entropy(model(text[None, :-1], None)[0], text[None, 1:]))

    return model, step, nats


def ours(path: Path, seconds: float) -> str:
    """A row of `train.py` with its defaults; the time is that of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        keys = [f"data.path={path}", f"data.split={list(SPLIT)}", f"train.budget={seconds:g}s"]
        subprocess.run(
            [sys.executable, "train.py", "task=lm", *keys, f"hydra.run.dir={folder}/run"],
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        result = json.loads(Path(folder, "run", "result.json").read_text())
    return f"{result['params']:10,} {result['steps']:7,} {result['test_nats']:7.4f}"


def main(path: str, seconds: float, only: str) -> None:
    """Print a row for each."""
    print(f"{describe()}; {path}, {seconds:g} s each\n{'':9} {'parameters':>10} {'steps':>7} {'nats':>7}")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"error: path = {path}: {error}; name a text file, such as path=book.txt")
    ids = torch.tensor(list(map(sorted(set(text)).index, text)))
    train, test = ids[: int(0.9 * len(ids))], ids[int(0.95 * len(ids)) :]
    for name, trained in {"nanoGPT": nanogpt, "char-rnn": char_rnn}.items():
        if only in ("", name):
            torch.manual_seed(0)
            model, steps, nats = trained(train, len(set(text)), seconds)
            with torch.no_grad():
                score = nats(model.eval() and test)
            size = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
            print(f"{name:9} {size:10,} {steps:7,} {score:7.4f}", flush=True)
    if only in ("", "charlstm"):
        print(f"{'charlstm':9} {ours(Path(path).resolve(), seconds)}", flush=True)


if __name__ == "__main__":
    main(*arguments(path="", seconds=85.0, only=""))
