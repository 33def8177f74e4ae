"""`python -m benchmarks.notebook [rounds=7]`: an epoch of the published experiment, as published and as ours.

Both train 3 LSTM layers of 35 units on the sentence's 69 steps with Adam on one thread, in turns in one
process. The published loop calls `nn.LSTM` once for each character, adds up the losses, and then goes back
through all of them; ours runs the whole sequence through the fused kernel in one call.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.machine import count, describe
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.model.torch_model import Model
from charlstm.tasks import memorize
from charlstm.training import loop, machine

PUBLISHED_EPOCHS, OUR_EPOCHS = 3, 60


def published_epochs(one_hot: torch.Tensor) -> Callable[[], None]:
    """The published loop over `one_hot (T + 1, V)`; each call is an epoch."""
    size = one_hot.shape[1]
    rnn = nn.LSTM(input_size=size, hidden_size=size, num_layers=3)
    loss_function = nn.MSELoss()
    optimizer = torch.optim.Adam(rnn.parameters(), lr=0.01)

    def epoch() -> None:
        rnn.zero_grad()
        total = torch.zeros(())
        hidden, cell = torch.zeros(3, 1, size), torch.zeros(3, 1, size)
        for j in range(len(one_hot) - 1):
            output, (hidden, cell) = rnn(one_hot[j].view(1, 1, -1), (hidden, cell))
            total = total + loss_function(output.view(-1), one_hot[j + 1])
        total.backward()
        optimizer.step()

    return epoch


def milliseconds(epoch: Callable[[], object], times: int) -> float:
    """Mean milliseconds of a call."""
    begin = time.perf_counter()
    for _ in range(times):
        epoch()
    return (time.perf_counter() - begin) / times * 1000


def main(repeats: int) -> None:
    """Print the medians over the rounds and the median of each round's ratio."""
    settings = command_line.compose("train", TrainSettings, ["experiment=notebook", "train.epochs=1000000"])
    plan = memorize.plan(settings, None)
    ids, vocabulary = plan.ids, plan.vocabulary
    machine.prepare(seed=0, threads=1)
    published = published_epochs(torch.eye(len(vocabulary))[ids.astype(int)])
    ours = loop.of_text(Model(settings.model, len(vocabulary)), ids, plan.config).figures()
    rounds = []
    for _ in range(repeats + 1):
        rounds.append(
            (milliseconds(published, PUBLISHED_EPOCHS), milliseconds(lambda: next(ours), OUR_EPOCHS))
        )
    rounds = rounds[1:]  # the first warms up
    print(describe(), "1 thread", sep=", ")
    print(f"published loop, a call a character: {statistics.median(p for p, _ in rounds):8.2f} ms an epoch")
    print(f"ours, the whole sequence in a call: {statistics.median(o for _, o in rounds):8.2f} ms an epoch")
    ratios = sorted(p / o for p, o in rounds)
    print(f"ratio: {statistics.median(ratios):.1f} (rounds: {ratios[0]:.1f} to {ratios[-1]:.1f})")


if __name__ == "__main__":
    main(count("rounds", 7))
