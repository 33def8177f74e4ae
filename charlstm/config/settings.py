"""What can be set: the types and allowed ranges of every key of `conf/`. The values live there, not here.

This room imports no torch, so that a wrong request is answered at once, and each dataclass is the only
one that the part it configures ever sees.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from charlstm.config.values import Duration, Range, Shares

if TYPE_CHECKING:
    pass

Task = Literal["memorize", "lm", "copy"]
Cell = Literal["lstm", "gru", "rnn_tanh", "rnn_relu"]
Head = Literal["linear", "none"]
Engine = Literal["fused", "plain"]
Layout = Literal["auto", "sequence", "staggered", "streams", "segments"]
Device = Literal["auto", "cpu", "cuda"]
Loss = Literal["cross_entropy", "mse"]
Decay = Literal["auto", "none", "linear", "cosine", "loss"]
Optimizer = Literal["auto", "adamw", "soap"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
OnNonfinite = Literal["skip", "stop"]
Unit = Literal["char", "byte"]
Records = Literal["none", "line", "blank", "file"]


LONG_TEXT, MOST_SEGMENTS, SOAP_LR_TIMES_HIDDEN = 500, 64, 3.5


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the text comes from and how it is read (`corpus.py`, `sources.py`, `dataset.py`)."""

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

    def fit_copy(self) -> None:
        """Check for `task=copy`.

        Raises:
            ValueError: there should be a text.
        """
        usual = {"text": None, "path": None, "unit": "char", "alphabet": None, "min_count": 1}
        for key, off in (usual | {"records": "none"}).items():
            if getattr(self, key) != off:
                raise ValueError(
                    f"data.{key} = {getattr(self, key)}: task=copy draws symbols of its own; leave it out"
                )


@dataclass(frozen=True, kw_only=True)
class CopyConfig:
    """What `task=copy` is about (`copying.py`)."""

    symbols: Annotated[int, Range(2, 26)]


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
class DropoutConfig:
    """Probabilities with which values are dropped while training (`model.py`)."""

    input: Annotated[float, Range(0, 0.99)] = 0.0
    hidden: Annotated[float, Range(0, 0.99)] = 0.0
    weight: Annotated[float, Range(0, 0.99)] = 0.0

    def __bool__(self) -> bool:
        return bool(self.input or self.hidden or self.weight)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How it is trained (`batches.py`, `objective.py`, `optimizer.py`, `trainer.py`, `lm.py`)."""

    layout: Layout
    batch: Annotated[int, Range(1, 100_000)]
    window: Annotated[int, Range(1, 10_000_000)]
    loss: Loss
    epochs: Annotated[int, Range(1, 10**9)]
    stop_at_recall: bool
    optimizer: Optimizer
    lr: Annotated[float, Range(0, 100, above=True)] | Literal["auto"]
    beta1: Annotated[float, Range(0, 0.999999)]
    beta2: Annotated[float, Range(0, 0.999999)]
    clip: Annotated[float, Range(0, 1e9)]
    forget_bias: Annotated[float, Range(-100, 100)]
    weight_decay: Annotated[float, Range(0, 1)]
    warmup: Annotated[int, Range(0, 10**9)]
    decay: Decay
    averaging: Annotated[float, Range(0, 0.5)]
    dropout: DropoutConfig
    steps: Annotated[int, Range(1, 10**12)] | None
    budget: Annotated[str, Duration()] | None
    patience: Annotated[int, Range(1, 10**6)] | None
    on_nonfinite: OnNonfinite
    log_every: Annotated[int, Range(1, 10**9)]
    sample_every: Annotated[int, Range(1, 10**9)]

    def fit_lm(self) -> None:
        """Check for `task=lm`.

        Raises:
            ValueError: a value has no meaning there.
        """
        if self.layout != "streams" or self.loss != "cross_entropy":
            raise ValueError(
                f"train.layout = {self.layout}, train.loss = {self.loss}: task=lm trains parallel streams on "
                "cross-entropy; leave both keys out"
            )
        self._fit_decided()

    def fit_memorize(self) -> None:
        """Check for `task=memorize`.

        Raises:
            ValueError: a value has a meaning for `task=lm` alone.
        """
        for key, off in {"averaging": 0.0, "steps": None, "patience": None}.items():
            if getattr(self, key) != off:
                raise ValueError(f"train.{key} = {getattr(self, key)}: works with task=lm only; leave it out")

    def fit_copy(self) -> None:
        """Check for `task=copy`.

        Raises:
            ValueError: a value has no meaning there.
        """
        self.fit_memorize()
        if self.layout != "auto":
            raise ValueError(
                f"train.layout = {self.layout}: task=copy trains sequences side by side; leave it out"
            )
        self._fit_decided()

    @property
    def peak_lr(self) -> float:
        """The learning rate at its height, which `for_text` has decided."""
        assert isinstance(self.lr, float)
        return self.lr

    def for_text(self, symbols: int, hidden: int) -> "TrainConfig":
        """The same with all that is `auto` decided, for a text of `symbols` ids, the start and end token
        included, and layers of `hidden` units.

        A long text is learnt many times faster as segments side by side, for the products are larger and the
        gradients have less far to go; and by SOAP, whose best learning rate fell with the width (35 and 128
        units) as theory would have it (Yang et al. 2022, "Tensor Programs V").

        Raises:
            ValueError: the layout cannot cut that text into `batch` streams.
        """
        decided: dict[str, Any] = {}
        if self.layout == "auto":
            is_long = self.batch > 1 or symbols > LONG_TEXT
            batch = self.batch if self.batch > 1 or not is_long else min(symbols // 100, MOST_SEGMENTS)
            decided = {"layout": "segments" if is_long else "sequence", "batch": batch}
        is_long = decided.get("layout", self.layout) == "segments" and self.loss == "cross_entropy"
        if self.optimizer == "auto":
            decided["optimizer"] = "soap" if is_long else "adamw"
        is_soap = decided.get("optimizer", self.optimizer) == "soap"
        if self.lr == "auto":
            decided["lr"] = min(SOAP_LR_TIMES_HIDDEN / hidden, 0.1) if is_soap else 0.01
        if self.decay == "auto":
            decided["decay"] = "loss" if is_soap else "none"
        config = dataclasses.replace(self, **decided)
        config._fit_text(symbols)
        return config

    def longest_window(self, symbols: int) -> int:
        """The most steps that gradients flow back through, in a text of so many symbols."""
        if self.layout not in ("streams", "segments"):
            return symbols - self.batch
        longest = min(self.window, -(-(symbols - 1) // self.batch))
        # segments: an epoch of one window may be longer than a pass by the golden ratio
        return longest if self.layout == "streams" else math.ceil(1.6181 * longest)

    def _fit_decided(self) -> None:
        for key in ("optimizer", "lr", "decay"):
            value = getattr(self, key)
            if value == "auto" or (key, value) == ("decay", "loss"):
                raise ValueError(f"train.{key} = {value}: works with task=memorize only; leave it out")

    def _fit_text(self, symbols: int) -> None:
        if self.layout == "sequence" and self.batch != 1:
            raise ValueError(
                f"train.batch = {self.batch}: train.layout=sequence reads the text as one sequence, so it "
                "must be 1; or choose another layout, such as train.layout=segments"
            )
        if self.batch >= symbols:
            raise ValueError(
                f"train.batch = {self.batch}: a text of {symbols} symbols (the start and end token included) "
                f"has at most {symbols - 1} streams with something to predict; choose at most {symbols - 1}"
            )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How a language model is scored (`evaluation.py`, `baselines.py`)."""

    times: Annotated[int, Range(1, 10**6)]
    baselines: bool
    dynamic: bool


@dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """When a run is saved, to go on from there (`driver.py`, `directory.py`)."""

    every: Annotated[str, Duration()] | None
    steps: Annotated[int, Range(1, 10**12)] | None
    keep: Annotated[int, Range(1, 1000)]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """All that `train.py` takes."""

    task: Task
    data: DataConfig
    copy: CopyConfig
    model: ModelConfig
    train: TrainConfig
    eval: EvalConfig
    save: SaveConfig
    resume: str | None
    resume_with_other_data: bool
    tensorboard: bool
    check: bool
    seed: Annotated[int, Range(0, 2**63 - 1)]
    device: Device
    precision: Precision
    threads: Annotated[int, Range(1, 1024)] | Literal["auto"]
