"""What can be set: the types and allowed ranges of every key of `conf/`. The values live there, not here.

This room imports no torch, so that a wrong request is answered at once, and each dataclass is the only
one that the part it configures ever sees.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

Cell = Literal["lstm", "gru", "rnn_tanh", "rnn_relu"]
Head = Literal["linear", "none"]
Engine = Literal["fused", "plain"]
Layout = Literal["sequence", "staggered", "streams"]
Device = Literal["auto", "cpu", "cuda"]
Loss = Literal["cross_entropy", "mse"]
Piece = Literal["char", "word", "line", "file"]
Format = Literal["text", "tsv", "json"]


@dataclass(frozen=True)
class Range:
    """Allowed values of a number: `lowest <= value <= highest`, or `lowest < value` when `above`."""

    lowest: float
    highest: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.lowest < value if self.above else self.lowest <= value) and value <= self.highest

    def __str__(self) -> str:
        lowest, highest = (f"{x:,.0f}" if x == int(x) else f"{x:g}" for x in (self.lowest, self.highest))
        return f"{'above' if self.above else 'at least'} {lowest} and at most {highest}"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the text comes from (`corpus.py`, `vocabulary.py`)."""

    text: str | None
    path: str | None
    encoding: str
    alphabet: str | None


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network (`model.py`, `numpy_model.py`); stored in every checkpoint."""

    cell: Cell
    layers: Annotated[int, Range(1, 100)]
    hidden: Annotated[int, Range(1, 65536)]
    embedding: Annotated[int, Range(0, 65536)]
    head: Head
    engine: Engine

    def fit_vocabulary(self, size: int) -> None:
        """Check against a vocabulary of `size` ids (V).

        Raises:
            ValueError: without a head the top layer's hidden state is the prediction, so H must equal V.
        """
        if self.head == "none" and self.hidden != size:
            raise ValueError(
                f"model.hidden = {self.hidden}: with model.head=none the hidden state is the prediction, so "
                f"it must equal the vocabulary's size, {size} (the start and end token included); "
                f"set model.hidden={size} or model.head=linear"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How it is trained (`batches.py`, `objective.py`, `optimizer.py`, `trainer.py`)."""

    layout: Layout
    batch: Annotated[int, Range(1, 100_000)]
    window: Annotated[int, Range(1, 10_000_000)]
    loss: Loss
    epochs: Annotated[int, Range(1, 10**9)]
    stop_at_recall: bool
    lr: Annotated[float, Range(0, 100, above=True)]
    beta1: Annotated[float, Range(0, 0.999999)]
    beta2: Annotated[float, Range(0, 0.999999)]
    clip: Annotated[float, Range(0, 1e9)]
    log_every: Annotated[int, Range(1, 10**9)]
    sample_every: Annotated[int, Range(1, 10**9)]

    def fit_text(self, symbols: int) -> None:
        """Check against a text of `symbols` ids, the start and end token included.

        Raises:
            ValueError: the layout cannot cut that text into `batch` streams.
        """
        if self.layout == "sequence" and self.batch != 1:
            raise ValueError(
                f"train.batch = {self.batch}: train.layout=sequence reads the text as one sequence, so it "
                "must be 1; or choose train.layout=staggered or train.layout=streams"
            )
        if self.batch >= symbols:
            raise ValueError(
                f"train.batch = {self.batch}: a text of {symbols} symbols (the start and end token included) "
                f"has at most {symbols - 1} streams with something to predict; choose at most {symbols - 1}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """All that `train.py` takes."""

    task: Literal["memorize"]
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    seed: Annotated[int, Range(0, 2**63 - 1)]
    device: Device
    threads: Annotated[int, Range(1, 1024)] | Literal["auto"]


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """All that `sample.py` takes."""

    ckpt: str | None
    prompt: str
    prompt_file: str | None
    unknown: Literal["error", "skip", "nearest"]
    echo: bool
    length: Annotated[int, Range(0, 10**12)] | None
    stop: str | None
    temperature: Annotated[float, Range(0, 100)] | None
    top_k: Annotated[int, Range(1, 10**9)] | None
    top_p: Annotated[float, Range(0, 1, above=True)] | None
    min_p: Annotated[float, Range(0, 1)] | None
    repetition_penalty: Annotated[float, Range(0, 1e6, above=True)]
    repetition_window: Annotated[int, Range(1, 10**9)]
    ban: str
    seed: Annotated[int, Range(0, 2**63 - 1)] | None
    samples: Annotated[int, Range(1, 10**6)]
    best_of: Annotated[int, Range(1, 10**4)]
    format: Literal["text", "json", "jsonl"]
    out: str | None
    interactive: bool


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """All that `python -m charlstm.score` takes."""

    ckpt: str | None
    path: str | None
    text: str | None
    encoding: str
    per: Piece | None
    sort: bool
    format: Format


Settings = TrainSettings | SampleSettings | ScoreSettings


def as_mapping(settings: Settings) -> dict[str, object]:
    """The same values as plain nested dictionaries, for JSON and YAML."""
    return dataclasses.asdict(settings)
