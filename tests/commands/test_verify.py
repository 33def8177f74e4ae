"""`benchmarks/verify.py`, which takes nobody's word: what it says of hostile files, and of an honest one."""

import contextlib
import io
import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
from conftest import SENTENCE
from resuming import go

from charlstm.checkpoint import BEST
from charlstm.files import PROJECT

VERIFIER = PROJECT / "benchmarks" / "verify.py"


def verified(blob, text, folder):
    """Whether it says yes, and what it says."""
    (folder / "model").write_bytes(blob)
    (folder / "text").write_bytes(text.encode())
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", ["verify.py", str(folder / "model"), str(folder / "text")])
        patch.setattr(sys, "excepthook", sys.excepthook)
        try:
            runpy.run_path(str(VERIFIER))
        except SystemExit as end:
            return False, end.code
        except Exception as error:
            sys.excepthook(type(error), error, None)
            return False, said.getvalue()
    return True, said.getvalue()


def taken_apart(blob):
    """The header, what charlstm says in it, and the numbers of a file."""
    start = 8 + int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:start])
    return header, json.loads(header.pop("__metadata__")["charlstm"]), bytearray(blob[start:])


def together(header, facts, data, more=""):
    text = json.dumps({"__metadata__": {"charlstm": json.dumps(facts)}, **header})
    text = (text[:-1] + more + "}").encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    go(folder, "threads=1", "tensorboard=false")
    return (folder / BEST).read_bytes()


EDITS = {
    "the text in the metadata": "facts['text'] = SENTENCE; data[:] = bytes(len(data))",
    "the text for an alphabet": "facts['characters'] = [*SENTENCE]",
    "a text for a symbol": "facts['characters'] = [SENTENCE] * len(facts['characters'])",
    "two symbols swapped": "facts['characters'] = facts['characters'][1::-1] + facts['characters'][2:]",
    "a symbol twice": "facts['characters'] = facts['characters'].replace('!', '?')",
    "no number": "_, end = header['head.weight']['data_offsets']; data[end - 2 : end] = b'\\xff\\xff'",
    "infinity": "_, end = header['head.bias']['data_offsets']; data[end - 4 : end] = b'\\0\\0\\x80\\x7f'",
    "one array more": "header['a'] = {**FLOAT, 'data_offsets': [len(data), len(data) + 4]}; data += bytes(4)",
    "an empty array": "header['a'] = {**FLOAT, 'shape': [0], 'data_offsets': [len(data), len(data)]}",
    "one array less": "del header[max(header, key=lambda name: header[name]['data_offsets'])]",
    "a matrix turned round": "header['rnn.weight_ih_l1']['shape'] = [128, 512]",
    "a matrix as a vector": "header['rnn.weight_ih_l1']['shape'] = [512 * 128]",
    "two in one place": "header['rnn.bias_ih_l0']['data_offsets'] = header['rnn.bias_hh_l0']['data_offsets']",
    "integers": "header['head.bias']['dtype'] = 'I32'",
    "no layers": "[header.pop(name) for name in [*header] if 'rnn' in name]",
    "bytes at the end": "data += SENTENCE.encode()",
    "bytes missing": "del data[-4:]",
}
FLOAT = {"dtype": "F32", "shape": [1]}


@pytest.mark.parametrize("edit", EDITS)
def test_a_hostile_file_is_never_told_yes(edit, honest, tmp_path):
    header, facts, data = taken_apart(honest)
    exec(EDITS[edit], {"header": header, "facts": facts, "data": data, "FLOAT": FLOAT, "SENTENCE": SENTENCE})
    assert together(header, facts, data) != together(*taken_apart(honest))
    is_exact, said = verified(together(header, facts, data), SENTENCE, tmp_path)
    assert (is_exact, said[:4]) == (False, "no: ")


@pytest.mark.parametrize("name", ["head.bias", "__metadata__"])
def test_a_name_that_stands_twice(name, honest, tmp_path):
    header, facts, data = taken_apart(honest)
    entry = header.get(name, {"charlstm": json.dumps(facts)})
    twice = together(header, facts, data, f', "{name}": {json.dumps(entry)}')
    assert not verified(twice, SENTENCE, tmp_path)[0]


@pytest.mark.parametrize("text", [SENTENCE[:-1], SENTENCE + "!", SENTENCE.replace("t", "é", 1), "", "h"])
def test_another_text(text, honest, tmp_path):
    assert not verified(honest, text, tmp_path)[0]
    assert not verified(honest[:100], text, tmp_path)[0]


def test_what_it_says_of_an_honest_file(honest, tmp_path):
    header, facts, data = taken_apart(honest)
    assert verified(together(header, facts, data), SENTENCE, tmp_path)[0]  # the digest is another's business
    n = len(data) // 4
    # by hand: log2 of 68! / (counts of each of the 26 characters)!, less log2 26!
    is_exact, said = verified(honest, SENTENCE, tmp_path)
    assert is_exact
    counts = [SENTENCE.count(c) for c in set(SENTENCE)]
    whole = [np.log2(np.arange(1.0, k + 1)).sum() for k in (len(SENTENCE), *counts, len(counts))]
    bits = whole[0] - sum(whole[1:])
    assert said == f"yes: 68 characters, {bits:,.0f} bits, {n:,} parameters, {bits / n:.3f} bits each\n"


def test_the_command(honest, tmp_path):
    (tmp_path / "model").write_bytes(honest)
    for text, answer in ((SENTENCE, (0, "yes")), (SENTENCE[1:], (1, "no:")), (None, (1, "no:"))):
        given = "model" if text is None else "text"
        (tmp_path / "text").write_text(text or "", encoding="utf-8")
        command = [sys.executable, "-W", "error", VERIFIER, "model", given]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        said = done.stdout + done.stderr
        assert (done.returncode, said[:3], said.count("\n")) == (*answer, 1)


def test_an_alphabet_has_no_bits(tmp_path):
    # a text that is its alphabet in order has been told by that
    go(tmp_path, "data.text=abcdefgh", "threads=1", "tensorboard=false", "model.hidden=12")
    is_exact, said = verified((tmp_path / BEST).read_bytes(), "abcdefgh", tmp_path)
    assert (is_exact, said.split(",")[1]) == (True, " 0 bits")
