"""`warm.py SCRIPT ...` or `warm.py -m MODULE ...` is `python` for tests of whole commands, without the
seconds in which torch and the like are imported.

A server has imported them, and charlstm for those who ask for this project's, and each command is a copy of
its process: with arguments, folder, environment, standard input and outputs of its own, and a process beside
it, this one, that takes signals and ends as it does. What asks for more (`-c`, `-X`, a closed output), and
whatever is asked for where no server is, starts in the ordinary way.
"""

import importlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path

ADDRESS = "CHARLSTM_TESTS_WARM"
PYTHON = [sys.executable, "-S", "-E", __file__]
PROJECT = Path(__file__).resolve().parent.parent
IMPORTED = ("torch", "torch.utils.tensorboard", "hydra.main", "safetensors.numpy", "tqdm", "pooch")
OURS = ("charlstm.cli.train", "charlstm.cli.sample", "charlstm.cli.score")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@contextmanager
def server(path: Path):
    """Within this context commands are copies of a process that waits at the socket `path`, on Linux."""
    if not hasattr(os, "pidfd_open"):
        yield
        return
    python = path.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {shlex.join(PYTHON)} "$@"\n')
    python.chmod(0o700)
    with subprocess.Popen([sys.executable, __file__, "--serve", str(path)], stdin=subprocess.PIPE) as process:
        os.environ[ADDRESS] = str(path)
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            process.kill()


def main(arguments: list[str]) -> None:
    """What is typed, in a copy of the server; its process ends here as that does."""
    try:
        for number in range(3):
            os.fstat(number)
        is_plain = arguments[0] == "-m" or arguments[0].endswith(".py")
        # files that are open here, such as <(...), are not there
        if not is_plain or "PYTHONIOENCODING" in os.environ or any("/dev/fd/" in one for one in arguments):
            raise OSError
        asked = json.dumps([arguments, str(Path.cwd()), dict(os.environ)])
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.environ[ADDRESS])
        socket.send_fds(connection, [b"."], [0, 1, 2])
    except (OSError, KeyError):
        os.execv(sys.executable, [sys.executable, *arguments])
    with connection.makefile("rw") as talk:
        talk.write(f"{asked}\n")
        talk.flush()
        pid = int(talk.readline())
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = int(talk.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(path: str) -> list[str]:
    """Wait for commands; returns in the copy that is to be one, prepared, with its arguments."""
    sys.path.insert(1, str(PROJECT))
    for name in (*IMPORTED, *OURS):
        __import__(name)
    del sys.path[1]
    gc.collect()
    gc.freeze()  # a copy shares what it never writes to, such as the counters of a collection
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while 0 not in select.select([0, listening], [], [])[0]:  # what has started this process is there
        connection, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _, outputs, _, _ = socket.recv_fds(connection, 1, 3)
            talk = connection.makefile("rw")
            arguments, folder, environment = json.loads(talk.readline())
            pid = os.fork()
            if pid == 0:
                break
            talk.write(f"{pid}\n")
            talk.flush()
            ended = os.pidfd_open(pid)
            if ended not in select.select([ended, connection], [], [])[0]:  # who asked for it is gone
                os.kill(pid, signal.SIGKILL)
                os._exit(0)
            talk.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
            talk.flush()
            os._exit(0)
        connection.close()
    else:
        os._exit(0)
    for number, given in enumerate(outputs):
        os.dup2(given, number)
    os.closerange(3, 64)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    script = arguments[arguments[0] == "-m"]
    sys.argv = [script, *arguments[1 + (arguments[0] == "-m") :]]
    first = str(Path.cwd()) if arguments[0] == "-m" else str(Path(script).resolve().parent)
    sys.path[0:1] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    if (spec := PathFinder.find_spec("charlstm")) is None or Path(spec.origin).parent != PROJECT / "charlstm":
        for name in [name for name in sys.modules if name.split(".")[0] == "charlstm"]:
            del sys.modules[name]
    else:  # what is done at their import follows from the environment
        importlib.reload(sys.modules["charlstm"])
        importlib.reload(sys.modules["charlstm.cli"])
    if script.startswith("benchmarks."):  # which start commands of their own
        sys.executable = str(Path(path).with_name("python"))
    return arguments


def leave(ended: SystemExit | None) -> None:
    """End as Python does, but for taking apart what was imported, which takes a copy half a second."""
    code = 0 if ended is None or ended.code is None else ended.code
    threading._shutdown()
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # which Python says when it flushes once more
        sys.stdout.flush()
        sys.stderr.flush()
        if isinstance(code, int):
            os._exit(code & 255)
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        import atexit
        import gc
        import runpy
        import threading

        asked = serve(sys.argv[2])
        sys.modules["__main__"].__dict__.pop("__file__")
        ended = None
        try:
            if asked[0] == "-m":
                runpy.run_module(asked[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(asked[0], run_name="__main__")
        except SystemExit as error:
            ended = error
        leave(ended)
    else:
        main(sys.argv[1:])
