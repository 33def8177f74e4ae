"""The Dockerfile: linted, what it takes is enough, and it builds where a builder is."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from charlstm.files import PROJECT

DOCKERFILE = PROJECT / "Dockerfile"


def test_hadolint_finds_nothing():
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_wheel_can_be_built_of_what_it_takes(tmp_path):
    """Of no more than .dockerignore lets through."""
    *_, ignored = (PROJECT / ".dockerignore").read_text().partition("*\n")
    taken = [line[1:] for line in ignored.splitlines() if line[0] == "!"]
    copied = re.findall(r"(?m)^COPY (?!--)(.*) \S+$", DOCKERFILE.read_text())
    assert sorted(name.rstrip("/") for line in copied for name in line.split()) == sorted(taken)
    for name in taken:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copyfile
        copy(PROJECT / name, tmp_path / name)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("dist/*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"charlstm/conf/train.yaml", "charlstm/data/hello.txt", "charlstm/__main__.py"} <= {*names}


@pytest.mark.soak
def test_it_builds_and_trains_for_a_user_without_a_name(tmp_path):
    """Fetches Python and torch: minutes."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("there is no builder of containers")
    subprocess.run(["docker", "build", "--tag", "charlstm-test", PROJECT], check=True, timeout=1800)
    tmp_path.chmod(0o777)
    volume = f"{tmp_path}:/work"
    run = ["docker", "run", "--rm", "--init", "--user", "4321:4321", "--volume", volume, "charlstm-test"]
    subprocess.run([*run, "data.text=to be", "hydra.run.dir=run"], check=True, timeout=300)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["recalled"]
