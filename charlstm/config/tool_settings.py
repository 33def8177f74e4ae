"""What can be set of the other commands, as in `settings.py`: all that each takes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from charlstm.config.settings import Cell, Device, Head, Records
from charlstm.config.values import Duration, Range


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    ckpt: str | None
    prompt: str
    prompt_file: str | None
    each: Literal["line"] | None
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
class ReadingSettings:
    """A model and a text that it reads, as `score`, `look` and `page` take them."""

    ckpt: str | None
    path: str | None
    text: str | None
    encoding: str


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(ReadingSettings):
    records: Records | None
    per: Literal["char", "word", "line", "file"] | None
    sort: bool
    format: Literal["text", "tsv", "json"]


@dataclass(frozen=True, kw_only=True)
class PageSettings(ReadingSettings):
    length: Annotated[int, Range(1, 100_000)]
    weights: Literal["float16", "int8"]
    out: str


@dataclass(frozen=True, kw_only=True)
class LookSettings(ReadingSettings):
    length: Annotated[int, Range(1, 100_000)]
    unit: Annotated[int, Range(0, 65535)] | None
    layer: Annotated[int, Range(0, 99)]
    gate: Literal["cell", "hidden", "input", "forget", "new", "output", "reset", "update"] | None
    at: Annotated[int, Range(0, 100_000)] | None


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    ckpt: str | None
    format: Literal["torch", "hf", "onnx"]
    out: str | None


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    path: str | None
    characters: str | None
    out: str | None


@dataclass(frozen=True, kw_only=True)
class RunsSettings:
    path: str | None


@dataclass(frozen=True, kw_only=True)
class LimitModelConfig:
    """The models of which `python -m charlstm limit` finds the limit: all combinations."""

    cell: tuple[Cell, ...]
    layers: tuple[Annotated[int, Range(1, 100)], ...]
    hidden: tuple[Annotated[int, Range(1, 65536)], ...]
    embedding: Annotated[int, Range(0, 65536)]
    head: Head


@dataclass(frozen=True, kw_only=True)
class LimitTrainConfig:
    epochs: Annotated[int, Range(1, 10**9)]
    budget: Annotated[str, Duration()] | None


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    model: LimitModelConfig
    train: LimitTrainConfig
    symbols: Annotated[int, Range(2, 1000)]
    start: Annotated[int, Range(1, 10**8)] | None
    precision: Annotated[float, Range(1, 2)]
    seeds: Annotated[int, Range(1, 100)]
    seed: Annotated[int, Range(0, 2**62)]
    device: Device
    threads: Annotated[int, Range(1, 1024)] | Literal["auto"]
    out: str
