"""Bad input gets one clear line that names the thing, the value and the mend, exit code 2, no traceback, no
hang; and nothing that was there before is lost."""

import os
import re
import shlex
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from bad_files import MINE, ODD_NAME, TEXTS, make
from hydra.core.override_parser.overrides_parser import OverridesParser
from warm import PYTHON

from charlstm import checkpoint
from charlstm.cli import command_line, sample, score
from charlstm.cli.train import planned
from charlstm.config import compose
from charlstm.config.convert import RequestError, convert, keys_of, takes_text
from charlstm.config.settings import TrainSettings
from charlstm.config.tool_settings import SampleSettings, ScoreSettings
from charlstm.files import PROJECT
from charlstm.tasks import table
from charlstm.text import source
from charlstm.training import speed

LONG = "x" * 300
TINY = ["model.hidden=8", "threads=1", "precision=float32", "check=true"]
LM = ["task=lm", "model.embedding=4", "train.steps=2", *TINY]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("files"))
    yield folder
    (folder / "closed").chmod(0o600)


@pytest.fixture(autouse=True)
def here(files, monkeypatch):
    """Every test stands among the files."""
    monkeypatch.chdir(files)
    monkeypatch.setattr(speed, "PROBE_SECONDS", 0.0)


def answer(program, arguments, capsys):
    """The exit code, and what is said, as the command line would answer, within this process."""
    settings_type = {"train": TrainSettings, "sample": SampleSettings, "score": ScoreSettings}[program]
    try:
        chosen = command_line.compose(
            program, settings_type, compose.quote_free_text(arguments, settings_type)
        )
        if isinstance(chosen, TrainSettings):
            planned(chosen, None)
        else:
            return 0, "".join((sample.write if program == "sample" else score.score)(chosen))
    except RequestError as error:
        return 2, "\n".join(error.problems)
    except ValueError as error:
        return 2, str(error)
    return 0, capsys.readouterr().out


def assert_answer(answered, code, *named):
    assert answered[0] == code, answered[1]
    if code == 2:
        assert "\n" not in answered[1]
    for part in named:
        assert part in answered[1]


# name: (what follows data.path= and TINY, exit code, what is named), the same for both tasks
EITHER_TASK = {
    "empty file": ("empty", 2, "data.path = empty: the text is empty; it needs at least one character"),
    "byte order mark alone": ("bom_only", 2, "data.path = bom_only: the text is empty"),
    "one distinct character": ("same", 0, "same: ", "300 characters, 1 distinct"),
    "invalid": ("latin", 2, "latin: not utf-8 text: bytes e9 20 61 75 at offset 3", "data.encoding=latin-1"),
    "invalid, replaced": ("latin data.errors=replace", 0, "latin: ", "280 characters, 10 distinct"),
    "invalid, the other mend": ("latin", 2, "data.errors=replace"),
    "cut off within a character": ("cut", 2, "cut: not utf-8 text: bytes e6 9c at offset 3"),
    "invalid in the second block": ("late", 2, "late: not utf-8 text: bytes e9 20 61 75 at offset 524291"),
    "latin-1 read as what it is": ("latin data.encoding=latin-1", 0, "280 characters, 10 distinct"),
    "utf-8 read as utf-16": ("bom data.encoding=utf-16", 2, "data.encoding=utf-8"),
    "no such encoding": ("short data.encoding=utf-99", 2, "data.encoding = utf-99: no such encoding; try"),
    "an encoding of bytes": ("short data.encoding=hex", 2, "data.encoding = hex: no such encoding"),
    "no encoding": ("short data.encoding=", 2, "data.encoding = : no such encoding"),
    "an encoding that refuses": (
        "short data.encoding=undefined",
        2,
        "short: cannot be read in data.encoding = undefined: ",
    ),
    "byte order mark": ("bom", 0, "232 characters", ", a byte order mark left out"),
    "byte order mark of utf-16": ("u16 data.encoding=utf-16", 0, "240 char", "a byte order mark left out"),
    "utf-16": ("u16", 2, "bytes ff fe 77 00 at offset 0", "data.encoding=utf-16"),
    "utf-16, big end first": ("u16be_bom", 2, "bytes fe ff 00 77 at offset 0", "data.encoding=utf-16"),
    "utf-16, replaced": ("u16 data.errors=replace", 2, "control characters", "data.encoding=utf-16"),
    "utf-16 as latin-1": ("u16 data.encoding=latin-1", 2, "looks like utf-16", "data.encoding=utf-16"),
    "utf-32": ("u32", 2, "bytes ff fe 00 00 at offset 0", "data.encoding=utf-32"),
    "utf-16 without a mark": ("u16le", 2, "50% control characters", "set data.encoding=utf-16-le"),
    "utf-16-be without a mark": ("u16be", 2, "looks like utf-16-be; set data.encoding=utf-16-be"),
    "utf-16 cut off": ("u16odd data.encoding=utf-16-le", 2, "not utf-16-le text: bytes 78 at offset 480"),
    "CR": ("cr", 0, "210 characters", ", 20 CR line ends"),
    "CRLF": ("crlf", 0, "230 characters", ", 20 CRLF line ends"),
    "zeros": (
        "zeros",
        2,
        "zeros: 100% control characters: a binary file",
        "data.unit=byte",
        "data.force=true",
    ),
    "zeros, forced": ("zeros data.force=true", 0, "1,000 characters, 1 distinct"),
    "a zero in 23": ("few_zeros", 0, "460 characters"),
    "a zero in 10": ("many_zeros", 2, "10% control characters", "data.force=true takes it as it is"),
    "a zero in 10, forced": ("many_zeros data.force=true", 0, "200 characters"),
    "colours of a terminal": ("coloured", 0, "characters"),
    "a picture": ("png", 2, "bytes 89 50 4e 47 at offset 0; ", "% control characters: a binary file"),
    "a picture as latin-1": ("png data.encoding=latin-1", 2, "% control characters: a binary", "data.force"),
    "a picture, forced": ("png data.encoding=latin-1 data.force=true", 0, "2,064 characters, 256 distinct"),
    "a program": (f"{sys.executable}", 2, "% control characters: a binary file", "data.unit=byte"),
    "a surrogate in utf-8": ("surrogate", 2, "not utf-8 text: bytes ed a0 80 20 at offset 5"),
    "a surrogate by escape": (
        "escaped data.encoding=unicode_escape",
        2,
        "has lone surrogates in data.encoding = unicode_escape; convert it",
    ),
    "missing": ("missing.txt", 2, "data.path = missing.txt: no such file (looked in "),
    "below a file": ("short/x", 2, "data.path = short/x: no such file"),
    "no path": ("", 2, "data.path is not set"),
    "loop of links": ("loop", 2, "data.path = loop: cannot be read: Too many levels of symbolic links"),
    "link to nothing": ("dangling", 2, "data.path = dangling: no such file"),
    "too long": (LONG, 2, "cannot be read: File name too long"),
    "many folders too long": ("x/" * 3000, 2, "cannot be read: File name too long"),
    "a file that fails": ("/proc/self/mem", 2, "data.path = /proc/self/mem: cannot be read: Input/output"),
    "no end": ("/dev/zero", 2, "data.path = /dev/zero: a device, which may have no end; name a file"),
    "nothing at all": ("/dev/null", 2, "data.path = /dev/null: a device"),
    "alphabet without one": ("short data.alphabet=abc", 2, "'l' (U+006C) at position 1", "'abc'"),
    "alphabet with one twice": ("short data.alphabet=aa", 2, "the alphabet has 'a' (U+0061) twice"),
    "empty alphabet": ("short data.alphabet=", 2, "the alphabet is empty"),
    "head": ("short model.head=none", 2, "model.hidden = 8: with model.head=none", "set model.hidden="),
    "errors": ("short data.errors=ignore", 2, "data.errors = ignore: must be strict | replace | skip"),
    "the key of before": ("short data.undecodable=skip", 2, "data.undecodable: no such key"),
}


@pytest.mark.parametrize("task", ["memorize", "lm"])
@pytest.mark.parametrize("name", EITHER_TASK)
def test_a_text_to_train_on(name, task, capsys):
    request, code, *named = EITHER_TASK[name]
    path, *others = request.split(" ")
    tiny = LM if task == "lm" else TINY
    assert_answer(answer("train", [f"data.path={path}", *tiny, *others], capsys), code, *named)


# name: (request, exit code, what is named)
TRAIN = {
    "one character": (["data.path=one", *TINY], 0, "1 characters, 1 distinct"),
    "one character, lm": (["data.path=one", *LM], 2, "data.split = ", "of 1 symbols", "more text"),
    "two characters": (["data.path=two", *TINY], 0, "2 characters, 2 distinct"),
    "two characters, lm": (["data.path=two", *LM, "data.split=[1,0,0]"], 0, "2 characters, 2 distinct"),
    "two characters, three parts": (["data.path=two", *LM], 2, "data.split = [0.9, 0.05, 0.05]: of 2 symb"),
    "shorter than batch x window": (["data.path=short", *LM], 0, "train.batch = ", "in place of 32 and 64"),
    "more streams than characters": (
        ["data.path=two", *TINY, "train.layout=streams", "train.batch=9"],
        2,
        "train.batch = 9: a text of 4 symbols",
        "choose at most 3",
    ),
    "a folder by heart": (["data.path=mixed", *TINY], 2, "data.path = ", "a folder; name a file in it"),
    "skip by heart": (["data.path=latin", *TINY, "data.errors=skip"], 2, "none of its 1 files is text in"),
    "a folder": (["data.path=mixed", *LM], 2, "data.path = mixed/1.txt: not utf-8 text: bytes e9"),
    "a folder, skipping": (["data.path=mixed", *LM, "data.errors=skip"], 0, ", 2 files left out, being no"),
    "a folder, skipping by counts": (
        ["data.path=mixed", *LM, "data.errors=skip", "data.encoding=latin-1"],
        0,
        "2 files, 1 files left out, being no text",
    ),
    "a folder with a picture": (
        ["data.path=mixed", *LM, "data.encoding=latin-1"],
        0,
        "2 files, 1 files left out, being no text",
    ),
    "a file, skipping": (["data.path=latin", *LM, "data.errors=skip"], 2, "none of its 1 files is text"),
    "an empty folder": (["data.path=none", *LM], 2, "data.path = none: a folder without files that match"),
    "no such files": (["data.path=mixed", *LM, "data.glob=*.md"], 2, "data.glob = *.md"),
    "no pattern": (["data.path=mixed", *LM, "data.glob=/x"], 2, "data.glob = /x: not a pattern"),
    "bytes need no force": (["data.path=png", *LM, "data.unit=byte"], 0, "2,064 characters, 256 distinct"),
    "bytes by heart": (["data.path=png", *TINY, "data.unit=byte"], 2, "data.unit = byte: is for task=lm"),
    "rare characters by heart": (["data.min_count=2"], 2, "data.min_count = 2: is for task=lm"),
    "records by heart": (["data.records=line"], 2, "data.records = line: is for task=lm"),
    "only blank lines": (["data.text=\n\n", *LM, "data.records=line"], 2, "there are only empty records"),
    "all rare": (["data.text=abc", *LM, "data.min_count=5"], 2, "data.min_count = 5: no character occurs"),
    "another text": (["data.path=short", *LM, "data.sha256=00"], 2, "short: its SHA-256 is ", "data.sha256"),
    "a download without a sum": (
        ["data.path=no", *LM, "data.url=file:///x"],
        2,
        "data.url = file:///x: needs",
    ),
    "an odd name": ([f"data.path={ODD_NAME}", *TINY], 0, f"{ODD_NAME}: 140 characters"),
    "an odd name, lm": ([f"data.path={ODD_NAME}", *LM], 0, f"{ODD_NAME}: 160 bytes"),
    "what is typed is meant": (["data.text=a\x01b", *TINY], 0, "data.text: 3 characters"),
    "what is typed is meant, lm": (["data.text=" + "a\x01b" * 30, *LM], 0, "90 characters, 3 distinct"),
    "no text": (["data.text="], 2, "data.text: the text is empty"),
    "no text, lm": (["data.text=", *LM], 2, "data.text: the text is empty"),
    "arguments that are no text": (["data.text=a\udce9"], 2, "data.text: not valid Unicode at position 1"),
    "an alphabet": (
        ["data.alphabet=a\udce9"],
        2,
        "data.alphabet: not valid Unicode at position 1",
    ),
    "an encoding": (["data.encoding=a\udce9"], 2, "data.encoding = a"),
    "arguments, lm": (["data.text=a\udce9", *LM], 2, "data.text: not valid Unicode at position 1"),
    "100,000 characters by heart": (
        ["data.path=distinct", "train.layout=streams", *TINY, "train.window=9"],
        0,
        "100,000 characters, 100,000 distinct",
    ),
    "100,000 characters": (["data.path=distinct", *LM, "train.batch=1"], 0, "100,000 distinct"),
    "more scores than memory": (
        ["data.path=distinct", *TINY, "train.layout=staggered", "train.batch=1000"],
        2,
        "train.batch = 1000, 99,002 time steps: training takes about",
        "try a smaller train.batch, train.window or model.hidden, or a shorter text",
    ),
    "steps by heart": (["train.steps=5"], 2, "train.steps = 5: works with task=lm only; leave it out"),
    "a layout for lm": ([*LM, "train.layout=sequence"], 2, "train.layout = sequence"),
    "a key": (["model.layer=3"], 2, "model.layer: no such key; did you mean model.layers?"),
    "a group for a key": (["model=3"], 2, "model: a group of keys, not a key itself; it has model.cell"),
    "no value": (["seed"], 2, "seed: not of the form key=value"),
    "several values": (["seed=1,2"], 2, "seed=1,2: several values; add --multirun"),
    "a choice": (["model.cell=lstn"], 2, "model.cell = lstn: must be lstm | gru", "did you mean lstm?"),
    "a group's choice": (["experiment=no"], 2, "experiment=no: no such experiment; there are copy | names |"),
    "Hydra's own key": (["hydra.run.dri=x"], 2, "hydra.run.dri", "--cfg hydra shows what there is"),
    "no key of Hydra's": (["hydra=3"], 2, "hydra: no such key"),
    "itself": (["seed=${seed}"], 2, "seed"),
    "no such variable": (["seed=${oc.env:NO_SUCH_ONE}"], 2, "NO_SUCH_ONE", "seed"),
    "brackets": (["seed=" + "[" * 300], 2, "seed=[[[", "not of the form key=value"),
    "no memory of a budget": (["train.budget=" + "9" * 400 + "h", *LM], 2, "train.budget = 999", "15m or 2h"),
    "a split of two": (["data.split=[0.9,0.1]"], 2, "data.split = [0.9, 0.1]: must be three numbers"),
    "a text for a list": (["data.exclude=tests"], 2, "data.exclude = tests: must be a list of texts"),
    "yes for true": (["check=yes"], 2, "check = yes: must be true or false"),
    "the largest seed": (
        [f"seed={2**63}"],
        2,
        "seed = 9223372036854775808",
        "at most 9,223,372,036,854,775,807",
    ),
}


@pytest.mark.parametrize("name", TRAIN)
def test_a_request_for_training(name, capsys):
    request, code, *named = TRAIN[name]
    assert_answer(answer("train", request, capsys), code, *named)


# what follows ckpt=: what is named, the same for sample.py and python -m charlstm score
CHECKPOINTS = {
    "empty": "empty: not a charlstm checkpoint, or cut off",
    "half": "half: damaged or cut off: its SHA-256 does not match",
    "flipped": "flipped: damaged or cut off: its SHA-256 does not match",
    "png": "png: not a charlstm checkpoint",
    "json": "json: not a charlstm checkpoint",
    "plain": "plain: not a charlstm checkpoint",
    "huge_header": "huge_header: not a charlstm checkpoint",
    "none": "none/best.safetensors: no such checkpoint; give the file or run directory",
    "newer": "newer: format 2, this charlstm reads 1; upgrade charlstm",
    "other_cell": "other_cell: its content does not fit together: ",
    "other_size": "other_size: its content does not fit together: ",
    "no_characters": "no_characters: its content does not fit together: the alphabet is empty",
    "no_weights": "no_weights: its content does not fit together: ",
    "missing": "missing: no such checkpoint",
    "loop": "loop: cannot be read: Too many levels of symbolic links",
    LONG: "cannot be read: File name too long",
    "/proc/self/mem": "/proc/self/mem: cannot be read: Input/output error",
    "": "ckpt: missing; name a checkpoint or run directory",
}


@pytest.mark.parametrize("program", ["sample", "score"])
@pytest.mark.parametrize("ckpt", CHECKPOINTS, ids=lambda name: name[:20])
def test_a_checkpoint(ckpt, program, capsys):
    text = ["text=abc"] if program == "score" else []
    assert_answer(answer(program, [f"ckpt={ckpt}", *text], capsys), 2, CHECKPOINTS[ckpt])


OF_GOOD = {  # key of sample.py or score: what is named
    ("sample", "prompt=xyz"): "prompt has 'x' (U+0078) at position 0",
    ("sample", "prompt_file=missing"): "prompt_file = missing: no such file",
    ("sample", "prompt_file=none"): "prompt_file = none: a folder",
    ("sample", "prompt_file=latin"): "prompt_file = latin: not utf-8 text: bytes e9 20 61 75 at offset 3",
    ("sample", "stop=" + "[" * 5000 + "]"): None,
    ("sample", "out=short/x"): "out = short/x: cannot be made: Not a directory",
    ("sample", "out=used_by_kept.txt"): "out = used_by_kept.txt: not empty; name a new folder",
    ("sample", "out=/proc/x"): "out = /proc/x: cannot be made",
    ("sample", "ban=\x00abcdefg"): "ban: ",
    ("score", "path=empty"): "path = empty: the text is empty",
    ("score", "path=latin"): "path = latin: not utf-8 text: bytes e9 20 61 75 at offset 3; ",
    ("score", "path=u16"): "such as encoding=utf-16",
    ("score", "path=loop"): "path = loop: cannot be read: Too many levels",
    ("score", "path=none"): "path = none: a folder without .txt files",
    ("score", "path=/dev/zero"): "path = /dev/zero: a device",
    ("score", "text=xyz"): "text has 'x' (U+0078) at position 0",
}


@pytest.mark.parametrize("request_", OF_GOOD, ids=lambda r: " ".join(r)[:40])
def test_a_request_for_a_good_checkpoint(request_, capsys):
    program, key = request_
    expected = OF_GOOD[request_]
    keys = ["ckpt=good", key] if program == "score" else ["ckpt=good", "seed=0", key]
    answered = answer(program, keys, capsys)
    assert_answer(answered, 2 if expected else 0, expected or "")


@pytest.mark.parametrize("task", ["memorize", "lm"])
def test_a_file_without_permission(task, capsys):
    answer("train", ["data.path=short", *(LM if task == "lm" else TINY)], capsys)  # imports all that it needs
    is_root = os.geteuid() == 0
    try:
        if is_root:  # to whom all is permitted
            os.seteuid(65534)
        answered = answer("train", ["data.path=closed", *(LM if task == "lm" else TINY)], capsys)
    finally:
        if is_root:
            os.seteuid(0)
    assert_answer(answered, 2, "data.path = closed: cannot be read: Permission denied")


def test_a_path_with_a_zero():
    values = asdict(command_line.compose("train", TrainSettings, []))
    values["data"] |= {"path": "a\0b"}
    with pytest.raises(ValueError, match="data.path = a\0b: cannot be read: embedded null byte"):
        table.plan(convert(TrainSettings, values))


@pytest.mark.parametrize("task", ["memorize", "lm"])
def test_a_pipe(task, capsys):
    source._drained.cache_clear()
    writer = threading.Thread(target=Path("pipe").write_bytes, args=[b"well, well. " * 20])
    writer.start()
    for _ in range(2):  # it is asked for again when the run begins
        answered = answer("train", ["data.path=pipe", *(LM if task == "lm" else TINY)], capsys)
        assert_answer(answered, 0, "pipe: ", "240 characters")
    writer.join()


VALUES = ["0", "-1", "nan", "inf", "-inf", "1e30", "text", "true", "[1]", "null"]


def numeric(hint):
    return any(kind in str(hint) for kind in ("Range(", "Shares", "Duration")) and not takes_text(hint)


def with_key(values, key, value):
    """Nested dictionaries with another value at a dotted key."""
    first, dot, rest = key.partition(".")
    return values | {first: with_key(values[first], rest, value) if dot else value}


@pytest.mark.parametrize(
    ("name", "settings_type"),
    [("train", TrainSettings), ("sample", SampleSettings), ("score", ScoreSettings)],
)
def test_every_number(name, settings_type):
    given = {text: OverridesParser.create().parse_override(f"x={text}").value() for text in VALUES}
    values = asdict(command_line.compose(name, settings_type, []))
    keys = [key for key, hint in keys_of(settings_type).items() if numeric(hint)]
    assert len(keys) >= {"train": 27, "sample": 10, "score": 0}[name]  # or none would be tried
    for key in keys:
        refused = []
        for text, value in given.items():
            try:
                convert(settings_type, with_key(values, key, value))
            except RequestError as error:
                (problem,) = error.problems
                assert problem.startswith(f"{key} = "), problem
                assert ": must be " in problem
                assert "\n" not in problem
                refused.append(text)
        # whatever else it takes, no number is one of these
        assert {"nan", "inf", "-inf", "1e30", "text", "true", "[1]"} <= {*refused}, key


# a line for a shell among the files, which fails where a part of a pipe fails: exit code, the beginning of
# what stands on standard error, which is that line alone
COMMANDS = {
    "TRAIN data.path=empty": (2, "error: data.path = empty: the text is empty"),
    "TRAIN data.path=latin": (2, "error: data.path = latin: not utf-8 text: bytes e9 20 61 75 at offset 3"),
    "TRAIN data.path=png task=lm": (
        2,
        "error: data.path = png: not utf-8 text: bytes 89 50 4e 47 at offset 0",
    ),
    "TRAIN data.path=zeros": (2, "error: data.path = zeros: 100% control characters: a binary file"),
    "TRAIN data.path=loop": (2, "error: data.path = loop: cannot be read: Too many levels of symbolic links"),
    "TRAIN data.path=none": (2, "error: data.path = "),
    "TRAIN data.path=/proc/self/mem task=lm": (2, "error: data.path = /proc/self/mem: cannot be read: Inp"),
    f"TRAIN data.path={LONG}": (2, "error: data.path = xxx"),
    "TRAIN data.path=- <&-": (2, "error: data.path = -: standard input is closed"),
    "TRAIN data.path=- </dev/null": (2, "error: data.path = -: the text is empty"),
    "TRAIN seed=nan": (2, "error: seed = nan: must be a whole number"),
    "TRAIN seed=nan 2>&-": (2, ""),
    "TRAIN hydra.run.dir=/proc/x": (2, "error: hydra.run.dir: /proc/x cannot be made: No such file"),
    "TRAIN hydra.run.dir=short": (2, "error: hydra.run.dir: short cannot be made: File exists"),
    "TRAIN hydra.run.dir=short/x": (2, "error: hydra.run.dir: short/x cannot be made: Not a directory"),
    "TRAIN hydra.run.dir=/proc": (
        2,
        "error: hydra.run.dir = /proc: holds other files; name a new",
    ),
    "cd mine && TRAIN hydra.run.dir=.": (
        2,
        "error: hydra.run.dir = .: holds other files; name a",
    ),
    "cd mine && TRAIN hydra.run.dir='${hydra:job.name}/..'": (
        2,
        "error: hydra.run.dir = train/..: holds oth",
    ),
    "TRAIN hydra.run.dir=mine/0 --config-name train": (2, "error: hydra.run.dir = mine/0: holds other files"),
    "TRAIN hydra.run.dir=mine/new hydra.output_subdir=../config": (
        2,
        "error: hydra.run.dir = mine/new: ../c",
    ),
    "TRAIN hydra.run.dir=mine/new hydra.job.name=../train": (
        2,
        "error: hydra.run.dir = mine/new: ../train.l",
    ),
    "TRAIN -m seed=1 hydra.sweep.dir=mine": (
        2,
        "error: hydra.sweep.dir = mine: holds other files",
    ),
    "TRAIN --multirun seed=1 hydra.sweep.dir=mine/new hydra.sweep.subdir=..": (
        2,
        "error: hydra.sweep.dir = mine",
    ),
    "TRAIN -m experiment=names,nope hydra.sweep.dir=mine/new": (
        2,
        "error: experiment=names,nope: no such exp",
    ),
    "TRAIN -m hydra.sweep.dir=run0 model.hidden=4 train.epochs=2 seed=1,2 | head -0": (0, ""),
    "TRAIN resume=mine hydra.run.dir=mine": (2, "error: mine/last.safetensors: no such checkpoint"),
    "CHARLSTM limit out=mine": (2, "error: out = mine: holds something other than a search; name a new"),
    "SAMPLE ckpt=good out=mine": (2, "error: out = mine: not empty; name a new folder"),
    "SAMPLE ckpt=good out=good": (2, "error: out = good: cannot be made: File exists"),
    "SAMPLE ckpt=good prompt_file=two out=two": (2, "error: out = two: cannot be made: File exists"),
    f"TRAIN hydra.run.dir={LONG}": (2, "error: hydra.run.dir: xxx"),
    "TRAIN hydra.run.dir=used_by_result.json": (2, "error: hydra.run.dir = used_by_result.json: holds"),
    "TRAIN hydra.run.dir=used_by_best.safetensors": (2, "error: hydra.run.dir = used_by_best.safe"),
    "TRAIN -m hydra.sweep.dir=used_by_0_result.json seed=1": (2, "error: hydra.sweep.dir = used_by_0"),
    "TRAIN -m hydra.sweep.dir=/proc/x seed=1": (2, "error: hydra.sweep.dir: /proc/x cannot be made"),
    "TRAIN -m seed=1,2 model.layer=3": (2, "error: model.layer: no such key; did you mean model.layers?"),
    "TRAIN --config-name no": (2, "error: Cannot find primary config 'no'"),
    "cd $(mktemp -d) && rmdir $PWD && TRAIN": (2, "error: the folder that you stand in is gone"),
    "TRAIN --help | head -1": (0, ""),
    "TRAIN --help >&-": (0, ""),
    "TRAIN --cfg job | true": (0, ""),
    "TRAIN check=true | true": (0, ""),
    "TRAIN RUN=1 | head -1": (0, ""),
    "TRAIN RUN=4 2>&-": (0, ""),
    "TRAIN RUN=5 >&- 2>&-": (0, ""),
    "TRAIN RUN=6 data.path=<(printf well)": (0, ""),
    "printf well | TRAIN RUN=2 data.path=-": (0, ""),
    "cp short $'\\xe9' && PYTHONIOENCODING=ascii TRAIN RUN=3 data.path=$'\\xe9'": (0, ""),
    "SAMPLE ckpt=half": (2, "error: half: damaged or cut off"),
    "SAMPLE ckpt=newer": (2, "error: newer: format 2, this charlstm reads 1; upgrade charlstm"),
    "SAMPLE ckpt=good seed=0 | true": (0, ""),
    "SAMPLE ckpt=good samples=2 out=used_by_kept.txt": (2, "error: out = used_by_kept.txt: not empty"),
    "SAMPLE ckpt=good temperature=1 2>&-": (0, ""),
    "SCORE ckpt=other_cell text=a": (2, "error: other_cell: its content does not fit together"),
    "SCORE ckpt=good path=u16": (2, "error: path = u16: not utf-8 text: bytes ff fe 77 00 at offset 0"),
    "CHARLSTM | true": (0, ""),
    "CHARLSTM >&-": (0, ""),
    "CHARLSTM limit --help | true": (0, ""),
    "CHARLSTM --version >/dev/full": (1, "error: standard output cannot be written: No space left on device"),
    "TRAIN RUN=7 >/dev/full": (0, "error: standard output cannot be written: No space left on device"),
    "TRAIN check=true >/dev/full": (1, "error: standard output cannot be written: No space left on device"),
}
if not Path("/proc/self/mem").exists():  # Linux only, and so are names that are not Unicode
    for table in (EITHER_TASK, CHECKPOINTS, OF_GOOD, COMMANDS):
        for key in [key for key in table if re.search("/proc|/dev/full|xe9", f"{key} {table[key]}")]:
            del table[key]


@pytest.fixture(scope="module")
def done(files):
    """All the commands, side by side; the answer to each."""
    python = shlex.join(PYTHON)
    words = {
        "TRAIN": f"{python} '{PROJECT}/train.py'",
        "SAMPLE": f"{python} '{PROJECT}/sample.py'",
        "SCORE": f"{python} -m charlstm score",
        "CHARLSTM": f"{python} -m charlstm",
        "RUN=": "model.hidden=8 train.epochs=2 hydra.run.dir=run",
    }
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": "1",
    }

    def run_line(line):
        for word, meant in words.items():
            line = line.replace(word, meant)
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=files,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(COMMANDS, pool.map(run_line, COMMANDS), strict=True))


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line[:60])
def test_a_command(line, done):
    code, expected = COMMANDS[line]
    said = done[line].stderr.decode()
    assert done[line].returncode == code, said
    assert said.startswith(expected)
    assert said.count("\n") == bool(expected)
    assert b"seed=" not in done[line].stdout  # which belongs on standard error, be that closed or not
    if code == 2:
        assert done[line].stdout == b""


def test_nothing_is_lost_and_nothing_is_left(done, files):
    assert done
    for name in ("result.json", "best.safetensors", "0/result.json", "kept.txt"):
        folder = files / f"used_by_{name.replace('/', '_')}"
        assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")] == [name]
        assert (folder / name).read_text() == "not to be lost"
    mine = [path for path in (files / "mine").rglob("*") if not path.is_dir()]
    assert {path.relative_to(files / "mine").as_posix() for path in mine} == {*MINE}
    assert {path.read_text() for path in mine} == {"not to be lost"}
    assert {name: (files / name).read_bytes() for name in TEXTS} == TEXTS
    assert checkpoint.load(files / "good").text_length == 12
    assert not (files / "outputs").exists()
    assert not (files / "multirun").exists()
    # whoever read or did not read what was said, the runs are whole
    for number in re.findall(r"RUN=(\d)", " ".join(COMMANDS)):
        assert (files / f"run{number}" / "result.json").exists(), number
        assert "checkpoint" in (files / f"run{number}" / "train.log").read_text("utf-8")
