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
from charlstm.cells.gates import GATES, STATE, gate, parameter_names
from charlstm.checkpoint import Checkpoint
from charlstm.config.settings import ModelConfig
from charlstm.model.numpy_model import NumpyModel
from charlstm.text.vocabulary import Vocabulary

Arrays = dict[str, NDArray[np.float32]]
IN_ONNX: dict[str, tuple[str, dict[str, Any]]] = {  # operator and attributes
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "rnn_tanh": ("RNN", {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
}
ORDER = {"lstm": ("input", "output", "forget", "cell"), "gru": ("update", "reset", "new")}  # of ONNX's gates
RECURRENT = re.compile(r"(weight|bias)_(ih|hh)_l\d+(_reverse)?$")
NEVER = -1e4  # a score whose probability is 0


def plain(trained: Checkpoint) -> Arrays:
    """The weights of a plain `nn.LSTM`, `nn.GRU` or `nn.RNN` of one-hot vectors, `rnn.*`, and `nn.Linear`,
    `head.*`, that compute the same: an embedding is multiplied into layer 0, no head is the identity."""
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
    _write(out / "README.md", _card(trained).encode("utf-8", "backslashreplace"))
    config = {"model_type": "charlstm", **described(trained)}
    _write(out / "config.json", json.dumps(config, indent=2).encode() + b"\n")


def _card(trained: Checkpoint) -> str:
    """A model card in the form of Hugging Face's, https://huggingface.co/docs/hub/model-cards."""
    model, size = trained.config, sum(weight.size for weight in trained.weights.values())
    network = f"{model.cell} of {model.layers} x {model.hidden}, {size:,} parameters"
    data = f"{trained.text_length:,} characters, {len(trained.vocabulary.characters)} different ones"
    origin = trained.provenance.get("init")
    beginning = f", beginning with {origin}" if origin else ""
    numbers = {name: value for name, value in trained.figures.items() if isinstance(value, int | float)}
    figures = "\n".join(f"| {name} | {value} |" for name, value in numbers.items())
    return f"""---
license: other # fill in: what the data allow
tags: [charlstm, character-level, {model.cell}]
---
# A character-level language model

A {network}, made by charlstm {__version__}.
`charlstm.load` reads this folder; `config.json` has its characters, in the order of their ids, which the
start and the end token follow.

- Data: {data}. Fill in: what, and where they come from.
- Trained for: {trained.task}{beginning}.

| figure | value |
| --- | --- |
{figures}
"""


def to_onnx(trained: Checkpoint, out: Path) -> None:
    """A graph: `ids (T, B)` and a state, `h` and of an LSTM `c`, `(L, B, H)` each -> `scores (T, B, V)`, and
    the state after them, `h_after` and `c_after`. Raises ValueError without the package onnx."""
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise ValueError("format = onnx: needs the package onnx; pip install 'charlstm[onnx]'") from None
    weights, model, V = plain(trained), trained.config, len(trained.vocabulary)
    (operator, attributes), state = IN_ONNX[model.cell], STATE[model.cell]
    constants = {"depth": np.array([V]), "values": np.array([0, 1], np.float32), "axis": np.array([1])}
    nodes = [helper.make_node("OneHot", ["ids", "depth", "values"], ["x0"])]
    for part in state:
        each = [f"{part}{l}" for l in range(model.layers)]
        nodes.append(helper.make_node("Split", [part], each, axis=0, num_outputs=model.layers))
    order = ORDER.get(model.cell, GATES[model.cell])
    for l, names in enumerate(parameter_names(model.layers, bias=True, bidirectional=False)):
        arrays = [
            np.concatenate([gate(weights[f"rnn.{name}"], model.cell, letter) for letter in order])[None]
            for name in names
        ]
        given = {f"W{l}": arrays[0], f"R{l}": arrays[1], f"B{l}": np.concatenate(arrays[2:], axis=1)}
        constants |= given
        inputs = [f"x{l}", *given, "", *(f"{part}{l}" for part in state)]
        outputs = [f"y{l}", *(f"{part}{l}_after" for part in state)]
        nodes.append(helper.make_node(operator, inputs, outputs, hidden_size=model.width, **attributes))
        nodes.append(helper.make_node("Squeeze", [f"y{l}", "axis"], [f"x{l + 1}"]))
    for part in state:
        each = [f"{part}{l}_after" for l in range(model.layers)]
        nodes.append(helper.make_node("Concat", each, [f"{part}_after"], axis=0))
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

    The characters are in the order of their ids; None: those in the file's metadata, as `to_torch` writes
    them. Two ids more are the start and the end token. A model without them gets some: a start token whose
    input is zeros, and an end token that never comes."""
    arrays, said = _read(path)
    characters = said.get("characters") if characters is None else characters
    if not isinstance(characters, str):
        raise ValueError("characters: missing, in the file as well; give them in the order of their ids")
    recurrent = {found[0]: array for name, array in arrays.items() if (found := RECURRENT.search(name))}
    others = {name: array for name, array in arrays.items() if not RECURRENT.search(name)}
    weights = {f"rnn.{name}": array for name, array in recurrent.items()}
    try:
        rows, width = recurrent["weight_hh_l0"].shape
        (bias,) = (name for name in others if name.endswith("bias"))
        weights["head.weight"] = others.pop(bias.removesuffix("bias") + "weight")
        weights["head.bias"] = others.pop(bias)
        if others:
            (weights["embedding.weight"],) = others.values()
        ids = len(weights["head.bias"])
        if ids == len(characters):
            weights = _with_tokens(weights)
        cell: Any = said.get("cell") or {4: "lstm", 3: "gru", 1: "rnn_tanh"}[rows // width]
        vocabulary = Vocabulary(characters, unknown=ids > len(characters) + 2, unit=said.get("unit", "char"))
        config = ModelConfig(
            cell=cell,
            layers=sum(name.startswith("weight_hh") for name in recurrent),
            hidden=width,
            embedding=weights["embedding.weight"].shape[1] if others else 0,
            head="linear",
            engine="fused",
        )
        if NumpyModel(config, weights).vocabulary_size != len(vocabulary):  # which looks at all shapes
            raise ValueError(f"{ids} ids for {len(characters)} characters")
    except (ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise ValueError(
            f"path = {path}: not an nn.LSTM and an nn.Linear of these characters: {error}"
        ) from None
    return Checkpoint(config, vocabulary, "lm", 0, {}, {"init": f"{path}, imported"}, weights, records="none")


def _with_tokens(weights: Arrays) -> Arrays:
    """The weights of a model with a start token more, whose input is zeros, and an end token."""
    more = {"head.weight": np.pad(weights["head.weight"], ((0, 2), (0, 0)))}
    more["head.bias"] = np.pad(weights["head.bias"], (0, 2), constant_values=NEVER)
    if "embedding.weight" in weights:
        more["embedding.weight"] = np.pad(weights["embedding.weight"], ((0, 2), (0, 0)))
    else:
        more["rnn.weight_ih_l0"] = np.pad(weights["rnn.weight_ih_l0"], ((0, 0), (0, 2)))
    return weights | more


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
