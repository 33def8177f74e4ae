"""A safetensors file that nobody vouches for -> its metadata and its arrays, strictly.

    length of the header, 8 bytes | header, JSON | arrays, one after the other

The safetensors library writes our files, but its reader of bytes (`deserialize`, 0.8) copies every array: a
file of 191 MiB takes 382. It tells neither metadata nor places, and takes a name that stands twice.
"""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# JSON may take 30 times its length in memory; an alphabet of all letters of Unicode takes half of this
LONGEST_HEADER = 4 * 2**20
MOST_AXES = 32
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
DTYPES |= {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"}
DTYPES |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"}


def unpack(blob: bytes | bytearray) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The metadata, and every array by its name, as a view; of what is no such file a ValueError, TypeError,
    KeyError, AttributeError or RecursionError."""
    length = int.from_bytes(blob[:8], "little")
    start = 8 + length
    if length > LONGEST_HEADER or start > len(blob):
        raise ValueError(f"a header of {length:,} bytes")
    header = read_json(str(blob[8:start], "utf-8"))
    metadata = header.pop("__metadata__")
    arrays, spans = {}, [(0, 0)]
    for name, entry in header.items():
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), entry["shape"]
        first, last = entry["data_offsets"]
        numbers = [first, last, *shape]
        if not (type(shape) is list and len(shape) <= MOST_AXES and len(entry) == 3):
            raise ValueError(f"the array {name} has no right description")
        if not all(type(number) is int and 0 <= number <= len(blob) for number in numbers):
            raise ValueError(f"the array {name} has impossible sizes")
        if last - first != math.prod(shape) * dtype.itemsize or start + last > len(blob):
            raise ValueError(f"the array {name} is not where it should be")
        spans.append((first, last))
        arrays[name] = np.ndarray(shape, dtype, blob, start + first)
    spans.sort()
    if [last for _, last in spans] != [*(first for first, _ in spans[1:]), len(blob) - start]:
        raise ValueError("its arrays overlap or leave gaps")
    return metadata, arrays


def read_json(text: str) -> Any:
    """What a JSON text says, if it says it as `json.dumps` would with `allow_nan=False`."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            raise ValueError("JSON with a name that stands twice")
        return values

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"JSON with the number {number}")
        return value

    return json.loads(text, object_pairs_hook=distinct, parse_float=finite, parse_constant=finite)
