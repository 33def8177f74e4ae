"""Files, folders, pipes and checkpoints with something wrong, or only unusual, about each of them."""

import json
import os
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from conftest import settings

from charlstm import checkpoint
from charlstm.model.torch_model import Model
from charlstm.text.vocabulary import Vocabulary
from tests.soak import forging

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8
ODD_NAME = "a b, c=d 'é' \"日\" [x] {y} ${z}.txt"

TEXTS = {
    "empty": b"",
    "bom_only": b"\xef\xbb\xbf",
    "one": b"a",
    "two": b"ab",
    "same": b"a" * 300,
    "short": b"all is well that ends well. " * 8,
    "latin": b"caf\xe9 au lait, " * 20,
    "cut": "日本".encode()[:-1],
    "late": b"x" * (1 << 19) + b"caf\xe9 au lait",
    "bom": b"\xef\xbb\xbfwell, well. " + b"and so on. " * 20,
    "u16": ("well, wéll. " * 20).encode("utf-16"),
    "u16be_bom": b"\xfe\xff" + ("well, wéll. " * 20).encode("utf-16-be"),
    "u32": ("well, wéll. " * 20).encode("utf-32"),
    "u16le": ("well, well. " * 20).encode("utf-16-le"),
    "u16be": ("well, well. " * 20).encode("utf-16-be"),
    "u16odd": ("well, well. " * 20).encode("utf-16-le") + b"x",
    "cr": b"one line\rand another\r" * 10,
    "crlf": b"one line\r\nand another\r\n" * 10,
    "zeros": b"\0" * 1000,
    "few_zeros": b"name and name and name\0" * 20,
    "many_zeros": b"name and \0" * 20,
    "coloured": b"\x1b[1mbold\x1b[0m " * 30,
    "png": PNG,
    "surrogate": b"well \xed\xa0\x80 " * 20,
    "escaped": rb"well \ud800 " * 20,
    "distinct": "".join(map(chr, [*range(0xA0, 0xD800), *range(0xE000, 0x18F40)])).encode(),
    ODD_NAME: "naïve. ".encode() * 20,
}

# names that a run has for files of its own
MINE = ("config/config.yaml", "train.log", "multirun.yaml", "0/config/config.yaml", "limit.json", "1.txt")


def make(folder: Path) -> Path:
    """All of them, in a folder that is given back."""
    for name, blob in TEXTS.items():
        (folder / name).write_bytes(blob)
    (folder / "closed").write_text("well")
    (folder / "closed").chmod(0)
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    for name, blobs in {"none": [], "mixed": [b"well. " * 40, b"caf\xe9. ", PNG]}.items():
        (folder / name).mkdir()
        for n, blob in enumerate(blobs):
            (folder / name / f"{n}.txt").write_bytes(blob)
    os.mkfifo(folder / "pipe")
    for name in ("result.json", "best.safetensors", "0/result.json", "kept.txt"):
        path = folder / f"used_by_{name.replace('/', '_')}" / name
        path.parent.mkdir(parents=True)
        path.write_text("not to be lost")
    for name in MINE:
        (folder / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mine" / name).write_text("not to be lost")
    _checkpoints(folder)
    return folder


def forge(path: Path, metadata: dict[str, object], weights: dict[str, np.ndarray]) -> None:
    """A file with a right SHA-256 over wrong content."""
    text = json.dumps({"format": metadata["format"], "sha256": "0" * 64} | metadata)
    path.write_bytes(forging.sealed(safetensors.numpy.save(weights, {"charlstm": text})))


def _checkpoints(folder: Path) -> None:
    torch.manual_seed(0)
    config = settings("model.layers=1", "model.hidden=3").model
    weights = Model(config, 9).weights()
    model = {"model": asdict(config), "characters": "abcdefg", "figures": {}, "provenance": {}}
    good = {"format": 1, "task": "memorize", "text_length": 12} | model
    checkpoint.save(
        checkpoint.Checkpoint(config, Vocabulary("abcdefg"), "memorize", 12, {}, {}, weights), folder / "good"
    )
    blob = (folder / "good").read_bytes()
    for name, content in {
        "half": blob[: len(blob) // 2],
        "flipped": blob[:-1] + bytes([blob[-1] ^ 1]),
        "json": json.dumps(good).encode(),
        "plain": safetensors.numpy.save(weights),
        "huge_header": struct.pack("<Q", 2**60) + b"{}",
    }.items():
        (folder / name).write_bytes(content)
    forge(folder / "newer", good | {"format": 2}, weights)
    other = good | {"model": asdict(config) | {"cell": "gru"}}
    forge(folder / "other_cell", other, weights)
    forge(folder / "other_size", good | {"model": asdict(config) | {"hidden": 4}}, weights)
    forge(folder / "no_characters", good | {"characters": ""}, weights)
    forge(folder / "no_weights", good, {})
