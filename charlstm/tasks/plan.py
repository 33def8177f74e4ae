"""A request for a language model -> a job: everything about its training is measured, decided and said."""

from collections.abc import Iterator
from typing import Any

import torch

from charlstm.config.settings import TrainSettings
from charlstm.model.torch_model import Model
from charlstm.runs.resume import Resumed
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Ids
from charlstm.training import machine, memory, streams

UPDATES_PER_EVALUATION = 25


class Job:
    """A training that is about to begin.

    What an earlier run decided is taken over with it as far as the keys that matter are as they were: the
    same steps in the same precision on as many threads give the same weights.

    Attributes:
        config: the `train` settings, with fewer streams or shorter windows where the corpus is small.
        steps, every, evaluate_every: in all; between two figures; between two scores of the valid part.
        threads, precision, device: what is fastest here, or what was asked for.
        seconds_per_step: measured.

    Raises:
        ValueError: the machine has not what was asked for.
    """

    def __init__(self, settings: TrainSettings, dataset: Corpus, resumed: Resumed | None = None) -> None:
        self.settings, self.dataset = settings, dataset
        self.vocabulary = dataset.vocabulary
        self.config = streams.fit_corpus(settings.train, len(dataset.train))
        self.device = machine.choose_device(settings.device)
        machine.prepare(settings.seed, machine.available_cores())
        before: dict[str, Any] = dict(resumed.training["task"]["decided"]) if resumed is not None else {}
        if resumed is None or not resumed.unchanged("precision", "device"):
            before.pop("precision", None)
        self.precision = before.get("precision") or machine.choose_precision(settings.precision, self.device)
        self.model = Model(settings.model, len(self.vocabulary), self.config.dropout).to(self.device)
        self.model.add_forget_bias(self.config.forget_bias)
        if resumed is not None and resumed.unchanged("threads"):
            self.threads: int = before["threads"]
            self.seconds_per_step: float = before["seconds_per_step"]
        else:
            self.threads, self.seconds_per_step = self._fastest(settings)
        torch.set_num_threads(self.threads)
        self.steps = streams.steps_of(self.config, len(dataset.train), self.seconds_per_step)
        lengths = ("train.steps", "train.budget", "train.epochs", "train.batch", "train.window", "data.split")
        if resumed is not None and resumed.unchanged(*lengths) and not resumed.other_data:
            self.steps = before["steps"]
        evaluate_every = max(self.steps // settings.eval.times, 1)
        # the bar moves at least twice a second, and not so often that asking for figures costs anything
        self.every = max(min(evaluate_every // UPDATES_PER_EVALUATION, int(0.5 / self.seconds_per_step)), 1)
        self.evaluate_every = evaluate_every // self.every * self.every

    def decided(self) -> dict[str, Any]:
        """What was measured or follows from that, for a run that goes on from this one."""
        names = ("precision", "threads", "seconds_per_step", "steps")
        return {name: getattr(self, name) for name in names}

    @property
    def start(self) -> int | None:
        """What streams begin with; records bring start tokens of their own."""
        return self.vocabulary.start if self.settings.data.records == "none" else None

    @property
    def autocast(self) -> torch.dtype | None:
        """What the matrix products of training are computed in, if not in float32."""
        return None if self.precision == "float32" else getattr(torch, self.precision)

    def memory(self) -> int:
        """About how many bytes training takes."""
        return memory.training_bytes(
            self.settings.model, self.config, len(self.vocabulary), self.config.window
        )

    def seconds_per_evaluation(self) -> float:
        """About how long a score of the valid part takes: a third of training on it, twice with averages."""
        per_char = self.seconds_per_step / (self.config.batch * self.config.window) / 3
        return len(self.dataset.valid) * per_char * (2 if self.config.averaging else 1)

    def as_bytes(self, ids: Ids) -> bytes:
        """The text of ids, as a file has it."""
        return self.vocabulary.decode(ids).encode("utf-8", "surrogateescape")

    def _fastest(self, settings: TrainSettings) -> tuple[int, float]:
        """The number of threads that is fastest, or the one that was asked for, and what a step takes."""
        cores = machine.available_cores()
        candidates = {1, cores} if settings.threads == "auto" else {settings.threads}
        measured = {}
        for threads in candidates:
            torch.set_num_threads(threads)
            measured[threads] = streams.seconds_per_step(
                self.model, self.dataset.train, self.start, self.config, self.autocast
            )
        threads = min(measured, key=lambda n: measured[n])
        return threads, measured[threads]

    def describe(self) -> Iterator[str]:
        """What will be done, a line each."""
        data, config = self.dataset, self.config
        yield from data.describe()
        if config != self.settings.train:
            yield (
                f"The training part is small: train.batch = {config.batch} and "
                f"train.window = {config.window} in place of "
                f"{self.settings.train.batch} and {self.settings.train.window}."
            )
        yield (
            f"{self.model.describe()}; "
            f"{self.device}, {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}"
        )
        chars = config.batch * config.window
        yield (
            f"{self.steps:,} steps of {chars:,} characters, "
            f"{self.steps * chars / len(data.train):.1f} epochs, "
            f"at {chars / self.seconds_per_step:,.0f} characters/s: "
            f"about {self.steps * self.seconds_per_step / 60:.1f} minutes, evaluations not counted; "
            f"about {self.memory() / 2**20:,.0f} MiB besides PyTorch itself"
        )
        seconds = self.seconds_per_evaluation()
        if seconds * self.settings.eval.times > self.steps * self.seconds_per_step:
            yield (
                f"Scoring the valid part takes about {seconds:.0f} s, {self.settings.eval.times} times: "
                "more than the training. A smaller share in data.split or fewer eval.times would save that."
            )
