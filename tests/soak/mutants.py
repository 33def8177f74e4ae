"""Checkpoints mutated by chance: their bytes, their header, their JSON, their numbers."""

import contextlib
import json
import random
import struct
from collections.abc import Callable
from typing import Any

from tests.soak import forging

MARK = '"?here?"'  # stands in JSON for what `json` cannot write
TOKENS = [
    *(
        "null",
        "true",
        "false",
        "[]",
        "{}",
        '""',
        "0",
        "-1",
        "1",
        "2",
        "3",
        "65536",
        "65537",
        "1.0",
        "1.5",
        "-0.0",
    ),
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-400", str(2**31), str(2**63), str(2**64)),
    *("9" * 400, "9" * 4299, "9" * 5000, '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"a"', '"aa"'),
    *('"lstm"', '"gru"', '"none"', '"byte"', '"lm"', '"__proto__"', '"../../etc/passwd"', '"F32"', '"BOOL"'),
    *(
        "[[[[[[]]]]]]",
        '{"a":{"a":{"a":1}}}',
        "[1,2]",
        "[0,4]",
        "[65536,65536]",
        "[-1,-1]",
        "[0,0]",
        "'a'",
        ",",
    ),
    "",
]
HUGE = [
    lambda: "[" * 100_000 + "]" * 100_000,
    lambda: "[" * 2_000_000,
    lambda: '{"a":' * 50_000 + "1" + "}" * 50_000,
    lambda: "[" + "[]," * 1_390_000 + "[]]",
    lambda: '["🙂",' + "{}," * 1_390_000 + "{}]",
    lambda: '["🙂",' + '"é",' * 830_000 + "{}]",
    lambda: '"' + "a" * 3_000_000 + '"',
    lambda: '"' + "🙂" * 700_000 + '"',
    lambda: "{" + ",".join(f'"{k}":0' for k in range(200_000)) + "}",
    lambda: json.dumps("".join(map(chr, range(0x100, 0xD800)))),
    lambda: '"' + "a" * 9_000_000 + '"',
]
SIZES = [0, 1, 7, 8, 255, 2**20, 4 * 2**20 + 1, 100 * 2**20, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
NUMBERS = [float("nan"), float("inf"), -float("inf"), 3e38, 1e-45, -0.0]
DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "C64", "F8_E4M3", "F4", "f32", ""]

SHAPES = [[], [0], [0, 2**40], [-1, -1], [2**62, 4], [1.0], [True]]

Chance = random.Random


def flip(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """A few bits."""
    changed = bytearray(blob)
    for _ in range(chance.choice((1, 1, 2, 3, 8, 30))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwrite(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """A few bytes, by any others or by those that matter to JSON."""
    at, count = chance.randrange(len(blob)), chance.choice((1, 1, 2, 4, 8))
    new = bytes(chance.choice(b'{}[]",:\\0-9eE\x00\xff \n') for _ in range(count))
    return blob[:at] + (new if chance.random() < 0.7 else chance.randbytes(count)) + blob[at + count :]


def cut(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """The end, a piece, or a piece twice."""
    first, last = sorted(chance.randrange(len(blob) + 1) for _ in range(2))
    return chance.choice((blob[:first], blob[:first] + blob[last:], blob[:last] + blob[first:], blob + b"\0"))


def splice(chance: Chance, blob: bytes, other: bytes) -> bytes:
    """The begin of one file and the end of another."""
    if chance.random() < 0.5:
        return blob[: chance.randrange(len(blob))] + other[chance.randrange(len(other)) :]
    (metadata, entries, data), others = forging.parts(blob), forging.parts(other)
    kept = [chance.random() < 0.5 for _ in range(3)]
    mixed = [
        mine if keep else their
        for mine, their, keep in zip((metadata, entries, data), others, kept, strict=True)
    ]
    return forging.joined(*mixed)


def length(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """What the file says of the length of its header."""
    true = int.from_bytes(blob[:8], "little")
    lie = chance.choice([*SIZES, true - 1, true + 1, true + 8, len(blob), len(blob) - 8, len(blob) - 7])
    return struct.pack("<Q", lie) + blob[8:]


def entry(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """What the header says of an array."""
    metadata, entries, data = forging.parts(blob)
    name = chance.choice(list(entries))
    described = entries[name]
    begin, end = described["data_offsets"]
    lies: list[Callable[[], Any]] = [
        lambda: described.update(dtype=chance.choice(DTYPES)),
        lambda: described.update(shape=chance.choice(SHAPES)),
        lambda: described.update(shape=[1] * chance.choice((31, 32, 33, 64, 65, 1000)) + described["shape"]),
        lambda: described.update(shape=described["shape"][::-1]),
        lambda: described.update(shape=chance.choice(["", "ab", {}, None, 3])),
        lambda: described.update(data_offsets=[begin + chance.choice((-4, 4, 8)), end]),
        lambda: described.update(data_offsets=[begin, end + chance.choice((-4, 4, 2**40))]),
        lambda: described.update(data_offsets=chance.choice([[end, begin], [0, 0], [0], None, [0, 4, 8]])),
        lambda: described.update(data_offsets=chance.choice(list(entries.values()))["data_offsets"]),
        lambda: described.update(more=1),
        lambda: described.pop(chance.choice(list(described))),
        lambda: entries.pop(name),
        lambda: entries.update({chance.choice(("x", "training/x", "", "rnn.", "\ud800")): described}),
        lambda: entries.update({"x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        lambda: entries.update({name: chance.choice([None, [], "F32", 1])}),
    ]  # fmt: skip
    for lie in chance.sample(lies, chance.choice((1, 1, 1, 2))):
        with contextlib.suppress(KeyError, AttributeError, TypeError):  # of what an earlier lie took away
            lie()
    return forging.joined(metadata, entries, data)


def twice(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """One name for two arrays, or for two values."""
    start = 8 + int.from_bytes(blob[:8], "little")
    header = blob[8:start].rstrip()
    _, entries, data = forging.parts(blob)
    name = chance.choice(list(entries))
    if chance.random() < 0.5:
        more = json.dumps({name: chance.choice(list(entries.values()))}).encode()
        return forging.packed(header[:-1] + b"," + more[1:], data)
    key = chance.choice(("format", "sha256", "model", "characters", "figures"))
    return forging.packed(header.replace(b'}"},', b',\\"%s\\":1}"},' % key.encode(), 1), data)


def places(value: object) -> list[tuple[Any, Any]]:
    """Every place in nested JSON, as its container and its key there."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    found: list[tuple[Any, Any]] = [(value, key) for key in keys]
    return found + [place for container, key in found for place in places(container[key])]


def value(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """A value of the metadata or of the whole header, somewhere inside or at its root."""
    metadata, entries, data = forging.parts(blob)
    of_metadata = chance.random() < 0.8
    root = {"": metadata if of_metadata else entries}
    container, key = chance.choice(places(root)) if chance.random() < 0.98 else (root, "")
    what = chance.random()
    if what < 0.1 and isinstance(container, dict):
        container.pop(key)
    elif what < 0.2 and isinstance(container, dict):
        container[chance.choice(("x", "sha256", "", "\ud800"))] = container.pop(key)
    else:
        container[key] = MARK
    token = chance.choice(HUGE)() if chance.random() < 0.002 else chance.choice(TOKENS)
    metadata_text = json.dumps(root.get("", metadata) if of_metadata else metadata)
    if of_metadata:
        return forging.joined(metadata_text.replace(json.dumps(MARK), token), entries, data)
    whole = {"__metadata__": {"charlstm": metadata_text}}
    whole |= root[""] if isinstance(root.get(""), dict) else {"x": MARK}
    header = json.dumps(whole, separators=(",", ":")).replace(json.dumps(MARK), token)
    return forging.packed(header.encode("utf-8", "surrogatepass"), data)


def text(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """A piece of JSON where none belongs."""
    metadata, entries, data = forging.parts(blob)
    told = json.dumps(metadata)
    at = chance.randrange(len(told))
    return forging.joined(
        told[:at] + chance.choice(TOKENS) + told[at + chance.choice((0, 1, 5)) :], entries, data
    )


def weight(chance: Chance, blob: bytes, _: bytes) -> bytes:
    """A number of an array, by one that is not finite, huge or tiny."""
    start = 8 + int.from_bytes(blob[:8], "little")
    at = start + 4 * chance.randrange((len(blob) - start) // 4)
    return blob[:at] + struct.pack("<f", chance.choice(NUMBERS)) + blob[at + 4 :]


WAYS = (flip, overwrite, cut, splice, length, entry, entry, twice, value, value, value, text, weight)


def mutant(seed: int, bases: list[bytes]) -> tuple[str, bytes]:
    """The way it was made, and a file; in half of the cases with a right digest, as far as it has one."""
    chance = random.Random(seed)
    way = chance.choice(WAYS)
    blob = way(chance, chance.choice(bases), chance.choice(bases))
    right = chance.random() < 0.5
    return f"{way.__name__}{', right digest' if right else ''}", forging.sealed(blob) if right else blob
