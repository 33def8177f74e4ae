"""A checkpoint -> the same model for other programs, and a plain one of theirs -> a checkpoint; no torch."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from charlstm import __version__, checkpoint, files
from charlstm.cells.gates import GATES, STATE, gate, parameter_names, sizes_of
from charlstm.checkpoint import Checkpoint
from charlstm.config.convert import convert
from charlstm.config.settings import ModelConfig
from charlstm.text.vocabulary import Vocabulary

Arrays = dict[str, NDArray[np.float32]]
IN_ONNX = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
ORDER = {"lstm": ("input", "output", "forget", "cell"), "gru": ("update", "reset", "new")}  # of ONNX's gates
RECURRENT = re.compile(r"(weight|bias)_(ih|hh)_l\d+(_reverse)?$")
NEVER = -1e4  # a score whose probability is 0
CARD = """---
license: other # fill in: what the data allow
tags: [charlstm, character-level, {cell}]
---
# A character-level language model

A {cell} of {layers} x {hidden}, {parameters:,} parameters, made by [charlstm]({url}) {version}.
`charlstm.load` reads this folder; `config.json` has its characters, in the order of their ids, which the
start and the end token follow.

- Data: {characters:,} characters, {distinct} different ones. Fill in: what, and where they come from.
- Trained for: {task}{origin}.

| figure | value |
| --- | --- |
{figures}
"""
URL = "https://pypi.org/project/charlstm/"


def plain(trained: Checkpoint) -> Arrays:
    """The weights of a plain `nn.LSTM`, `nn.GRU` or `nn.RNN` of one-hot vectors, `rnn.*`, and of an
    `nn.Linear`, `head.*`, that compute the same: an embedding is multiplied into the first layer, and no head
    is the identity."""
    weights, V = dict(trained.weights), len(trained.vocabulary)
    table = weights.pop("embedding.weight", None)
    if table is not None:
        first = weights["rnn.weight_ih_l0"].astype(np.float64)
        weights["rnn.weight_ih_l0"] = (first @ table.T.astype(np.float64)).astype(np.float32)
    weights.setdefault("head.weight", np.eye(V, dtype=np.float32))
    weights.setdefault("head.bias", np.zeros(V, np.float32))
    return {name: np.ascontiguousarray(weight) for name, weight in weights.items()}


def described(trained: Checkpoint) -> dict[str, Any]:
    """What another program has to know of a model, for JSON."""
    known, model = trained.vocabulary, trained.config
    tokens = {"start": known.start, "end": known.end, "unknown": known.unknown}
    sizes = {"layers": model.layers, "hidden": model.width, "embedding": model.embedding, "head": model.head}
    return {"cell": model.cell, **sizes, "characters": known.characters, "unit": known.unit, **tokens}


def to_torch(trained: Checkpoint, out: Path) -> None:
    """One safetensors file; its metadata has what `described` says, each as JSON."""
    said = {key: json.dumps(value) for key, value in described(trained).items()}
    _write(out, safetensors.numpy.save(plain(trained), said))


def to_hf(trained: Checkpoint, out: Path) -> None:
    """A folder as Hugging Face's hub has them; what is left to fill in is in its model card."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ValueError(f"out = {out}: not empty; name a new folder")
    checkpoint.save(replace(trained, training=None, arrays={}), out / checkpoint.MODEL)
    origin = trained.provenance.get("init")
    figures = (
        f"| {name} | {value} |" for name, value in trained.figures.items() if isinstance(value, int | float)
    )
    card = CARD.format(
        **described(trained)
        | {"characters": trained.text_length, "distinct": len(trained.vocabulary.characters)},
        parameters=sum(weight.size for weight in trained.weights.values()),
        task=trained.task,
        origin=f", beginning with {origin}" if origin else "",
        figures="\n".join(figures),
        url=URL,
        version=__version__,
    )
    _write(out / "README.md", card.encode("utf-8", "backslashreplace"))
    config = {"model_type": "charlstm", **described(trained)}
    _write(out / "config.json", json.dumps(config, indent=2).encode() + b"\n")


def to_onnx(trained: Checkpoint, out: Path) -> None:
    """A graph: `ids (T, B)` and a state, `h` and of an LSTM `c`, `(L, B, H)` each -> `scores (T, B, V)`, and
    the state after them, `h_after` and `c_after`. Raises ValueError without the package onnx."""
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise ValueError("format = onnx: needs the package onnx; pip install 'charlstm[onnx]'") from None
    weights, model, V = plain(trained), trained.config, len(trained.vocabulary)
    kind, state = IN_ONNX[model.cell], STATE[model.cell]
    constants = {"depth": np.array([V]), "values": np.array([0, 1], np.float32), "axis": np.array([1])}
    nodes = [helper.make_node("OneHot", ["ids", "depth", "values"], ["x0"])]
    firsts = {part: [f"{part}{l}" for l in range(model.layers)] for part in state}
    for part, names in firsts.items():
        nodes.append(helper.make_node("Split", [part], names, axis=0, num_outputs=model.layers))
    more: dict[str, dict[str, Any]] = {
        "LSTM": {},
        "GRU": {"linear_before_reset": 1},
        "RNN": {"activations": [model.cell[4:].capitalize()]},
    }
    for l, names in enumerate(parameter_names(model.layers, bias=True, bidirectional=False)):
        order = ORDER.get(model.cell, GATES[model.cell])
        arrays = [
            np.concatenate([gate(weights[f"rnn.{name}"], model.cell, letter) for letter in order])[None]
            for name in names
        ]
        given = {f"W{l}": arrays[0], f"R{l}": arrays[1], f"B{l}": np.concatenate(arrays[2:], axis=1)}
        constants |= given
        inputs = [f"x{l}", *given, "", *(firsts[part][l] for part in state)]
        outputs = [f"y{l}", *(f"{part}{l}_after" for part in state)]
        nodes.append(helper.make_node(kind, inputs, outputs, hidden_size=model.width, **more[kind]))
        nodes.append(helper.make_node("Squeeze", [f"y{l}", "axis"], [f"x{l + 1}"]))
    for part in state:
        ends = [f"{part}{l}_after" for l in range(model.layers)]
        nodes.append(helper.make_node("Concat", ends, [f"{part}_after"], axis=0))
    constants |= {"head": np.ascontiguousarray(weights["head.weight"].T), "bias": weights["head.bias"]}
    nodes.append(helper.make_node("MatMul", [f"x{model.layers}", "head"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "bias"], ["scores"]))

    def tensor(name: str, shape: list[Any], dtype: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, dtype, shape)

    of_state = [model.layers, "B", model.width]
    graph = helper.make_graph(
        nodes,
        "charlstm",
        [tensor("ids", ["T", "B"], TensorProto.INT64), *(tensor(part, of_state) for part in state)],
        [tensor("scores", ["T", "B", V]), *(tensor(f"{part}_after", of_state) for part in state)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(made, {key: json.dumps(value) for key, value in described(trained).items()})
    checker.check_model(made, full_check=True)
    _write(out, made.SerializeToString())


FORMATS: dict[str, Callable[[Checkpoint, Path], None]] = {"torch": to_torch, "hf": to_hf, "onnx": to_onnx}


def take_in(path: Path, characters: str | None) -> Checkpoint:
    """The model of a safetensors file with the weights of a plain `nn.LSTM`, `nn.GRU` or `nn.RNN` (of tanh),
    an `nn.Linear` and, if need be, an `nn.Embedding`, under any names that end as torch's do. Raises
    ValueError if it is not such a file.

    Args:
        characters: in the order of their ids; None: those in the file's metadata, as `to_torch` writes them.
            Two ids more are the start and the end token. A model without them gets some: a start token whose
            input is zeros, and an end token that never comes.
    """
    arrays, said = _read(path)
    characters = said.get("characters") if characters is None else characters
    if not isinstance(characters, str):
        raise ValueError(
            "characters: missing, and the file does not say them; give them in the order of their ids"
        )
    recurrent = {found[0]: array for name, array in arrays.items() if (found := RECURRENT.search(name))}
    others = {name: array for name, array in arrays.items() if not RECURRENT.search(name)}
    try:
        rows, width = recurrent["weight_hh_l0"].shape
        cell = said.get("cell") or {4: "lstm", 3: "gru", 1: "rnn_tanh"}[rows // width]
        sizes = sizes_of(cell, {name: array.shape for name, array in recurrent.items()})
        (bias,) = (name for name in others if name.endswith("bias"))
        head = others.pop(bias.removesuffix("bias") + "weight"), others.pop(bias)
        (table,) = others.values() or [None]
        new = len(characters) + 2 - len(head[1])
        if (
            new not in (-1, 0, 2)
            or head[0].shape != (len(head[1]), width)
            or sizes.bidirectional
            or not sizes.bias
        ):
            raise ValueError(f"{head[0].shape[0]} ids for {len(characters)} characters, {sizes}")
        vocabulary = Vocabulary(characters, unknown=new < 0, unit=said.get("unit", "char"))
        inputs = recurrent["weight_ih_l0"].shape[1] if table is None else len(table)
        if inputs != len(head[1]):
            raise ValueError(f"{inputs} ids are read, {len(head[1])} are predicted")
        if new > 0:  # its tokens
            head = np.pad(head[0], ((0, new), (0, 0))), np.pad(head[1], (0, new), constant_values=NEVER)
            if table is None:
                recurrent["weight_ih_l0"] = np.pad(recurrent["weight_ih_l0"], ((0, 0), (0, new)))
            else:
                table = np.pad(table, ((0, new), (0, 0)))
        model = {
            "cell": cell,
            "layers": sizes.num_layers,
            "hidden": width,
            "head": "linear",
            "engine": "fused",
        }
        config = convert(ModelConfig, model | {"embedding": 0 if table is None else table.shape[1]})
    except (ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise ValueError(
            f"path = {path}: not an nn.LSTM and an nn.Linear of these characters: {error}"
        ) from None
    weights = {f"rnn.{name}": array for name, array in recurrent.items()}
    weights |= {} if table is None else {"embedding.weight": table}
    weights |= {"head.weight": head[0], "head.bias": head[1]}
    provenance = {"init": f"{path}, imported"}
    return Checkpoint(config, vocabulary, "lm", 0, {}, provenance, weights, records="none")


def _read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The tensors of a safetensors file, and what `to_torch` has written of them. Raises ValueError."""
    try:
        with safetensors.safe_open(path, "np") as file:
            said = file.metadata() or {}
            arrays = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
        keys = said.keys() & {"cell", "characters", "unit", "unknown"}
        return arrays, {key: json.loads(said[key]) for key in keys}
    except (OSError, ValueError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise ValueError(f"path = {path}: not a safetensors file of weights: {error}") from None


def _write(out: Path, blob: bytes) -> None:
    with files.whole(out) as file:
        file.write(blob)
