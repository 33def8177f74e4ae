"""Every command that the README and the pages in docs/ show is run, in order, in a copy of the project.

Their blocks of `sh` are; those of `bash`, which take minutes or more, are only looked at.
"""

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from warm import PYTHON

import charlstm
from charlstm.cli import command_line
from charlstm.config import tool_settings
from charlstm.config.settings import TrainSettings
from charlstm.files import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}


def commands(page, language):
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXTS[page], re.DOTALL)
    return [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]


RUN = [(page, command) for page in TEXTS for command in commands(page, "sh")]
# run by `.ci/run` and by hand: they would set up an environment within the environment of the tests
SET_UP = ["make train", "make test"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "docs").mkdir()
    for name in ("train.py", "sample.py", "docs/plain_lstm.py"):
        shutil.copy(PROJECT / name, folder / name)
    for name in ("conf", "data", "charlstm", "benchmarks"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(folder):
    return os.environ | {
        "PYTHONPATH": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def run(project, command):
    program, *arguments = shlex.split(command)
    assert program == "python"
    return subprocess.run(
        [*PYTHON, *arguments],
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_readme_has_commands():
    first = commands("README.md", "sh")
    assert len(RUN) > len(first) > 5
    assert set(SET_UP) < set(first)


@pytest.mark.parametrize(("page", "command"), [(p, c) for p, c in RUN if c.startswith("python")])
def test_python_commands(project, page, command):
    done = run(project, command)
    assert done.returncode == 0, done.stderr
    if f"$ {command}\n" in TEXTS[page]:  # with its output shown
        shown = TEXTS[page].partition(f"$ {command}\n")[2]
        assert shown.startswith(done.stdout)


def test_tensorboard(project):
    (command,) = (c for _, c in RUN if c.startswith("tensorboard"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [*shlex.split(command), "--port", str(port)]
    with subprocess.Popen(
        arguments, cwd=project, env=environment(project), stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline, page = time.monotonic() + 300, ""
            while "bits_per_char/train" not in page:  # runs are read after the page has begun to answer
                assert time.monotonic() < deadline, f"TensorBoard shows no curves, but {page!r}"
                time.sleep(0.2)
                with contextlib.suppress(OSError):
                    tags = urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/tags")
                    page = tags.read().decode()
        finally:
            process.terminate()


def test_every_command_is_of_a_kind_that_is_run():
    kinds = {command.split()[0] for _, command in RUN} - {"make"}
    assert kinds == {"python", "tensorboard"}


SETTINGS = {"train": TrainSettings} | {
    name: getattr(tool_settings, f"{name.title()}Settings")
    for name in ("sample", "score", "look", "page", "runs", "limit")
}


@pytest.mark.parametrize("page", TEXTS)
def test_what_is_only_said_could_be_run(page):
    """Commands in `bash` blocks and within sentences have keys that exist, with values that they can have."""
    said = re.findall(r"`(python [^`\n]+)`", re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL))
    for command in [*commands(page, "bash"), *said]:
        if "..." in command or command.endswith(".") or command.startswith("python -m pytest"):
            continue
        _, *words = shlex.split(command)
        script = words.pop(0).removesuffix(".py")
        if script == "-m" and words[0].startswith("benchmarks"):
            assert (PROJECT / f"{words[0].replace('.', '/')}.py").exists(), command
        else:
            name = script if script != "-m" else words.pop(1)
            keys = [word for word in words if "=" in word]
            command_line.compose(name, SETTINGS[name], keys)  # raises what is wrong


def test_figures_come_from_scripts_that_exist():
    for page, folder in (("figures.md", "benchmarks"), ("reliability.md", "tests/soak")):
        scripts = re.findall(r"^\|.*\| `(\w+)` \|$", TEXTS[page], re.MULTILINE)
        assert len(scripts) > 5
        for script in scripts:
            assert (PROJECT / folder / f"{script}.py").exists(), script


def test_error_output_is_as_shown(project):
    for text in TEXTS.values():
        for command, shown in re.findall(r"\$ (python \S+ [^\n]*)\n((?:error: [^\n]*\n)+)", text):
            done = run(project, command)
            assert (done.returncode, done.stderr) == (2, shown)


def headings(path):
    """The names by which the headings of a page are linked."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*PAGES, PROJECT / "data" / "README.md"], ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        page = path.parent / name if name else path
        assert page.exists(), target
        assert not heading or heading in headings(page), target


def test_the_readme_leads_to_every_page():
    assert {f"docs/{path.name}" for path in PAGES[1:]} <= set(re.findall(r"\]\(([^)#]+)", TEXTS["README.md"]))


def test_pictures_are_whole_and_need_nothing_else():
    for path in (PROJECT / "docs").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.get("viewBox"), path
        assert root.find("{http://www.w3.org/2000/svg}title") is not None, path
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"<script|<image|href|url\(['\"]?http|@import|https?:", text), path


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} < set(cited)
    assert (cited["version"], cited["license"]) == (charlstm.__version__, "MIT")


def test_the_table_of_places_names_every_package_and_file():
    layout = TEXTS["design.md"].partition("## Where things are")[2].partition("## ")[0]
    package = PROJECT / "charlstm"
    for path in [*package.glob("*.py"), *(face.parent for face in package.glob("*/__init__.py"))]:
        assert f"{path.name}" in layout or path.name == "__init__.py", path.name


def test_every_package_lists_its_files():
    for face in (PROJECT / "charlstm").glob("*/__init__.py"):
        listed = face.read_text(encoding="utf-8")
        for path in face.parent.glob("*.py"):
            assert path.name in listed or path == face, path
