import json
import os
import sys
from subprocess import PIPE, Popen

import pytest
from resuming import LM, MEMORIZE, go, text

from charlstm import checkpoint
from charlstm.cli import runs


def test_runs_are_listed_with_what_came_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)
    data = f"data.text={text()}"
    (tmp_path / "outputs").mkdir()
    (tmp_path / "multirun").mkdir()
    done = go(tmp_path / "outputs" / "done", *LM, data, "tensorboard=false")
    stopped = go(tmp_path / "multirun" / "0", *LM, data, "tensorboard=false", stop_before=30)
    learnt = go(tmp_path / "outputs" / "a", *MEMORIZE, "data.text=ab\ncd", "train.batch=1")
    damaged = tmp_path / "outputs" / "damaged"
    damaged.mkdir()
    (damaged / "best.safetensors").write_bytes(b"x")
    for n, run in enumerate((stopped, done, learnt, damaged)):
        for file in run.glob("*.safetensors"):
            os.utime(file, (86400 * n, 86400 * n))

    def listed(*arguments):
        monkeypatch.setattr(sys, "argv", ["charlstm", *arguments])
        runs.main()
        return capsys.readouterr().out.splitlines()

    # parameters: 5 x 11 + 4 x 9 (5 + 9 + 2) + 11 (9 + 1), and 4 x 9 (7 + 9 + 2) + 7 (9 + 1)
    result = json.loads((done / "result.json").read_text())
    last = checkpoint.load(stopped / "last.safetensors").figures["bits_per_char"]
    bits = json.loads((learnt / "result.json").read_text())["bits_per_char"]
    lines = listed()
    assert lines == [
        f"multirun/0  1970-01-01 00:00  train {last:.3f} bits/char",
        f"    lm, {text()[:19]!r:.20}, lstm of 1 x 9, 741 parameters, resumable",
        f"outputs/done  1970-01-02 00:00  valid {result['valid_bpc']:.3f} bits/char",
        f"    lm, {text()[:19]!r:.20}, lstm of 1 x 9, 741 parameters, done",
        f"outputs/a  1970-01-03 00:00  train {bits:.3f} bits/char",
        r"    memorize, 'ab\ncd', lstm of 1 x 9, 718 parameters, done",
        "outputs/damaged  1970-01-04 00:00",
        "    outputs/damaged/best.safetensors: not a charlstm checkpoint, or cut off; train the model again",
    ]
    assert listed("path=outputs/done,multirun") == lines[:4]
    hold = "import sys; from pathlib import Path; from charlstm.runs.directory import owned\n"
    hold += "with owned(Path(sys.argv[1])): print(flush=True); input()"
    with Popen([sys.executable, "-c", hold, stopped], stdin=PIPE, stdout=PIPE) as process:
        process.stdout.readline()
        assert listed()[1] == lines[1].replace("resumable", "running")
        process.communicate(b"\n")
    assert listed()[1] == lines[1]
    (learnt / "result.json").write_text('{"recalled": true, "free_run": 6}')
    assert listed()[4] == "outputs/a  1970-01-03 00:00  exact"
    with pytest.raises(SystemExit) as stop:
        listed("path=nothing")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: path = nothing: no run in nothing/ (looked in ")
