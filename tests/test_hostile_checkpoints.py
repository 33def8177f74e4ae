"""Files made to do harm, all with a right digest, and paths that are no files."""

import json
import os
import signal
import socket
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm import checkpoint, files, tensors
from charlstm.checkpoint import CheckpointError
from tests.soak import forging, mutants

GOOD = forging.written(forging.made(3, training=True))


def parse(blob):
    return checkpoint.parse(blob, Path("c"))


def refused(blob):
    """Why a file is refused that has a right digest."""
    with pytest.raises(CheckpointError) as caught:
        parse(forging.sealed(blob))
    said = str(caught.value)
    assert said.startswith("c: its content does not fit together: "), said
    assert said.endswith("; use another copy or train again")
    assert len(said) < 700
    said.encode()
    return said


def test_the_good_one_is_good():
    assert forging.sealed(forging.joined(*forging.parts(GOOD))) != GOOD  # another order of the header
    assert forging.same(
        parse(forging.sealed(forging.joined(*forging.parts(GOOD)))), forging.made(3, training=True)
    )


BIAS = {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]}
MODEL = {"cell": "lstm", "layers": 1, "hidden": 3, "embedding": 0, "head": "linear", "engine": "fused"}
METADATA = {
    "model": {
        "hidden = 65536": (MODEL | {"hidden": 65536}, r"expected \(262144, 9\)"),
        "100 layers of 65536": (MODEL | {"hidden": 65536, "layers": 100}, "expected"),
        "another cell": (MODEL | {"cell": "gru"}, "expected"),
        "a cell that is none": (MODEL | {"cell": "x"}, "cell"),
        "a cell that is a list": (MODEL | {"cell": ["lstm"]}, "cell"),
        "hidden of 4000 digits": (MODEL | {"hidden": 10**4000}, "too long"),
        "hidden that is true": (MODEL | {"hidden": True}, "whole number"),
        "a key too many": (MODEL | {"x": 1}, "x: no such key"),
        "a key too few": ({k: v for k, v in MODEL.items() if k != "head"}, "model.head: missing"),
        "no head, other size": (MODEL | {"head": "none"}, "hidden"),
        "an embedding": (MODEL | {"embedding": 2}, "expected"),
        "no group": ([], "model = "),
    },
    "characters": {
        "millions": ("".join(map(chr, range(0x10000, 0x30000))), "expected"),
        "none": ("", "empty"),
        "twice": ("aabcdef", "twice"),
        "a number": (7, "text"),
        "a lone surrogate": ("abcdef\ud800", "surrogates"),
    },
    "unit": {"none": (None, "unit"), "word": ("word", "unit"), "bytes beyond 255": ("byte", "no byte")},
    "unknown": {"a token too many": (True, "expected"), "no truth": (0, "unknown")},
    "text_length": {
        "negative": (-1, "text_length"),
        "a text": ("7", "text_length"),
        "a fraction": (0.5, "text_length"),
        "4000 digits": (10**4000, "too long"),
    },
    "task": {"another": ("translate", "task"), "null": (None, "task")},
    "figures": {"a list": ([], "figures"), "null": (None, "figures"), "a number": (1, "figures")},
    "provenance": {"a text": ("", "provenance")},
    "training": {"a list": ([], "training"), "none, but arrays": (None, "no training")},
}


@pytest.mark.parametrize(("key", "case"), [(key, case) for key, cases in METADATA.items() for case in cases])
def test_wrong_metadata(key, case):
    value, reason = METADATA[key][case]
    metadata, entries, data = forging.parts(GOOD)
    assert reason.replace("\\", "") in refused(forging.joined(metadata | {key: value}, entries, data))


@pytest.mark.parametrize("key", ["task", "model", "characters", "text_length", "figures", "provenance"])
def test_missing_metadata(key):
    metadata, entries, data = forging.parts(GOOD)
    del metadata[key]
    assert key in refused(forging.joined(metadata, entries, data))


ENTRIES = {
    "overlapping": ({"data_offsets": [4, 52]}, "overlap or leave gaps"),
    "the same place twice": ({"data_offsets": [48, 96]}, "overlap or leave gaps"),
    "beyond the end": ({"data_offsets": [10**6, 10**6 + 48]}, "impossible sizes"),
    "negative": ({"data_offsets": [-48, 0]}, "impossible sizes"),
    "backwards": ({"data_offsets": [48, 0]}, "not where it should be"),
    "of 2**70": ({"data_offsets": [2**70, 2**70 + 48]}, "impossible sizes"),
    "no numbers": ({"data_offsets": ["0", "48"]}, "impossible sizes"),
    "one number": ({"data_offsets": [0]}, "unpack"),
    "a larger shape": ({"shape": [13]}, "not where it should be"),
    "a huge shape": ({"shape": [2**62, 4]}, "impossible sizes"),
    "a negative shape": ({"shape": [-1]}, "impossible sizes"),
    "a product of negatives": ({"shape": [-4, -3]}, "impossible sizes"),
    "a shape that is a text": ({"shape": ""}, "no right description"),
    "a thousand axes": ({"shape": [1] * 1000 + [12]}, "no right description"),
    "other axes": ({"shape": [3, 4]}, "expected (12,)"),
    "another dtype": ({"dtype": "I32"}, "is int32 (12,)"),
    "a longer dtype": ({"dtype": "F64"}, "not where it should be"),
    "an unknown dtype": ({"dtype": "BF16"}, "KeyError('BF16')"),
    "a dtype that is a list": ({"dtype": []}, "TypeError"),
    "one fact too many": ({"more": 1}, "no right description"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_wrong_descriptions_of_arrays(case):
    metadata, entries, data = forging.parts(GOOD)
    (name,) = (name for name, entry in entries.items() if name == "rnn.bias_hh_l0")
    described, reason = ENTRIES[case]
    begin = entries[name]["data_offsets"][0]
    if case in ("overlapping", "a longer dtype"):
        described = {k: [n + begin for n in v] if k == "data_offsets" else v for k, v in described.items()}
    entries[name] |= described
    assert reason in refused(forging.joined(metadata, entries, data))


def test_arrays_too_many_too_few_and_twice():
    metadata, entries, data = forging.parts(GOOD)
    more = {"x": {"dtype": "U8", "shape": [4], "data_offsets": [len(data), len(data) + 4]}}
    assert "the weight x is uint8 (4,), expected none" in refused(
        forging.joined(metadata, entries | more, data + b"1234")
    )
    assert "overlap or leave gaps" in refused(forging.joined(metadata, entries, data + b"1234"))
    fewer = {name: entry for name, entry in entries.items() if name != "rnn.bias_hh_l0"}
    assert "overlap or leave gaps" in refused(forging.joined(metadata, fewer, data))
    renamed = fewer | {"training/x": entries["rnn.bias_hh_l0"]}
    assert "rnn.bias_hh_l0 is missing" in refused(forging.joined(metadata, renamed, data))
    assert "is missing" in refused(forging.joined(metadata, {}, b""))
    start = 8 + int.from_bytes(GOOD[:8], "little")
    again = b"," + json.dumps({"head.bias": entries["head.bias"]}).encode()[1:]
    assert "twice" in refused(forging.packed(GOOD[8:start].rstrip()[:-1] + again, data))


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("NaN", "the number NaN"),
        ("-Infinity", "the number -Infinity"),
        ("1e999", "the number 1e999"),
        ("9" * 5000, "digits"),
        ("[" * 100_000 + "]" * 100_000, "RecursionError"),
        ('{"a":' * 100_000, "RecursionError"),
        ('{"a": 1, "a": 2}', "twice"),
        ("", "Expecting value"),
    ],
)
@pytest.mark.parametrize("key", ["figures", "training", "text_length"])
def test_json_that_json_dumps_never_wrote(key, token, reason):
    metadata, entries, data = forging.parts(GOOD)
    text = json.dumps(metadata | {key: "?here?"}).replace('"?here?"', token)
    assert reason in refused(forging.joined(text, entries, data))
    if key == "figures" and reason != "Expecting value":  # the same in the header itself
        header = forging.joined(metadata, entries | {"x": "?here?"}, b"")[8:].replace(
            b'"?here?"', token.encode()
        )
        assert reason in refused(forging.packed(header, data))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(number):
    _, entries, data = forging.parts(GOOD)
    at = len(GOOD) - len(data) + entries["rnn.weight_hh_l0"]["data_offsets"][0] + 40
    said = refused(GOOD[:at] + np.float32(number).tobytes() + GOOD[at + 4 :])
    assert "rnn.weight_hh_l0 has a number that is not finite" in said


def test_only_the_path_of_a_text_may_be_no_text():
    metadata, entries, data = forging.parts(GOOD)
    assert "surrogates" in refused(forging.joined(metadata | {"figures": {"a": "\ud800"}}, entries, data))
    metadata["training"]["settings"]["data"]["path"] = "\udce9"
    loaded = parse(forging.sealed(forging.joined(metadata, entries, data)))
    assert loaded.training.settings.data.path == "\udce9"


@pytest.mark.parametrize("length", [0, 1, 8, 100, 2**22 + 1, 2**31, 2**63, 2**64 - 1])
def test_lies_about_the_header(length):
    refused(length.to_bytes(8, "little") + GOOD[8:])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@settings(deadline=None)  # it counts what other processes take, too
@given(st.data())
def test_any_json_anywhere_loads_or_is_refused(data):
    metadata, entries, arrays = forging.parts(GOOD)
    root = {"metadata": metadata, "entries": entries}
    container, key = data.draw(st.sampled_from(mutants.places(root)[2:]))
    container[key] = data.draw(JSON)
    try:
        loaded = parse(forging.sealed(forging.joined(metadata, entries, arrays)))
    except CheckpointError:
        return
    assert loaded.weights.keys() == forging.made(3).weights.keys()


@settings(deadline=None)  # it counts what other processes take, too
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content):
    for blob in (content, forging.sealed(GOOD[:200] + content)):
        with pytest.raises(CheckpointError):
            parse(blob)


def test_nothing_is_read_before_the_digest_is_right(monkeypatch):
    def never(*_, **__):
        raise AssertionError("too early")

    monkeypatch.setattr(tensors.json, "loads", never)
    flipped = bytearray(GOOD)
    flipped[-1] ^= 1
    newer = GOOD.replace(b'\\"format\\": 1', b'\\"format\\": 2')
    for blob in (flipped, newer):
        with pytest.raises(CheckpointError, match="its SHA-256 does not match"):
            parse(blob)
    with pytest.raises(CheckpointError, match="format 2, this charlstm reads 1; upgrade charlstm"):
        parse(forging.sealed(newer))


# --- memory -------------------------------------------------------------------------------------------


def peak(function, *given):
    """The most memory that it took, in bytes, and what it returned."""
    tracemalloc.start()
    try:
        found = function(*given)
        return tracemalloc.get_traced_memory()[1], found
    finally:
        tracemalloc.stop()


def test_loading_takes_the_file_and_a_quarter_of_its_largest_array(tmp_path):
    path = tmp_path / "c"
    checkpoint.save(forging.made(hidden=700), path)
    size = path.stat().st_size
    most, loaded = peak(checkpoint.load, path)
    assert most < 1.25 * size + 2e6, (most, size)  # 2 MB: what is imported and compiled on the way
    buffers = {id(array.base) for array in loaded.weights.values()}
    assert len(buffers) == 1


@pytest.mark.parametrize("content", ["[" + "[]," * 1_390_000 + "[]]", '["🙂",' + "{}," * 1_390_000 + "{}]"])
def test_json_that_takes_much_memory(content):
    metadata, entries, data = forging.parts(GOOD)
    text = json.dumps(metadata | {"figures": "?here?"}).replace('"?here?"', content)
    blob = forging.sealed(forging.joined(text, entries, data))
    most, _ = peak(refused, blob)
    assert most < 4 * len(blob) + 200e6


# --- no files -----------------------------------------------------------------------------------------


def said_of(path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "; " in said
    return said


@pytest.fixture
def at_once():
    """A test that would wait for ever fails instead."""

    def waited(*_):
        raise AssertionError("waited for 20 seconds")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("at_once")
def test_pipes_devices_sockets_and_folders_are_answered_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        assert "a pipe or a device, not a file" in said_of(path)
    assert "cannot be read" in said_of(tmp_path / "socket")
    bound.close()
    (tmp_path / checkpoint.BEST).mkdir()
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        checkpoint.load(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in said_of(tmp_path / "loop")


@pytest.mark.parametrize("begin", [b"", GOOD])
def test_a_file_of_100_gb_takes_neither_time_nor_memory(tmp_path, monkeypatch, begin):
    path = tmp_path / "c"
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(100 * 10**9)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10**6}.__getitem__)
    most, said = peak(said_of, path)
    assert ("larger than this machine's memory" if begin else "not a charlstm checkpoint") in said
    assert most < 1e6


class Meanwhile:
    """Finds the begin of a checkpoint, and does something when that is first looked for."""

    def __init__(self, begin, do):
        self.begin, self.do = begin, do

    def __call__(self, blob):
        do, self.do = self.do, lambda: None
        do()
        return self.begin(blob)


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "c"

    def grow():
        with path.open("ab") as file:
            file.write(b"more")

    def replace():
        (tmp_path / "d").write_bytes(b"another")
        (tmp_path / "d").replace(path)

    begin = checkpoint._begin
    large = forging.written(forging.made(3, hidden=200))  # more than a reader takes at once
    for change in (grow, lambda: os.truncate(path, 600_000)):
        path.write_bytes(large)
        monkeypatch.setattr(checkpoint, "_begin", Meanwhile(begin, change))
        assert "it changed while it was read" in said_of(path)
    path.write_bytes(large)
    monkeypatch.setattr(checkpoint, "_begin", Meanwhile(begin, replace))
    assert checkpoint.load(path).text_length == 3  # the file that was opened is read to its end
    assert path.read_bytes() == b"another"


def test_no_memory_is_answered(tmp_path, monkeypatch):
    def none_left(_):
        raise MemoryError

    path = tmp_path / "c"
    path.write_bytes(GOOD)
    monkeypatch.setattr(tensors, "read_json", none_left)
    assert "MemoryError" in said_of(path)
    monkeypatch.setattr(files, "regular", none_left)
    assert "larger than this machine's memory" in said_of(path)
