"""`files.whole`: what is done in which order; that this is enough is for soak/test_reliability.py to see."""

import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from charlstm import files
from tests.soak.calls import Watched


def write(path, content=b"new"):
    with files.whole(path) as file:
        file.write(content)


def stopped_by(error, path):
    with files.whole(path) as file:
        file.write(b"half")
        raise error


def test_a_file_is_on_disk_before_it_has_its_name_and_then_the_name_is(tmp_path):
    seen = []

    def step(call, do, _):
        seen.append((call.name, path.exists()))
        return do()

    path = tmp_path / "a"
    with Watched(step):
        write(path)
    assert seen == [
        ("open directory", False),  # the directory: what fails here fails before anything is done
        ("create", False),
        ("write", False),
        ("fsync file", False),
        ("close file", False),
        ("replace", False),
        ("fsync directory", True),
        ("close directory", True),
    ]
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_in_between_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a"
    write(path, b"old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            stopped_by(error, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_error_is_told_where_the_clean_up_fails_too(tmp_path, monkeypatch):
    def fails(number):
        def call(*_, **__):
            raise OSError(number, os.strerror(number))

        return call

    monkeypatch.setattr(os, "fsync", fails(28))
    monkeypatch.setattr(os, "unlink", fails(30))
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "a")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o777, 0)])
def test_permissions_are_those_of_any_new_file(tmp_path, mask, mode):
    path = tmp_path / "a"
    code = (
        "import os, sys; from pathlib import Path; from charlstm import files\n"
        f"os.umask({mask})\n"
        f"with files.whole(Path(sys.argv[1])) as file: file.write(b'new')"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=300)
    assert path.stat().st_mode & 0o777 == mode


def test_a_link_is_replaced_and_what_it_led_to_is_left_alone(tmp_path):
    (tmp_path / "far").write_bytes(b"far")
    path = tmp_path / "a"
    path.symlink_to(tmp_path / "far")
    write(path)
    assert not path.is_symlink()
    assert (path.read_bytes(), (tmp_path / "far").read_bytes()) == (b"new", b"far")


def test_a_directory_that_is_not_there_or_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    for path, error in {
        tmp_path / "no" / "a": FileNotFoundError,
        tmp_path / "file" / "a": NotADirectoryError,
    }.items():
        with pytest.raises(error):
            write(path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]


def test_a_read_only_directory():
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:  # not in pytest's own, which is closed to others
        Path(folder).chmod(0o555)
        try:
            if is_root:  # who may write anywhere
                os.seteuid(65534)
            with pytest.raises(PermissionError):
                write(Path(folder) / "a")
        finally:
            if is_root:
                os.seteuid(0)
            Path(folder).chmod(0o755)


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    write(tmp_path / ("é" * 127))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_many_writers_and_readers_at_once(tmp_path):
    path, done = tmp_path / "a", threading.Event()
    write(path, b"0" * 100_000)

    def read():
        seen = set()
        while not done.is_set():
            content = path.read_bytes()
            assert len(content) == 100_000
            seen |= set(content)
            assert content == content[:1] * 100_000
        return seen

    with ThreadPoolExecutor(4) as pool:
        reading = pool.submit(read)
        for writing in [pool.submit(write, path, b"%d" % k * 100_000) for k in range(10)]:
            writing.result()
        done.set()
        assert reading.result()
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_writers_left_is_cleared(tmp_path):
    kill = (
        "import os, sys; from pathlib import Path; from charlstm import files\n"
        "with files.whole(Path(sys.argv[1])) as file: os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", kill, str(tmp_path / "a")], check=True, timeout=300)
    (left,) = tmp_path.iterdir()
    others = [left.name + "x", "x" + left.name, left.name[:-6] + "g.part", ".charlstm-.part", "a", ".a"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".charlstm-0123456789abcdef.part").mkdir()
    (tmp_path / ".charlstm-0123456789abcdee.part").symlink_to("a")
    files.clear_stale(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {*others, ".charlstm-0123456789abcdef.part", ".charlstm-0123456789abcdee.part"}
