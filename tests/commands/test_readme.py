"""Every command that the README shows is run, in order, in a copy of the project's files."""

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

import pytest

from charlstm.files import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("   #")[0].strip() for block in BLOCKS for line in block.splitlines()]
# run by `.ci/run` and by hand: they would set up an environment within the environment of the tests
SET_UP = ["make train", "make test"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name in ("train.py", "sample.py"):
        shutil.copy(PROJECT / name, folder)
    for name in ("conf", "data", "charlstm", "benchmarks"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(folder):
    return os.environ | {
        "PYTHONPATH": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def run(project, command):
    return subprocess.run(
        shlex.split(command),
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_readme_has_commands():
    assert len(COMMANDS) > 10
    assert set(SET_UP) < set(COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python")])
def test_python_commands(project, command):
    done = run(project, command)
    assert done.returncode == 0, done.stderr
    if f"$ {command}\n" in README:  # with its output shown
        shown = README.partition(f"$ {command}\n")[2]
        assert shown.startswith(done.stdout)


def test_tensorboard(project):
    (command,) = (c for c in COMMANDS if c.startswith("tensorboard"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [*shlex.split(command), "--port", str(port)]
    with subprocess.Popen(
        arguments, cwd=project, env=environment(project), stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline, page = time.monotonic() + 300, ""
            while "train/loss" not in page:  # runs are read after the page has begun to answer
                assert time.monotonic() < deadline, f"TensorBoard shows no curves, but {page!r}"
                time.sleep(0.2)
                with contextlib.suppress(OSError):
                    tags = urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/tags")
                    page = tags.read().decode()
        finally:
            process.terminate()


def test_every_command_is_of_a_kind_that_is_run():
    kinds = {command.split()[0] for command in COMMANDS} - {"make"}
    assert kinds == {"python", "tensorboard"}


def test_error_output_is_as_shown(project):
    for command, shown in re.findall(r"\$ (python \S+ [^\n]*)\n((?:error: [^\n]*\n)+)", README):
        done = run(project, command)
        assert (done.returncode, done.stderr) == (2, shown)


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (PROJECT / target).exists(), target


def test_the_code_layout_names_every_package_and_file():
    layout = README.partition("## Code layout")[2].partition("## ")[0]
    package = PROJECT / "charlstm"
    for path in [*package.glob("*.py"), *(face.parent for face in package.glob("*/__init__.py"))]:
        assert f"{path.name}" in layout or path.name == "__init__.py", path.name


def test_every_package_lists_its_files():
    for face in (PROJECT / "charlstm").glob("*/__init__.py"):
        listed = face.read_text(encoding="utf-8")
        for path in face.parent.glob("*.py"):
            assert path.name in listed or path == face, path
