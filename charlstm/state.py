"""What a checkpoint keeps to resume a training, by type, read by the strict converter of the settings; the
arrays are checked, too. A field that comes later gets a default, so that every older file is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.cells.gates import is_recurrent, layer_of
from charlstm.config.convert import RequestError, convert
from charlstm.config.settings import Kernel, TrainSettings
from charlstm.config.values import Count, Nonnegative, Range
from charlstm.text.corpus import Fingerprint
from charlstm.training.progress import Progress, Since
from charlstm.training.schedule import Settling

Arrays = Mapping[str, NDArray[Any]]
Threads = Annotated[int, Range(1, 1024)]
Dtype = Literal["float32", "float64", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a training runs on: torch's device, the precision of products, processes, CPU threads of each."""

    device: str
    precision: str
    threads: Threads
    processes: Threads = 1

    def __str__(self) -> str:
        return f"{self.device}, {self.shown_threads}"

    @property
    def shown_threads(self) -> str:
        threads = f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        return threads if self.processes == 1 else f"{self.processes} processes with {threads} each"


@dataclass(frozen=True, kw_only=True)
class Provenance(Machine):
    """Versions and machine, on which the last bits depend."""

    charlstm: str
    python: str
    torch: str
    numpy: str


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Where a training stands; `seconds` spent so far, `state_dtypes` as torch calls them."""

    step: Annotated[int, Range(0, 10**12)]
    epoch: Annotated[int, Range(0, 10**9)]
    window: Count
    chars_seen: Count
    lr_factor: Annotated[float, Range(0, 1)]
    seconds: Nonnegative
    since: Since
    state_dtypes: tuple[Dtype, ...]
    settling: Settling = field(default_factory=Settling)


@dataclass(frozen=True, kw_only=True)
class Course:
    pending: Progress | None  # figures that were not dealt with to the end
    finished: bool  # the task has come to its end
    returns: Count  # of the training to a good state
    spent: Nonnegative | None = None  # seconds since the first command began; older files do not say


@dataclass(frozen=True, kw_only=True)
class Proven:
    """Of the free runs of a text: whether one was exact, the most characters right, characters written."""

    known: bool
    longest: Count
    written: Count


@dataclass(frozen=True, kw_only=True)
class MemorizeState:
    recalled_at_epoch: Count | None
    proof: Proven


@dataclass(frozen=True, kw_only=True)
class BestScore:
    """The best score of the valid part, in nats per symbol; None where there was none."""

    nats: Nonnegative | None
    step: Count
    averaged: bool


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What was measured for a language model, or follows from that."""

    precision: Kernel
    threads: Threads
    seconds_per_step: Annotated[float, Range(0, 1e9, above=True)]
    steps: Annotated[int, Range(1, 10**12)]  # an estimate, with a budget
    ahead: Annotated[int, Range(-(10**12), 10**12)] = 0  # as in `Training`
    sample: Count | None = None  # symbols of the valid part that are scored while training; older files: all


@dataclass(frozen=True, kw_only=True)
class LanguageModelState:
    best: BestScore
    since_best: Count
    decided: Decided


@dataclass(frozen=True, kw_only=True)
class CopyState:
    length: Annotated[int, Range(1, 10**9)]  # in hand
    longest: Count  # that was passed
    share: Annotated[float, Range(0, 1)]  # of symbols right in the latest examination
    before: Count = 0  # passed before the longest, with weights that are kept, too


TaskState = MemorizeState | LanguageModelState | CopyState

TASK_STATES: dict[str, type[TaskState]] = {
    "memorize": MemorizeState,
    "lm": LanguageModelState,
    "copy": CopyState,
}


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that resuming needs besides weights and arrays; `folder` is where the command was started."""

    numbers: Numbers
    driver: Course
    progress: Progress | None
    settings: TrainSettings
    data: Fingerprint
    folder: str
    provenance: Provenance
    task: TaskState


def training_state(values: Mapping[str, Any], task: str) -> TrainingState:
    """The state that JSON has. Raises ValueError, which names what is wrong, if it is none of such a task."""
    parts = dict(values)
    if not (isinstance(parts.get("settings"), dict) and isinstance(parts.get("task"), dict)):
        raise ValueError("its training has no settings or no task")
    parts["settings"] = settings = dict(parts["settings"])
    # the first files have a key on which nothing depends
    if isinstance(scored := settings.get("eval"), dict):
        settings["eval"] = {key: value for key, value in scored.items() if key != "dynamic"}
    try:
        parts["task"] = convert(TASK_STATES[task], parts["task"])  # of another type for each
        state = convert(TrainingState, parts)
    except RequestError as error:
        raise ValueError(f"its training: {'; '.join(error.problems[:3])}") from None
    if state.settings.task != task:
        raise ValueError(f"its training: settings.task = {state.settings.task}: must be {task}")
    return state


Shape = tuple[int | None, ...]


def check(arrays: Arrays, expected: Mapping[str, tuple[str, Shape]], called: str) -> None:
    """Check arrays against the types and shapes that there have to be, by name; None stands for any size.
    Raises ValueError if one, which is `called` so, is missing, surplus, another one or not finite."""
    for name in {**expected, **arrays}:
        (dtype, shape), array = expected.get(name, ("", ())), arrays.get(name)
        sizes = () if array is None else array.shape
        fits = len(sizes) == len(shape) and all(b in (None, a) for a, b in zip(sizes, shape, strict=True))
        if array is None or array.dtype.str[1:] != dtype or not fits:
            found = "missing" if array is None else f"{array.dtype} {array.shape}"
            right = f"{shape} of {np.dtype(dtype)}" if dtype else "none of this name"
            raise ValueError(f"{called.format(name)} is {found}, expected {right}")
        if not np.isfinite(array).all():
            raise ValueError(f"{called.format(name)} has a number that is not finite")


def kept_arrays(arrays: Arrays, weights: Arrays, state: TrainingState) -> dict[str, tuple[str, Shape]]:
    """Name -> type and shape, None for any size, of what a training has to keep besides its numbers: moments,
    averages, the carried state, generators, running sums."""
    model = state.settings.model
    expected: dict[str, tuple[str, Shape]] = {
        "figures/sums": ("f8", (6,)),
        "figures/wrong": ("i8", (3,)),
        "generator": ("u1", (None,)),
    }
    for k, dtype in enumerate(state.numbers.state_dtypes):
        kind = {"float64": "f8", "float16": "f2"}.get(dtype, "f4")  # NumPy has no bfloat16
        expected[f"state/{k}"] = (kind, (model.layers, None, model.width))
    shapes = {name: weight.shape for name, weight in weights.items()}
    kinds = {name.partition("/")[0] for name in arrays}
    kept = kinds & {"average", "best"}
    if isinstance(state.task, CopyState) and state.task.before:
        kept |= {"best", "best/before"}
    if state.settings.train.weight_bits:
        kept |= {"exact"}
    for kind in kept:
        expected |= {f"{kind}/{name}": ("f4", shape) for name, shape in shapes.items()}
    if "soap" in kinds:
        expected |= _of_soap(shapes, arrays)
    else:
        of_muon = [name for name in shapes if "muon" in kinds and is_recurrent(name)]
        of_adam, adam = [name for name in shapes if name not in of_muon], "muon/adam" if of_muon else "adam"
        expected |= {f"muon/momentum/{name}": ("f4", shapes[name]) for name in of_muon}
        for moment in ("first", "second"):
            expected |= {f"{adam}/{moment}/{name}": ("f4", shapes[name]) for name in of_adam}
        expected[f"{adam}/steps"] = ("f4", (len(of_adam),))
    if "scale" in arrays:
        expected["scale"] = ("f4", (2,))
    # of CUDA, and of the other processes that trained together, by their ranks
    expected |= {name: ("u1", (None,)) for name in arrays if re.fullmatch(r"generator(/cuda)?(/\d+)?", name)}
    return expected


def _of_soap(shapes: Mapping[str, tuple[int, ...]], arrays: Arrays) -> dict[str, tuple[str, Shape]]:
    """A layer's weights and biases side by side make one matrix; only short sides are rotated."""
    sides: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        rows, columns = (*shape, 1)[:2]
        joint = sides.setdefault(layer_of(name), [rows, 0])
        joint[1] += columns
    expected: dict[str, tuple[str, Shape]] = {"soap/steps": ("f4", ())}
    for layer, joint in sides.items():
        expected |= {f"soap/{moment}/{layer}": ("f4", tuple(joint)) for moment in ("first", "second")}
        for side, size in enumerate(joint):
            rotated = [f"soap/{part}{side}/{layer}" for part in ("covariance", "basis")]
            if any(name in arrays for name in rotated):
                expected |= dict.fromkeys(rotated, ("f4", (size, size)))
    return expected
