"""A request that was looked at: everything that can be wrong is found, and nothing is made yet."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from charlstm.config.settings import TrainConfig, TrainSettings
from charlstm.model.numpy_model import parameter_count
from charlstm.runs.initial import Initial
from charlstm.runs.resume import Saved
from charlstm.state import Machine
from charlstm.text.corpus import Fingerprint
from charlstm.text.vocabulary import Ids, Vocabulary
from charlstm.training import machine, recipe
from charlstm.training.clock import Clock

if TYPE_CHECKING:
    from charlstm.model.torch_model import Model


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """What a run will do. It carries all that was read and decided, so that nothing is done twice."""

    settings: TrainSettings  # as they were asked for
    config: TrainConfig  # the same with nothing left to be decided
    vocabulary: Vocabulary
    data: Fingerprint
    text_length: int  # characters that are trained on
    window: int  # the most steps that gradients flow back through
    resumed: Saved | None
    clock: Clock = field(default_factory=Clock, compare=False)
    initial: Initial | None = None  # None: a new model

    @cached_property
    def machine(self) -> Machine:
        """As was asked for, as before in a resumed run, or as is best; else ValueError. Needs torch."""
        settings = self.settings
        threads = machine.choose_threads(settings.threads, settings.model.width, self.config.batch)
        if self.resumed is not None and self.resumed.unchanged("threads"):
            threads = self.resumed.state.provenance.threads
        device = machine.choose_device(settings.device)
        return Machine(device=str(device), precision="float32", threads=threads)

    @property
    def chosen(self) -> dict[str, object]:
        """What was measured or chosen for this machine, by key: a run that is given it is the same again."""
        return {"threads": self.machine.threads}

    def describe(self) -> Iterator[str]:
        """What will be done, a line each; what has to be measured is measured. Needs torch."""
        yield from self.describe_task()
        if self.initial is not None:
            yield "; ".join(filter(None, [f"Begins with {self.initial.origin}", self.initial.missing]))
        if self.resumed is not None:
            yield f"Resumes from step {self.resumed.state.numbers.step:,} of {self.resumed.path}."
            yield from (f"  {line}" for line in self.resumed.differences(machine.versions(), self.machine))

    @abstractmethod
    def describe_task(self) -> Iterator[str]:
        """What will be learnt, by what, and for how long, a line each."""

    @property
    def parameters(self) -> int:
        return parameter_count(self.settings.model, len(self.vocabulary))

    @property
    def model(self) -> str:
        """The network in a few words."""
        model = self.settings.model
        return f"{model.cell} of {model.layers} x {model.hidden}, {self.parameters:,} parameters"

    def first_model(self, on: Machine | None = None) -> "Model":
        """The network with its first weights, on a machine, by default the chosen one, which is prepared."""
        from charlstm.model.torch_model import Model

        on = on or self.machine
        machine.prepare(self.settings.seed, on.threads)
        model = Model(self.settings.model, len(self.vocabulary), self.config.dropout).to(on.device)
        if self.initial is None:
            model.add_forget_bias(self.config.forget_bias, self.window)
        else:
            model.load_arrays(self.initial.weights)
        return model

    def kept(self, framed: bool = False) -> tuple[Ids, int] | None:
        """The old text that is trained on besides, `framed` by tokens, and in how many streams; or None."""
        old = self.initial.old if self.initial is not None else None
        if old is None or not self.config.keep:
            return None
        return old.vocabulary.framed(old.train) if framed else old.train, recipe.old_streams(self.config)
