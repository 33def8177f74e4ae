"""Checkpoints -> one self-contained HTML file: the page, its style and scripts, and the weights."""

import base64
import json
import zlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.api import Model
from charlstm.scoring import units
from charlstm.training.progress import finite

SCRIPTS = ("product", "cells", "model", "strip", "write", "read", "inside", "recurrence", "card", "main")
LARGEST = 50 << 20  # bytes of weights: with more, browsers take long to open a page, or give up


def document(models: Sequence[tuple[str, Model]], weights: str, excerpt: str) -> str:
    """The page of models side by side, by their names, with a text that they read; `weights` are float16 or
    int8. ValueError if a model is too large for a page, or its weights for float16."""
    data = json.dumps([_described(name, model, weights, excerpt) for name, model in models])  # in ASCII
    scripts = "\n".join(_part(f"{script}.js") for script in SCRIPTS)
    page = _part("page.html").replace("/* STYLE */", _part("page.css")).replace("/* SCRIPT */", scripts)
    return page.replace("/* MODELS */", data.replace("<", "\\u003c"))


def _described(name: str, model: Model, weights: str, excerpt: str) -> dict[str, Any]:
    """All that the page has to know of a model, for JSON."""
    trained, path = model.checkpoint, Path(name)
    count = sum(map(np.size, model.weights.values()))
    if count * (2 if weights == "float16" else 1) > LARGEST:
        raise ValueError(f"ckpt = {name}: {count:,} parameters in {weights} are too many for a page")
    telling: list[units.Telling] = []
    with suppress(ValueError):  # one of two models does not know all characters of the text
        seen = units.by_character(model.trace(excerpt), excerpt)
        telling = units.telling(model.config.cell, seen, excerpt)
    training, latest = trained.training, path / checkpoint.LAST
    if training is None and latest.exists():
        training = checkpoint.load(latest).training
    arrays = {name: _packed(name, array, weights) for name, array in model.weights.items()}
    text = training and (training.settings.data.text or training.settings.data.path)
    described = {"name": name, "ends": trained.ends, "excerpt": excerpt, "parameters": count, "text": text}
    described |= {"date": str(date.fromtimestamp(path.stat().st_mtime)), "stored_as": weights}
    described |= {"telling": [one._asdict() for one in telling], "weights": arrays}
    return {**finite(trained.facts()), **described}


def _packed(name: str, array: NDArray[np.float32], weights: str) -> dict[str, Any]:
    """An array for JSON: its shape, and its numbers row by row, compressed, in base64. Of float16 all low
    bytes come first, which compresses better; of int8 127 is the largest of a row; vectors are float16."""
    packed: dict[str, Any] = {"shape": array.shape}
    if weights == "int8" and array.ndim == 2:
        scales = np.maximum(np.abs(array).max(axis=1), 1e-30) / 127
        packed["scales"], blob = scales.tolist(), np.rint(array / scales[:, None]).astype(np.int8).tobytes()
    else:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"weights = {weights}: {name} has numbers beyond 65,504, float16's largest")
        blob = half.view(np.uint8).reshape(-1, 2).T.tobytes()
    return packed | {"data": base64.b64encode(zlib.compress(blob, 9)).decode()}


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
