"""What sample.py writes, with models that never end and models that know a sentence; the prompts it reads."""

import dataclasses
import io
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import SENTENCE, settings
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from warm import PYTHON

from charlstm import checkpoint
from charlstm.checkpoint import Checkpoint
from charlstm.cli import command_line, sample
from charlstm.config import compose
from charlstm.config.tool_settings import SampleSettings
from charlstm.files import PROJECT
from charlstm.model.torch_model import Model
from charlstm.sampling import request as request_module
from charlstm.sampling.request import prompts_of
from charlstm.text.vocabulary import UnknownCharacterError, Vocabulary


def random_checkpoint(task, records):
    """Of a model that writes random letters."""
    torch.manual_seed(0)
    config, vocabulary = settings("model.hidden=9").model, Vocabulary("\nabcdeé")
    weights = Model(config, len(vocabulary)).weights()
    return Checkpoint(config, vocabulary, task, 1000, {}, {}, weights, records=records)


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A checkpoint whose model writes random letters for ever."""
    path = tmp_path_factory.mktemp("endless") / "best.safetensors"
    checkpoint.save(random_checkpoint("lm", "none"), path)
    return path


def asked(ckpt, *overrides):
    """The settings of `sample.py` with these overrides."""
    arguments = compose.quote_free_text([f"ckpt={ckpt}", *overrides], SampleSettings)
    return command_line.compose("sample", SampleSettings, arguments)


def written(ckpt, *overrides):
    return "".join(sample.write(asked(ckpt, *overrides)))


@pytest.mark.parametrize(
    ("task", "records", "ends"),
    [("lm", "none", False), ("lm", "line", True), ("lm", None, True), ("memorize", "none", True)],
)
def test_only_what_was_learnt_as_an_end_ends_a_text(task, records, ends, tmp_path):
    trained = random_checkpoint(task, records)
    trained.weights["head.bias"][trained.vocabulary.end] = 3
    checkpoint.save(trained, tmp_path / "best.safetensors")
    request = request_module.Request(asked(tmp_path, "length=200", "temperature=1", "samples=20", "seed=1"))
    lengths = [len(sample.text) for sample in request_module.samples(request)]
    assert (lengths == [200] * 20) is not ends


def test_a_seed_writes_the_same_text_in_every_way(endless, tmp_path, capsys):
    request = ("seed=11", "length=60", "prompt=ab")
    text = written(endless, *request)
    assert text.startswith("ab")
    assert len(text) == 62
    as_json = json.loads(written(endless, *request, "format=json"))
    (line,) = written(endless, *request, "format=jsonl").splitlines()
    written(endless, *request, f"out={tmp_path / 'new' / 'folder'}")
    assert as_json == [json.loads(line)]
    assert as_json[0]["prompt"] + as_json[0]["text"] == text
    assert (as_json[0]["seed"], as_json[0]["ending"]) == (11, "length")
    assert (tmp_path / "new" / "folder" / "1.txt").read_bytes().decode() == text
    assert (tmp_path / "new" / "folder" / "samples.jsonl").read_text("utf-8") == line + "\n"
    assert capsys.readouterr().err == f"1 texts and samples.jsonl in {tmp_path / 'new' / 'folder'}\n"


def test_a_fresh_seed_is_said_and_writes_the_same_again(endless, capsys):
    texts = [written(endless, "length=60") for _ in range(2)]
    assert texts[0] != texts[1]
    said = capsys.readouterr().err.splitlines()
    assert written(endless, "length=60", said[1].split()[0]) == texts[1]
    written(endless, "length=60", "temperature=0")
    assert capsys.readouterr().err == ""


def test_many_are_those_of_their_seeds(endless):
    many = [json.loads(line) for line in written(endless, "samples=5", "seed=3", "format=jsonl").splitlines()]
    assert [one["seed"] for one in many] == [3, 4, 5, 6, 7]
    for one in many:
        assert one["text"] == written(endless, f"seed={one['seed']}")


def test_more_samples_than_fit_side_by_side(endless, monkeypatch):
    request = ("samples=7", "seed=0", "length=9", "best_of=2")
    at_once = written(endless, *request)
    monkeypatch.setattr(request_module, "SIDE_BY_SIDE", 3)
    assert written(endless, *request) == at_once


def test_many_in_text_are_told_apart(endless):
    lines = written(endless, "samples=2", "seed=3", "length=4", "ban=\n", "prompt=ab").splitlines()
    assert [line.split(",")[0] for line in lines[::3]] == ["=== 1 of 2: seed 3", "=== 2 of 2: seed 4"]
    assert [len(line) for line in lines[1::3]] == [6, 6]


def test_best_of_keeps_the_likeliest_text(endless):
    request = ("seed=20", "length=30", "format=json")
    six = json.loads(written(endless, *request, "samples=6"))
    best = json.loads(written(endless, *request, "samples=2", "best_of=3"))
    for n in range(2):
        assert best[n] == min(six[3 * n : 3 * n + 3], key=lambda sample: sample["bits_per_char"])


def test_bits_are_those_of_the_written_text(endless):
    (sample,) = json.loads(written(endless, "seed=5", "prompt=abc", "length=40", "format=json", "stop=éé"))
    trained = checkpoint.load(endless)
    ids = trained.vocabulary.framed(trained.vocabulary.encode("abc" + sample["text"]))[:-1]
    scores, _ = trained.model()(ids[:-1])
    bits = -torch.log2(torch.softmax(torch.from_numpy(scores), 1))[range(len(ids) - 1), ids[1:].astype(int)]
    # float32 by two orders of summation
    assert sample["bits_per_char"] == pytest.approx(float(bits[3:].mean()), abs=1e-5)


def test_a_stop_ends_and_is_left_out(trained):
    assert written(trained, "stop=pytorch") == "hello "
    assert written(trained, 'stop=["rem", "can"]') == "hello pytorch. how long "
    assert written(trained, "stop=[no list") == SENTENCE
    (sample,) = json.loads(written(trained, "stop= how", "format=json"))
    assert (sample["text"], sample["ending"]) == ("hello pytorch.", "stop")
    (sample,) = json.loads(written(trained, "stop=h", "format=json"))
    assert (sample["text"], sample["bits_per_char"], sample["bits_per_byte"]) == ("", None, None)


def test_echo_and_unknown(trained):
    assert written(trained, "prompt=hello", "echo=false") == SENTENCE[5:]
    assert written(trained, "prompt=hXelЖlo", "unknown=skip") == SENTENCE
    assert written(trained, "prompt=ＨÉllo", "unknown=nearest") == SENTENCE
    with pytest.raises(UnknownCharacterError, match=r"'É' \(U\+00C9\) at position 1.*unknown=skip"):
        written(trained, "prompt=hÉllo")
    with pytest.raises(UnknownCharacterError, match=r"'Ж' \(U\+0416\) at position 4.*unknown=skip"):
        written(trained, "prompt=hÉllЖ", "unknown=nearest")


@pytest.mark.parametrize(
    ("known", "text", "expected"),
    [
        ("e\u0301", "é", "e\u0301"),
        ("é", "e\u0301", "é"),
        ("ae", "äé", "ae"),
        ("fi", "ﬁ", "fi"),
        ("s", "ß", "ss"),
        ("ABC", "abcＡ", "ABCA"),
        ("ab", "a日b", "a日b"),
        ("が", "か\u3099", "が"),
    ],
)
def test_the_nearest_known_character(known, text, expected):
    assert Vocabulary(known).replace_unknown(text) == expected


def random_texts(count):
    """Texts of any Unicode characters, and of those that shells, Hydra and OmegaConf have a meaning for."""
    random = np.random.default_rng(0)
    special = "\\'\"${}[](),=:;&|<>?!#~`%@ \t\n\r\u2028\ufeff\x00\x1b\x85éß日🙂\u0301٣" + "abn01"
    for _ in range(count):
        code_points = random.integers(0, 0x110000 - 0x800, random.integers(0, 25)).tolist()
        anything = [chr(c if c < 0xD800 else c + 0x800) for c in code_points]  # no lone surrogates
        known = random.choice(list(special), len(anything)).tolist()
        yield "".join(
            a if r < 0.3 else k for a, k, r in zip(anything, known, random.random(25), strict=False)
        )


WHOLE_WORDS = [
    "true",
    "null",
    "1e3",
    "0.10",
    "???",
    "${seed}",
    "[a, b]",
    "a,b",
    " x ",
    "'",
    "\\",
    "\\'",
    "{a: b}",
]


def reaches_the_model(text, **keys):
    request = dataclasses.replace(asked_nothing(), **keys)
    ids = Vocabulary.of_text(text or "x").encode(prompts_of(request)[0])
    return Vocabulary.of_text(text or "x").decode(ids) == text


def asked_nothing(_cache=[]):  # noqa: B006  # composed once
    if not _cache:
        _cache.append(asked("anything"))
    return _cache[0]


def test_10_000_prompts_as_arguments_pass_the_parser():
    parser = OverridesParser.create()
    for text in [*WHOLE_WORDS, *random_texts(10_000)]:
        text = text.replace("\0", "")  # which no argument can have
        (argument,) = compose.quote_free_text([f"prompt={text}"], SampleSettings)
        value = parser.parse_override(argument).value()
        prompt = OmegaConf.to_container(OmegaConf.create({"prompt": value}), resolve=True)["prompt"]
        assert prompt == text
        assert reaches_the_model(text, prompt=prompt)


def test_10_000_prompts_by_file_and_by_standard_input(tmp_path, monkeypatch):
    path = tmp_path / "prompt"
    for text in [*WHOLE_WORDS, *random_texts(10_000)]:
        text = text.lstrip("\ufeff")  # which begins a file without being a part of its text
        path.write_bytes(text.encode())
        assert reaches_the_model(text, prompt_file=str(path))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert reaches_the_model(text, prompt_file="-")


def run(*arguments, **keys):
    return subprocess.run(
        [*PYTHON, str(PROJECT / "sample.py"), *arguments], capture_output=True, timeout=300, **keys
    )


@pytest.mark.parametrize("text", ["a\r\nb", "é", "", "${a}, 'b'"])
def test_prompts_from_outside(tmp_path, text):
    torch.manual_seed(0)
    config, vocabulary = settings("model.hidden=3").model, Vocabulary("".join(sorted(set("ab\r\né${}, '"))))
    model = checkpoint.Checkpoint(
        config, vocabulary, "lm", 0, {}, {}, Model(config, len(vocabulary)).weights()
    )
    checkpoint.save(model, tmp_path / "best.safetensors")
    (tmp_path / "prompt").write_bytes(text.encode())
    keys = (f"ckpt={tmp_path}", "length=0", "seed=0")
    assert run(*keys, f"prompt={text}").stdout.decode() == text
    assert run(*keys, f"prompt_file={tmp_path / 'prompt'}").stdout.decode() == text
    assert run(*keys, "prompt_file=-", input=text.encode()).stdout.decode() == text


def test_numbers_that_overflow_end_in_a_line(tmp_path):
    config, vocabulary = settings("model.cell=rnn_relu", "model.hidden=3").model, Vocabulary("ab")
    weights = {name: w + 1e10 for name, w in Model(config, len(vocabulary)).weights().items()}
    checkpoint.save(Checkpoint(config, vocabulary, "lm", 0, {}, {}, weights), tmp_path / "best.safetensors")
    done = run(f"ckpt={tmp_path}", "temperature=0")
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: the scores are not finite")
    assert done.stderr.count(b"\n") == 1


def test_torch_is_never_imported(trained):
    code = (
        "import sys, runpy; sys.argv = ['sample.py', *sys.argv[1:]];"
        "runpy.run_path('sample.py', run_name='__main__');"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    for keys in ([], ["samples=2", "temperature=1", "seed=0", "format=json"]):
        done = subprocess.run(
            [sys.executable, "-c", code, f"ckpt={trained}", *keys],
            cwd=PROJECT,
            capture_output=True,
            timeout=300,
        )
        assert done.stderr == b"False\n"


@pytest.mark.parametrize(
    "keys", [[], ["samples=3"], ["format=json"], ["samples=2", "format=jsonl", "best_of=2"]]
)
def test_ctrl_c_ends_with_the_text_so_far(endless, keys):
    arguments = [*PYTHON, str(PROJECT / "sample.py"), f"ckpt={endless}", "length=100000000"]
    with subprocess.Popen([*arguments, *keys], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        seed = process.stderr.readline().decode().split()[0]  # said just before it begins
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        text, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (130, b"")
    text, ending = text.decode(), "interrupted"
    if "format" in "".join(keys):  # a list, or a line for each
        first = json.loads(text)[0] if "format=json" in keys else json.loads(text.splitlines()[0])
        text, ending = first["text"], first["ending"]
    assert ending == "interrupted"
    text = re.sub("^===.*\n", "", text)[:1000]  # without what stands above each of several
    if "best_of=2" not in keys:  # how long it is, is the machine's business
        assert text == written(endless, seed, "length=1000")[: len(text)]


WRONG = {
    "temperature=-1": "temperature = -1: must be a number, at least 0 and at most 100 or null",
    "temperature=nan": "temperature = nan: must be a number",
    "top_k=0": "top_k = 0: must be a whole number, at least 1",
    "top_p=2": "top_p = 2: must be a number, above 0 and at most 1",
    "top_p=0": "top_p = 0: must be a number, above 0",
    "min_p=-0.1": "min_p = -0.1: must be a number, at least 0",
    "repetition_penalty=0": "repetition_penalty = 0: must be a number, above 0",
    "length=-5": "length = -5: must be a whole number, at least 0",
    "samples=0": "samples = 0: must be a whole number, at least 1",
    "unknown=ignore": "unknown = ignore: must be error | skip | nearest",
    "format=xml": "format = xml: must be text | json | jsonl",
    "ban=\nabcdeé": "ban: bans all 7 characters",
    "stop=": "stop = : an empty string ends every text",
    'stop=["a",""]': 'stop = ["a",""]: an empty string ends every text',
    "prompt_file=missing": "prompt_file = missing: no such file",
    "prompt_file=.": "prompt_file = .: a folder",
    "prompt_file=latin": "prompt_file = latin: not utf-8 text: bytes e9 at offset 1",
    "out=full": "out = full: not empty; name a new folder",
    "out=latin/x": "out = latin/x: cannot be made: Not a directory",
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_requests_get_one_clear_line(endless, tmp_path, key):
    (tmp_path / "latin").write_bytes(b"a\xe9")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "1.txt").write_text("not to be lost")
    done = run(f"ckpt={endless}", "seed=0", key, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(f"error: {WRONG[key]}")
    assert done.stderr.count(b"\n") == 1
    assert (tmp_path / "full" / "1.txt").read_text() == "not to be lost"


def test_what_does_not_go_together_is_refused(endless):
    for keys in (["prompt=a", "prompt_file=-"], ["out=x", "format=json"]):
        done = run(f"ckpt={endless}", *keys)
        assert done.returncode == 2
        assert b"leave one of them out" in done.stderr


def test_undecodable_arguments_are_refused(endless):
    done = run(f"ckpt={endless}", b"prompt=a\xff")
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "error: prompt: not valid Unicode at position 1; give it in a file, such as by prompt_file=...\n"
    )


def talk(ckpt, lines, *keys):
    done = run(
        f"ckpt={ckpt}", "interactive=true", *keys, input="".join(f"{line}\n" for line in lines).encode()
    )
    assert done.returncode == 0
    return done.stdout.decode().splitlines(), done.stderr.decode()


def test_a_conversation_goes_on_where_it_was(trained):
    answers, said = talk(trained, ["hello", "", ":reset", "hello py", ":quit", "not read"], "length=9")
    assert answers == [" pytorch.", " how long", "torch. ho"]
    assert said == "(it has forgotten everything)\n"


def test_a_conversation_ends_at_the_end_token_and_begins_anew(trained):
    answers, said = talk(trained, [SENTENCE[:60], "hello pytorch."])
    assert answers == [SENTENCE[60:], SENTENCE[14:]]
    assert said.count("forgotten") == 2


def test_settings_change_in_a_conversation(endless):
    answers, said = talk(
        endless,
        [
            *(":length=5 top_k='3'", "ab", ":temperature=-1", ":nonsense", ":samples=2", ":seed=3", "a"),
            *(":settings", ":help", "::", "ж"),
        ],
        "seed=3",
        "ban=\n",
    )
    assert [len(answer) for answer in answers] == [5, 5]
    assert "error: temperature = -1: must be" in said
    assert "error: :nonsense: not known" in said
    assert "error: samples: cannot be changed here" in said
    shown = said[said.index("temperature=") :].splitlines()
    assert shown[:4] == ["temperature=0.8", "length=5", "seed=3", "unknown=error"]
    assert {"top_k=3", "top_p=null"} < {*shown}
    assert "Ctrl-C stops the model" in said
    assert "error: prompt has ':' (U+003A)" in said
    assert "'ж' (U+0436)" in said


def test_an_answer_has_200_characters_and_the_seed_that_is_shown(endless):
    answers, said = talk(endless, ["a", ":top_k=3", ":settings", ""], "ban=\n")
    assert [len(answer) for answer in answers] == [200, 200]
    shown = said[said.index("temperature=") :].splitlines()
    again, _ = talk(endless, ["a", ":top_k=3", ""], "ban=\n", shown[2])
    assert (again, shown[1]) == (answers, "length=200")


def test_a_seed_in_a_conversation_begins_its_numbers_anew(endless):
    answers, _ = talk(
        endless, ["a", ":reset", "a", ":reset", ":seed=4", "a"], "seed=3", "length=20", "ban=\n"
    )
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize("key", ["samples=2", "format=json", "out=x", "best_of=2", "prompt_file=-"])
def test_a_conversation_refuses_what_it_has_not(endless, key):
    done = run(f"ckpt={endless}", "interactive=true", key, input=b"")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("no_color", "bold", "plain"), [("", b"\33[1m", b"\33[0m"), ("1", b"", b"")])
def test_a_conversation_on_a_terminal(trained, no_color, bold, plain):
    leader, follower = pty.openpty()
    arguments = [*PYTHON, str(PROJECT / "sample.py"), f"ckpt={trained}", "interactive=true"]
    arguments += ["prompt=hello", "seed=7"]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    with subprocess.Popen(arguments, **streams, env=os.environ | {"NO_COLOR": no_color}) as process:
        os.close(follower)
        seen = b""
        for wanted, typed in [
            (b"temperature=0.0 length=68 seed=7\r\n", b""),
            (b"hello\r\n", b""),
            (bold + b"> ", b" py\n"),
            (plain + b"torch.", b""),
            (b"limit!\r\n", b""),
            (bold + b"> ", b":quit\n"),
        ]:
            deadline = time.monotonic() + 300
            while wanted not in seen and time.monotonic() < deadline:
                seen += os.read(leader, 1000)
            assert wanted in seen
            seen = seen.partition(wanted)[2]
            os.write(leader, typed)
        assert process.wait(300) == 0
    os.close(leader)


def test_a_prompt_file_may_be_empty_and_a_text_may_not(tmp_path):
    (tmp_path / "empty").touch()
    asked = command_line.compose("sample", SampleSettings, [f"prompt_file={tmp_path / 'empty'}"])
    assert prompts_of(asked) == [""]


def test_a_file_cannot_ask_for_a_text_without_end():
    trained = dataclasses.replace(random_checkpoint("memorize", "none"), text_length=10**15)
    assert request_module.Request(asked("any"), trained).length == 10**6
    assert request_module.Request(asked("any", "length=2000000"), trained).length == 2 * 10**6


def test_each_line_of_a_file_is_continued_as_if_it_were_the_only_one(tmp_path, monkeypatch):
    checkpoint.save(random_checkpoint("lm", "line"), tmp_path / "model")
    lines = ["abc", "", "edcba é", "abc", "a"]
    (tmp_path / "prompts").write_bytes("abc\n\nedcba é\r\nabc\na\n".encode())
    keys = [
        "temperature=1",
        "length=30",
        "seed=5",
        "samples=2",
        "best_of=2",
        "format=jsonl",
        "repetition_penalty=2",
    ]
    keys = [*keys, "unknown=skip"]
    file = [f"prompt_file={tmp_path / 'prompts'}", "each=line"]
    monkeypatch.setattr(request_module, "SIDE_BY_SIDE", 7)  # of 20, so that batches end within a line
    several = list(map(json.loads, written(tmp_path / "model", *file, *keys).splitlines()))
    alone = [written(tmp_path / "model", f"prompt={line}", *keys).splitlines() for line in lines]
    assert [sample["prompt"] for sample in several[::2]] == ["abc", "", "edcbaé", "abc", "a"]
    for one, other in zip(several, map(json.loads, itertools.chain(*alone)), strict=True):
        assert one.pop("bits_per_char") == pytest.approx(other.pop("bits_per_char"))
        assert one.pop("bits_per_byte") == pytest.approx(other.pop("bits_per_byte"))
        assert one == other
    shown = written(tmp_path / "model", *file, "length=3", "temperature=0", "unknown=nearest", "unknown=skip")
    assert [line[:10] for line in shown.splitlines() if line.startswith("===")] == [
        f"=== {n} of 5" for n in range(1, 6)
    ]
    assert "\nedcbaé" in shown


def test_wrong_requests_for_each_line_are_refused(tmp_path):
    checkpoint.save(random_checkpoint("lm", "line"), tmp_path / "model")
    (tmp_path / "prompts").write_text("abc\nazb\n")
    (tmp_path / "empty").touch()
    wrong = {
        f"prompt_file={tmp_path / 'prompts'}": r"line 2 of the prompts has 'z' \(U\+007A\) at position 1",
        f"prompt_file={tmp_path / 'empty'}": "each = line: the file has none; leave it out",
        "prompt=abc": "each = line: is for prompt_file, without interactive; leave it out",
    }
    for given, said in wrong.items():
        with pytest.raises(ValueError, match=said):
            written(tmp_path / "model", given, "each=line")
