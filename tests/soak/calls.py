"""Every call by which Python changes files, watched: `with Watched(step): ...`.

`step(call, do, half)` stands in for each call: it must call `do` to let it happen, or `half`, which is there
for writes, to let half of the bytes be written. An audit hook finds what changes files by other ways: that
would be a hole in the net, and ends the process.
"""

import builtins
import io
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# what the audit hook would not let pass unwatched
CHANGES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
)


class Call(NamedTuple):
    """A call: its name, the paths and the file (`st_ino`) that it is about, and what is written where."""

    name: str
    paths: tuple[str, ...] = ()
    file: int = 0
    offset: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        return self.name


Step = Callable[[Call, Callable[[], Any], Callable[[], Any] | None], Any]


class Watched:
    """The context in which all calls that change files go through `step`."""

    _active: "Watched | None" = None
    _hooked = False

    def __init__(self, step: Step) -> None:
        self.step = step
        self.inside = 0
        self._kept: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "Watched":
        self._replace(builtins, "open", self._open)
        self._replace(io, "open", self._open)
        self._replace(os, "open", self._os_open)
        self._replace(os, "fdopen", self._fdopen)
        for name in ("replace", "rename", "link", "symlink"):
            self._watch(name, 2)
        for name in ("unlink", "remove", "mkdir", "rmdir", "truncate", "chmod"):
            self._watch(name, 1)
        for name in ("fsync", "fdatasync", "ftruncate", "fchmod", "sendfile", "copy_file_range", "close"):
            self._watch_handle(name)
        self._replace(os, "write", lambda handle, data: self.write(os_write, handle, data))
        os_write = self._kept[-1][2]
        Watched._active = self
        if not Watched._hooked:
            sys.addaudithook(_audit)
            Watched._hooked = True
        return self

    def __exit__(self, *_: object) -> None:
        Watched._active = None
        for place, name, function in reversed(self._kept):
            setattr(place, name, function)

    def call(self, call: Call, do: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """One watched call."""

        def allowed() -> Any:
            self.inside += 1
            try:
                return do()
            finally:
                self.inside -= 1

        return self.step(call, allowed, half)

    def write(self, write: Callable[[int, Any], int], handle: int, data: Any) -> int:
        """Write bytes where the handle stands."""
        content = bytes(data)
        offset = os.lseek(handle, 0, os.SEEK_CUR)
        call = Call("write", (), os.fstat(handle).st_ino, offset, content)
        middle = len(content) // 2
        written: int = self.call(
            call, lambda: write(handle, content), lambda: write(handle, content[:middle])
        )
        return written

    def _replace(self, place: Any, name: str, function: Any) -> None:
        self._kept.append((place, name, getattr(place, name)))
        setattr(place, name, function)

    def _watch(self, name: str, paths: int) -> None:
        function = getattr(os, name)

        def watched(*given: Any, **options: Any) -> Any:
            about = tuple(os.fspath(path) for path in given[:paths])
            return self.call(Call(name, about), lambda: function(*given, **options))

        self._replace(os, name, watched)

    def _watch_handle(self, name: str) -> None:
        function = getattr(os, name)

        def watched(handle: int, *given: Any) -> Any:
            found = os.fstat(handle)
            kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
            return self.call(Call(f"{name} {kind}", (), found.st_ino), lambda: function(handle, *given))

        self._replace(os, name, watched)

    def _os_open(self, path: Any, flags: int, *given: Any, **options: Any) -> int:
        function = next(kept for place, name, kept in self._kept if place is os and name == "open")
        if not flags & WRITES:
            name = "open directory" if flags & os.O_DIRECTORY else "open to read"
            handle: int = self.call(Call(name), lambda: function(path, flags, *given, **options))
        else:
            call = Call("create", (os.fspath(path),))
            handle = self.call(call, lambda: function(path, flags, *given, **options))
        return handle

    def _fdopen(self, handle: int, mode: str = "r", *given: Any, **options: Any) -> Any:
        return self._open(handle, mode, *given, **options)

    def _open(self, path: Any, mode: str = "r", buffering: int = -1, *given: Any, **options: Any) -> Any:
        if not set(mode) & set("wxa+"):
            return self._kept[0][2](path, mode, buffering, *given, **options)
        raw = File(self, path, "".join(sorted(set(mode) - set("bt"))))
        if buffering == 0:
            return raw
        buffered = io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *given, **options)


class File(io.FileIO):
    """A file whose writes are watched."""

    def __init__(self, watched: Watched, path: Any, mode: str) -> None:
        self.watched = watched
        if isinstance(path, int):
            super().__init__(path, mode)
        else:
            watched.call(Call("create", (os.fspath(path),)), lambda: super(File, self).__init__(path, mode))

    def write(self, data: Any) -> int:
        return self.watched.write(
            lambda _, content: super(File, self).write(content) or 0, self.fileno(), data
        )

    def truncate(self, size: int | None = None) -> int:
        call = Call("ftruncate file", (), os.fstat(self.fileno()).st_ino)
        done: int = self.watched.call(call, lambda: super(File, self).truncate(size))
        return done

    def close(self) -> None:
        if self.closed:
            return
        call = Call("close file", (), os.fstat(self.fileno()).st_ino)
        try:
            self.watched.call(call, lambda: None)
        finally:
            super().close()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    watched = Watched._active
    if watched is None or watched.inside:
        return
    if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
        print(f"a change that is not watched: {event} {arguments}", file=sys.stderr, flush=True)
        os._exit(70)
