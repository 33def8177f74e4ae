"""A model of bytes, and one with an unknown token, from the checkpoint to what is written and scored."""

import json
import subprocess

import numpy as np
import pytest
import torch
from conftest import SENTENCE, settings
from warm import PYTHON

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint
from charlstm.files import PROJECT
from charlstm.model.torch_model import Model
from charlstm.sampling import writer
from charlstm.sampling.strategy import Strategy
from charlstm.sampling.writer import Writer
from charlstm.scoring import surprisal
from charlstm.tasks import memorize_run
from charlstm.text.vocabulary import Vocabulary
from charlstm.training import loop

BLOB = "é日🙂\r\n".encode() + b"\xff\xc3\0 end"  # UTF-8, and then bytes that are none


@pytest.fixture(scope="module")
def knows_bytes(tmp_path_factory):
    """A checkpoint that has learnt BLOB by heart, byte for byte."""
    torch.manual_seed(0)
    vocabulary = Vocabulary("".join(sorted(set(BLOB.decode("latin-1")))), unit="byte")
    asked = settings("model.hidden=32", "model.layers=1")
    model = Model(asked.model, len(vocabulary))
    ids = vocabulary.framed(vocabulary.encode(BLOB.decode("utf-8", "surrogateescape")))
    for figures in loop.of_text(model, ids, asked.train).figures():
        last, _ = memorize_run.tried(figures, memorize_run.UNPROVEN, model, vocabulary, ids)
        if last.recalled:
            break
    assert last.recalled
    path = tmp_path_factory.mktemp("bytes") / "best.safetensors"
    checkpoint.save(Checkpoint(asked.model, vocabulary, "memorize", len(BLOB), {}, {}, model.weights()), path)
    return path


def sample(ckpt, *overrides, **given):
    done = subprocess.run(
        [*PYTHON, str(PROJECT / "sample.py"), f"ckpt={ckpt}", *overrides],
        capture_output=True,
        timeout=300,
        **given,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_checkpoint_knows_the_unit(knows_bytes):
    assert checkpoint.load(knows_bytes).vocabulary.unit == "byte"


def test_sample_writes_raw_bytes(knows_bytes):
    assert sample(knows_bytes) == BLOB
    assert sample(knows_bytes, "length=1") == BLOB[:1]  # half a character, as it is


def test_prompts_and_stops_are_utf_8(knows_bytes, tmp_path):
    assert sample(knows_bytes, "prompt=é日") == BLOB
    (tmp_path / "prompt").write_bytes("é".encode())
    assert sample(knows_bytes, f"prompt_file={tmp_path / 'prompt'}", "echo=false") == BLOB[2:]
    assert sample(knows_bytes, "stop=🙂") == "é日".encode()
    assert sample(knows_bytes, "prompt=X日É", "unknown=skip", "length=0") == "日".encode()


def test_many_and_json_and_talk(knows_bytes, tmp_path):
    (found,) = json.loads(sample(knows_bytes, "format=json", "temperature=0"))
    assert found["text"].encode("utf-8", "surrogateescape") == BLOB
    trained = checkpoint.load(knows_bytes)
    ids = trained.vocabulary.encode(BLOB.decode("utf-8", "surrogateescape"))
    bits = surprisal.bits(trained.model(), trained.vocabulary, ids)
    assert found["bits_per_byte"] == pytest.approx(bits.sum() / len(BLOB), rel=1e-3, abs=1e-6)  # float32
    assert found["bits_per_char"] == pytest.approx(found["bits_per_byte"] * len(BLOB) / len(found["text"]))
    assert len(found["text"]) < len(BLOB)
    sample(knows_bytes, "samples=2", f"out={tmp_path / 'out'}")
    assert (tmp_path / "out" / "2.txt").read_bytes() == BLOB
    assert sample(knows_bytes, "interactive=true", input="é\n".encode()) == BLOB[2:] + b"\n"


def test_score_sums_the_bytes_of_a_character(knows_bytes):
    trained = checkpoint.load(knows_bytes)
    text = "é日🙂 end"
    bits = surprisal.bits(trained.model(), trained.vocabulary, trained.vocabulary.encode(text))
    assert len(bits) == 13
    of_characters = surprisal.of_characters(bits, text)
    expected = [*(bits[a:b].sum() for a, b in ((0, 2), (2, 5), (5, 9))), *bits[9:]]
    np.testing.assert_allclose(of_characters, expected, rtol=1e-12)  # the order of a sum
    done = subprocess.run(
        [*PYTHON, "-m", "charlstm", "score", f"ckpt={knows_bytes}", f"text={text}", "format=json"],
        cwd=PROJECT,
        capture_output=True,
        timeout=300,
        check=True,
    )
    (total,) = json.loads(done.stdout)["totals"]
    assert total["characters"] == len(text)
    assert total["bits"] == pytest.approx(bits.sum(), rel=1e-9)  # the order of a sum
    assert (total["bytes"], total["bits_per_byte"]) == (13, total["bits"] / 13)


def test_the_unknown_token_is_kept_and_never_written(tmp_path):
    torch.manual_seed(0)
    config, vocabulary = settings("model.hidden=9").model, Vocabulary("ab", unknown=True)
    model = Model(config, len(vocabulary))
    with torch.no_grad():
        model.head.bias[vocabulary.unknown] = 100.0  # by far the likeliest
    path = tmp_path / "c"
    checkpoint.save(Checkpoint(config, vocabulary, "lm", 9, {}, {}, model.weights()), path)
    again = checkpoint.load(path)
    assert again.vocabulary == vocabulary
    mask = writer.mask(vocabulary)
    stream = Writer(again.model(), vocabulary, Strategy(temperature=5, mask=mask), range(50))
    assert {int(i) for _ in range(50) for i in stream.write()} == {0, 1, vocabulary.end}
    assert sample(path, "prompt=aéb", "length=0").decode() == "aéb"


def test_checkpoints_of_before_are_read(trained, tmp_path):
    from safetensors.numpy import load_file, save

    blob = (trained / "best.safetensors").read_bytes()
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    metadata = json.loads(header["__metadata__"]["charlstm"])
    del metadata["unknown"], metadata["unit"]
    weights = load_file(trained / "best.safetensors")
    old = save(weights, {"charlstm": json.dumps(metadata | {"sha256": "0" * 64})})
    digest = checkpoint.hashlib.sha256(old).hexdigest().encode()
    (tmp_path / "old").write_bytes(old.replace(b"0" * 64, digest, 1))
    assert checkpoint.load(tmp_path / "old").vocabulary == Vocabulary.of_text(SENTENCE)
