"""One trial of `python -m charlstm limit`: model and random text -> a complete run directory -> figures."""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from charlstm import checkpoint, files
from charlstm.config import compose
from charlstm.config.settings import TrainSettings
from charlstm.config.tool_settings import LimitSettings
from charlstm.limits import capacity
from charlstm.limits.capacity import Shape, Trial
from charlstm.runs import directory, resume
from charlstm.runs.report import heard_by
from charlstm.sampling import writer
from charlstm.scoring import surprisal
from charlstm.tasks import table
from charlstm.text.vocabulary import Ids
from charlstm.training import recipe

TEXT, ROUNDED = "text.txt", "rounded.safetensors"
BITS = (16, 12, 10, 9, 8, 7, 6, 5, 4, 3)  # to which weights that know a text are rounded


class TrialError(Exception):
    """A run came to no result; has its exit code, and what was wrong is said."""


def done(
    settings: LimitSettings, shape: Shape, length: int, before_training: Callable[[], None] = lambda: None
) -> Trial:
    """The figures of this trial, of one seed; trains it unless that is done. One that was stopped is resumed.
    `before_training` is called when all is ready. Raises TrialError if training was stopped or went wrong,
    ValueError if it does not fit into memory or is damaged, OSError if its directory cannot be written."""
    path = Path(settings.out) / str(shape) / f"{length:06}_{settings.seed}"
    if _result(path) is None:
        path.mkdir(parents=True, exist_ok=True)
        with files.whole(path / TEXT) as file:
            file.write(capacity.random_text(length, settings.symbols, settings.seed).encode())
        asked = overrides(settings, shape, length, path / TEXT)
        if was_stopped := directory.holds_a_run(path):
            asked.append(f"resume={path}")
        asked, saved = resume.complete(asked)
        of_training = compose.compose("train", TrainSettings, asked)
        if not was_stopped:
            (path / "config").mkdir(exist_ok=True)  # as Hydra leaves in the run directories of `train.py`
            OmegaConf.save(OmegaConf.create(asked), path / "config" / "overrides.yaml")
            OmegaConf.save(OmegaConf.create(asdict(of_training)), path / "config" / "config.yaml")
        plan = table.plan(of_training, saved)
        before_training()
        log, terminal = logging.FileHandler(path / "train.log", encoding="utf-8"), logging.StreamHandler()
        log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        terminal.setLevel(logging.WARNING)  # what goes wrong is said on standard error, too
        with heard_by(log, terminal):
            code = table.run(plan, path).code
        if code:
            raise TrialError(code)
    return measured(path, shape, settings)


def overrides(settings: LimitSettings, shape: Shape, length: int, text: Path) -> list[str]:
    """What `train.py` is asked for, as on its command line: the same recipe for texts of any length."""
    asked = {
        "data.path": text,
        "data.alphabet": capacity.CHARACTERS[: settings.symbols],  # the same model for texts of any length
        "model.cell": shape.cell,
        "model.layers": shape.layers,
        "model.hidden": shape.hidden,
        "model.embedding": settings.model.embedding,
        "model.head": settings.model.head,
        "train.layout": "segments",
        "train.optimizer": "soap",
        "train.batch": recipe.segments(length + 2),  # the start and the end token
        "train.epochs": settings.train.epochs,
        "train.budget": settings.train.budget or "null",
        "seed": settings.seed,
        "device": settings.device,
        "threads": settings.threads,
        "tensorboard": "false",  # of a small model it would take most of the time
    }
    return [f"{key}={value}" for key, value in asked.items()]


def _result(path: Path) -> dict[str, Any] | None:
    """What `result.json` says; None where there is none, or one that a crash left empty."""
    try:
        result = json.loads((path / "result.json").read_bytes())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(result, dict) and {"params", "epochs", "train_seconds", "recalled"} <= result.keys()
    return result if is_whole else None


def measured(path: Path, shape: Shape, settings: LimitSettings) -> Trial:
    """The figures of the finished run in the directory `path`, where a model that recalled is left with the
    fewest bits a weight, too. Raises ValueError if the directory's files are damaged."""
    result = _result(path)
    assert result is not None
    trained = checkpoint.load(path / checkpoint.BEST)
    ids = trained.vocabulary.encode((path / TEXT).read_text(encoding="utf-8"))
    weight_bits = None
    if result["recalled"]:
        weight_bits, smallest = rounded_most(trained, ids)
        checkpoint.save(smallest, path / ROUNDED)
    return Trial(
        shape=shape,
        length=len(ids),
        symbols=settings.symbols,
        seed=settings.seed,
        parameters=result["params"],
        needed_bits=math.fsum(surprisal.bits(trained.model(), trained.vocabulary, ids).tolist()),
        exposures=result["epochs"],
        seconds=result["train_seconds"],
        recalled=result["recalled"],
        directory=str(path),
        weight_bits=weight_bits,
    )


def rounded_most(model: checkpoint.Checkpoint, ids: Ids) -> tuple[int | None, checkpoint.Checkpoint]:
    """The fewest of `BITS` to which the weights of a model can be rounded so that it still writes a text, ids
    `(N,)` without tokens, by heart; and the model then. None and the model itself if there are none."""
    import torch

    from charlstm.training.optimizer import rounded

    fewest, best, framed = None, model, model.vocabulary.framed(ids)
    for bits in BITS:
        weights = {name: rounded(torch.from_numpy(w), bits).numpy() for name, w in model.weights.items()}
        tried = replace(model, weights=weights, training=None, arrays={})
        if writer.recall(tried.model(), tried.vocabulary, framed) == len(framed) - 1:
            fewest, best = bits, tried
    return fewest, best
