"""A process that trains with others, but not of rank 0: it does what that one tells it, and makes no file."""

import copy
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from charlstm.model.torch_model import Model, State
from charlstm.runs import snapshot
from charlstm.runs.signals import StopSignals
from charlstm.tasks.language_model import LanguageModelPlan
from charlstm.training import machine
from charlstm.training.loop import Training, of_corpus
from charlstm.training.optimizer import Average
from charlstm.training.processes import Order, Processes, shares, together
from charlstm.training.threads import Threads


def training_of(plan: LanguageModelPlan) -> Training:
    """The training that a plan describes; with dropout of its own in each of the processes."""
    config, steps, processes = plan.config, plan.decided.steps, together()
    model = plan.first_model()
    if processes is not None and processes.rank:
        torch.manual_seed(plan.settings.seed + (processes.rank << 32))
    pace, count = plan.decided.seconds_per_step, plan.machine.threads
    # with a budget the clock decides in any case how long the run is
    is_free = plan.settings.threads == "auto" and plan.clock.budget is not None and processes is None
    training = of_corpus(
        model,
        plan.corpus.train,
        plan.start_token,
        config,
        steps=steps,
        every=plan.every,
        average=Average(model.parameters(), config.averaging * steps) if config.averaging else None,
        autocast=machine.autocast(plan.machine.precision),
        seed=plan.settings.seed,
        clock=plan.clock,
        pace=pace,
        threads=Threads(count, pace) if is_free and count > 1 and plan.device.type == "cpu" else None,
        processes=processes,
        beside=plan.kept(),
    )
    training.ahead = plan.decided.ahead
    return training


def handed_out(plan: LanguageModelPlan) -> LanguageModelPlan:
    """What the other processes need of a plan, decided as it is: of the text what is trained on."""
    given, corpus = copy.copy(plan), plan.corpus  # with all that was measured
    nothing = corpus.ids[:0]
    corpus = replace(corpus, ids=nothing, valid=nothing, test=nothing)
    vars(given).update(corpus=corpus, resumed=None)
    return given


class Shared(nn.Module):
    """A model whose streams all processes read, each its share. It is called as the model is, in rank 0."""

    def __init__(self, model: Model, processes: Processes) -> None:
        super().__init__()
        self.model, self.processes = model, processes
        self.vocabulary_size = model.vocabulary_size
        self._loaded: int | None = None

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        processes, (_, streams) = self.processes, ids.shape
        if streams < processes.size:
            return cast(tuple[Tensor, State], self.model(ids, state))
        changes = sum(parameter._version for parameter in self.model.parameters())
        if changes != self._loaded:
            processes.tell(Order.LOAD)
            processes.give(self.model.state_dict())
            self._loaded = changes

        def part(share: slice) -> tuple[Tensor, State | None]:
            return ids[:, share].clone(), state and tuple(each[:, share].clone() for each in state)

        processes.tell(Order.SCORE)
        given = processes.scatter([part(share) for share in shares(streams, processes.size)])
        scores, states = zip(*processes.gather(self.model(*given)), strict=True)
        return torch.cat(scores, 1), tuple(torch.cat(parts, 1) for parts in zip(*states, strict=True))


def serve() -> None:
    """Do what the process of rank 0 says, to its last word; ConnectionError if it ends without that."""
    processes = together()
    assert processes is not None
    if processes.hear(False)[0] == Order.END:
        return
    plan: LanguageModelPlan = processes.give(None)
    training = training_of(plan)
    training.model.train()
    scored = plan.first_model().eval()
    with StopSignals(is_alone=False) as signals:
        while True:
            order, lr, weight = processes.hear(signals.received is not None)
            match order:
                case Order.END:
                    return
                case Order.STEP:
                    if training.average is not None:
                        training.average.weight = weight
                    training.make_step(lr)
                case Order.TAKE:
                    processes.gather(snapshot.share_of(training))
                case Order.PUT_BACK:
                    snapshot.put_back(None, training)
                case Order.LOAD:
                    scored.load_state_dict(processes.give(None))
                case Order.SCORE:
                    with torch.inference_mode():
                        processes.gather(scored(*processes.scatter([])))
