"""The wheel, installed apart from the clone: `charlstm` in an empty folder."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import SENTENCE

from charlstm import __version__
from charlstm.files import PROJECT

COMMANDS = ("train", "sample", "score", "look", "page", "runs", "export", "import", "limit")


def python(*arguments, cwd):
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(command, *arguments, cwd):
    """pip without a network: hatchling is in the environment of the tests."""
    python("-m", "pip", command, "--quiet", "--no-index", "--no-deps", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the wheel and of the sdist."""
    folder = tmp_path_factory.mktemp("built")
    python("-m", "hatchling", "build", "--directory", folder, cwd=PROJECT)
    return folder


@pytest.fixture(scope="module")
def charlstm(built, tmp_path_factory):
    """Runs the installed console script in an empty folder, which keeps what it writes."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    pip("install", "--target", site, *built.glob("*.whl"), cwd=folder)

    def run(*arguments, program=(site / "bin" / "charlstm",), **variables):
        return subprocess.run(
            [*program, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(site)} | variables,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    package = run(program=(sys.executable, "-c", "import charlstm; print(charlstm.__file__)"))
    assert package.stdout == f"{site / 'charlstm' / '__init__.py'}\n", package.stderr
    run.folder = folder
    return run


@pytest.fixture(scope="module")
def ckpt(charlstm):
    """The main job's run directory."""
    done = charlstm("train", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert f"\n{SENTENCE}\n" in done.stdout
    return charlstm.folder / "run"


def test_the_wheel_has_the_code_the_configuration_and_the_texts(built):
    (wheel,) = built.glob("*.whl")
    code = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("charlstm/**/*.py")}
    page = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("charlstm/page/*") if path.is_file()}
    configuration = {f"charlstm/{path.relative_to(PROJECT)}" for path in PROJECT.glob("conf/**/*.yaml")}
    assert len(code) > 40
    assert len(configuration) > 10
    texts = {"charlstm/data/hello.txt", "charlstm/data/cities.txt"}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == code | page | configuration | texts | {"charlstm/py.typed"}


def test_the_sdist_makes_the_same_wheel(built, tmp_path):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    pip("wheel", "--no-build-isolation", "--wheel-dir", tmp_path, sdist, cwd=tmp_path)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_charlstm_says_what_there_is(charlstm):
    assert charlstm("--version").stdout == f"charlstm {__version__}\n"
    said = charlstm().stdout
    assert said == charlstm("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"\n    \S*charlstm {name} ", said)  # with its place where the shell finds it not


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("trian", "did you mean train?"),
        ("seed=1", "there are train, sample, score, look, page, runs, export, import, limit"),
    ],
)
def test_a_wrong_command(charlstm, wrong, hint):
    done = charlstm(wrong)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"error: {wrong}: no such command; {hint}\n",
    )


def test_what_needs_no_library_waits_for_none(charlstm):
    script = "import sys; from charlstm.__main__ import main; main(); print(*sys.modules, sep='\\n')"
    said = charlstm("--version", program=(sys.executable, "-c", script)).stdout
    assert "charlstm.cli.terminal" in said.splitlines()
    assert not {"hydra", "numpy", "omegaconf", "torch"} & set(said.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_help(charlstm, name):
    done = charlstm(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    (conf,) = (path for path in PROJECT.glob("conf/*.yaml") if path.stem == name)
    last_comment = [line for line in conf.read_text("utf-8").splitlines() if line.startswith("# ")][-1]
    assert last_comment in done.stdout


def test_the_main_job(ckpt):
    assert json.loads((ckpt / "result.json").read_text("utf-8"))["recalled"] is True
    assert (ckpt / "train.log").exists()  # Hydra's job name is not the script's


def test_the_model_writes_and_scores(charlstm, ckpt):
    done = charlstm("sample", f"ckpt={ckpt}")
    assert (done.returncode, done.stdout, done.stderr) == (0, SENTENCE, "")
    done = charlstm("score", f"ckpt={ckpt}", f"text={SENTENCE}", "format=json")
    (total,) = json.loads(done.stdout)["totals"]
    assert total["characters"] == len(SENTENCE)
    assert 0 < total["bits_per_char"] < 1  # recalled; of 4.5 bits for a guess among 22 characters and the end
    done = charlstm("score", f"ckpt={ckpt}", "path=data/hello.txt", "format=json")
    assert json.loads(done.stdout)["totals"] == [total]  # the text of the wheel


def test_the_model_as_a_page(charlstm, ckpt):
    done = charlstm("page", f"ckpt={ckpt}", "out=model.html", "weights=int8")
    assert (done.returncode, done.stderr) == (0, "")
    page = (charlstm.folder / "model.html").read_text("utf-8")
    assert done.stdout == f"model.html: {len(page.encode()) / 1e6:.2f} MB; open it in a browser\n"
    assert "function lstm(" in page


def test_the_limit(charlstm):
    done = charlstm(
        *("limit", "model.hidden=2", "symbols=2", "start=2", "train.epochs=3", "threads=1", "out=limit")
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((charlstm.folder / "limit" / "limit.json").read_text("utf-8"))["finished"]


def test_several_runs(charlstm):
    done = charlstm("train", "--multirun", "seed=1,2", "train.epochs=1", "hydra.sweep.dir=two")
    assert done.returncode == 0, done.stderr
    for n in ("0_seed-1", "1_seed-2"):
        assert json.loads((charlstm.folder / "two" / n / "result.json").read_text())["steps"] == 1
        assert (charlstm.folder / "two" / n / "train.log").exists()


def test_what_hydra_answers(charlstm):
    assert "\n  path: data/hello.txt\n" in charlstm("train", "--cfg", "job").stdout
    assert "charlstm -sc install=bash" in charlstm("train", "--hydra-help").stdout
    assert charlstm("-sc", "install=bash").stdout.endswith("-F hydra_bash_completion charlstm\n")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("charlstm ", "train sample score look page runs export import limit\n"),
        ("charlstm train model.c", "model.cell=\n"),
        ("charlstm train experiment=n", "experiment=names experiment=notebook experiment=notebook_batch\n"),
        ("charlstm sample ", ""),
    ],
)
def test_the_shell_completes(charlstm, line, answer):
    done = charlstm("-sc", "query=bash", COMP_LINE=line)
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, "")


def test_the_oldest_versions_are_those_that_are_tested():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    bounds = dict(re.match(r"([\w-]+)>=([\d.]+)", wanted).groups() for wanted in project["dependencies"])
    lines = (PROJECT / "constraints-oldest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert tested.keys() == bounds.keys()
    for name, version in tested.items():
        assert version in (bounds[name], f"{bounds[name]}.0")
