"""What can be set: the types and allowed ranges of every key of `conf/`. The values live there, not here. A
default is what a checkpoint means that is older than its key."""

from dataclasses import dataclass
from typing import Annotated, Literal

from charlstm.config.values import Duration, Range, Shares

Task = Literal["memorize", "lm", "copy"]
Cell = Literal["lstm", "gru", "rnn_tanh", "rnn_relu"]
Head = Literal["linear", "none"]
Device = Literal["auto", "cpu", "cuda"]
Loss = Literal["cross_entropy", "focal", "hardest", "mse"]
Optimizer = Literal["auto", "adamw", "soap", "muon"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Kernel = Literal["float32", "bfloat16", "float16"]  # what matrix products are computed in
Unit = Literal["char", "byte"]
Records = Literal["none", "line", "blank", "file"]
Auto = Literal["auto"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the text comes from and how it is read (`text/`)."""

    text: str | None
    path: str | None
    glob: str
    exclude: tuple[str, ...]
    url: str | None
    sha256: str | None
    encoding: str
    errors: Literal["strict", "replace", "skip"]
    force: bool
    unit: Unit
    alphabet: str | None
    min_count: Annotated[int, Range(1, 10**9)]
    records: Records
    split: Annotated[tuple[float, ...], Shares()]
    old: str | None = None


@dataclass(frozen=True, kw_only=True)
class CopyConfig:
    """What `task=copy` is about (`tasks/copying.py`)."""

    symbols: Annotated[int, Range(2, 26)] = 26


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network (`model/`); stored in every checkpoint."""

    cell: Cell
    layers: Annotated[int, Range(1, 100)]
    hidden: Annotated[int, Range(1, 65536)] | Auto
    embedding: Annotated[int, Range(0, 65536)]
    head: Head
    engine: Literal["fused", "plain"]

    @property
    def width(self) -> int:
        """Hidden units of each layer (H), which a plan has decided."""
        assert isinstance(self.hidden, int)
        return self.hidden

    def fit_vocabulary(self, size: int) -> None:
        """ValueError unless its width is decided and, without a head, is the `size` of the vocabulary (V)."""
        if self.hidden == "auto":
            raise ValueError("model.hidden = auto: works with task=lm; give a number")
        if self.head == "none" and self.hidden != size:
            raise ValueError(
                f"model.hidden = {self.hidden}: with model.head=none the hidden state is the prediction, so "
                f"it must equal the vocabulary's size, {size} (the start and end token included); "
                f"set model.hidden={size} or model.head=linear"
            )


@dataclass(frozen=True, kw_only=True)
class DropoutConfig:
    """Probabilities with which values are dropped while training (`model/torch_model.py`)."""

    input: Annotated[float, Range(0, 0.99)]
    hidden: Annotated[float, Range(0, 0.99)] | Auto
    weight: Annotated[float, Range(0, 0.99)] | Auto

    @property
    def probabilities(self) -> tuple[float, float, float]:
        """Of the input, each layer's output, the weights, which a plan has decided."""
        assert not isinstance(self.hidden, str)
        assert not isinstance(self.weight, str)
        return self.input, self.hidden, self.weight


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How it is trained (`training/`); what `auto` means says `training/recipe.py`."""

    layout: Literal["auto", "sequence", "staggered", "streams", "segments"]
    batch: Annotated[int, Range(1, 100_000)]
    accumulate: Annotated[int, Range(1, 100_000)] = 1
    window: Annotated[int, Range(1, 10**12)]
    loss: Loss | Auto
    epochs: Annotated[int, Range(1, 10**9)]
    stop_at_recall: bool
    optimizer: Optimizer = "adamw"
    lr: Annotated[float, Range(0, 100, above=True)] | Auto
    beta1: Annotated[float, Range(0, 0.999999)]
    beta2: Annotated[float, Range(0, 0.999999)]
    clip: Annotated[float, Range(0, 1e9)]
    forget_bias: Annotated[float, Range(-100, 100)] | Literal["chrono"]
    weight_decay: Annotated[float, Range(0, 1)] | Auto
    weight_bits: Annotated[int, Range(2, 24)] | None = None
    warmup: Annotated[int, Range(0, 10**9)]
    decay: Literal["auto", "none", "linear", "cosine", "loss"]
    averaging: Annotated[float, Range(0, 0.5)]
    dropout: DropoutConfig
    steps: Annotated[int, Range(1, 10**12)] | None
    budget: Annotated[str, Duration()] | Auto | None
    patience: Annotated[int, Range(1, 10**6)] | None
    on_nonfinite: Literal["skip", "stop"]
    keep: Annotated[float, Range(0, 0.9)] = 0.0
    log_every: Annotated[int, Range(1, 10**9)]
    sample_every: Annotated[int, Range(1, 10**9)]

    @property
    def peak_lr(self) -> float:
        """The learning rate at its height, which a plan has decided."""
        assert isinstance(self.lr, float)
        return self.lr


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How a language model is scored (`scoring/`)."""

    times: Annotated[int, Range(1, 10**6)]
    baselines: bool


@dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """When a run is saved, to be resumed from there (`runs/saving.py`)."""

    every: Annotated[str, Duration()] | None
    steps: Annotated[int, Range(1, 10**12)] | None
    keep: Annotated[int, Range(1, 1000)]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    task: Task
    data: DataConfig
    copy: CopyConfig = CopyConfig()
    model: ModelConfig
    train: TrainConfig
    eval: EvalConfig
    save: SaveConfig
    init: str | None = None
    resume: str | None
    resume_with_other_data: bool
    tensorboard: bool
    check: bool
    seed: Annotated[int, Range(0, 2**63 - 1)]
    device: Device
    precision: Precision
    threads: Annotated[int, Range(1, 1024)] | Auto
