"""Child processes that parse untrusted input within limits of time and memory.

A parser cannot be trusted to end: a short file can make it compute for hours or allocate all memory, inside a call that
Python cannot interrupt. An `IsolatedProcess` is started once, answers many requests, and is killed and replaced when a
request exceeds its limits. It inherits neither keys nor other environment variables that it does not need.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from math import ceil
from multiprocessing.connection import Connection, Pipe
from threading import Lock
from time import process_time

from ragkit._forks import call_in_child
from ragkit.errors import RagkitError

_SECONDS_TO_START = 120
_LARGEST_REPLY = 2**28  # bytes
_READY = b"R"
_DONE, _DONE_AND_GROWN, _NO_MEMORY, _FAILED = b"D", b"G", b"M", b"F"
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class IsolationError(RagkitError):
    """A request exceeded its limits, or its process died; the message continues a sentence about the request."""


class IsolatedProcess:
    """A child process that answers one request at a time.

    Attributes:
        function: The function that answers requests, as ``"module:name"``: from bytes to bytes.
        mebibytes: Memory that a request may use in addition to that of the idle process; not limited on macOS.
        written_bytes: Maximum size of a file that the process writes.
    """

    def __init__(self, function: str, *, mebibytes: int, written_bytes: int = 0) -> None:
        """Set the limits; the process starts with the first request."""
        self.function, self.mebibytes, self.written_bytes = function, mebibytes, written_bytes
        self._lock = Lock()
        self._child: _Child | None = None
        call_in_child(self._forked)

    def ask(self, request: bytes, *, seconds: float) -> bytes:
        """Answer a request.

        Args:
            request: The request.
            seconds: Time limit, which does not include the start of the process.

        Returns:
            The answer.

        Raises:
            IsolationError: If a limit is exceeded, or if the process dies.
        """
        with self._lock:
            child = self._child = self._child or _Child(self.function, str(self.mebibytes), str(self.written_bytes))
            try:
                reply = child.answer(request, seconds)
            except BaseException:  # also an interrupt: a late answer would be taken for that of the next request
                self._stop()
                raise
            kind, content = reply[:1], reply[1:]
            if kind != _DONE:
                self._stop()
        if kind == _NO_MEMORY:
            raise IsolationError(f"needed more than {self.mebibytes} MiB of memory")
        if kind == _FAILED:
            raise IsolationError(f"failed ({content.decode()})")
        return content

    def _stop(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None

    def _forked(self) -> None:
        """Start again without a process, because the inherited one belongs to the parent."""
        self._lock = Lock()
        if self._child is not None:
            self._child.connection.close()
        self._child = None


class _Child:
    """One process and the connection to it; it ends when this object does."""

    def __init__(self, *arguments: str) -> None:
        self.connection, theirs = Pipe()
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)
        program = ["-P", "-B", "-c", "from ragkit._isolated import main; main()"]
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, *program, str(theirs.fileno()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
        )
        theirs.close()
        self.end = weakref.finalize(self, _end, self.process, self.connection)
        self._ready = False

    def answer(self, request: bytes, seconds: float) -> bytes:
        try:
            if not self._ready and not (self.connection.poll(_SECONDS_TO_START) and self.connection.recv_bytes()):
                raise IsolationError(f"found no process that was ready within {_SECONDS_TO_START} seconds")
            self._ready = True
            self.connection.send_bytes(f"{seconds} ".encode() + request)
            if not self.connection.poll(seconds):
                raise IsolationError(f"took more than {seconds:g} seconds")
            return self.connection.recv_bytes(_LARGEST_REPLY)
        except (EOFError, OSError) as error:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            how = self.process.returncode
            if how is None:  # it lives, so its reply is too long
                raise IsolationError(f"gave more than {_LARGEST_REPLY // 2**20} MiB") from error
            killed = f"killed by {signal.Signals(-how).name}" if how < 0 else f"exit code {how}"
            raise IsolationError(f"made its process die ({killed})") from error


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()


# -- in the child ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until the connection is closed; the arguments are those of `IsolatedProcess`."""
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    descriptor, function, mebibytes, written_bytes = sys.argv[1:]
    connection = Connection(int(descriptor))
    module, _, name = function.partition(":")
    handle: Callable[[bytes], bytes] = getattr(import_module(module), name)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(written_bytes),) * 2)
    memory, base = int(mebibytes) * 2**20, _address_space()
    if base is not None:
        resource.setrlimit(resource.RLIMIT_AS, (base + memory,) * 2)
    connection.send_bytes(_READY)
    with suppress(EOFError, OSError):
        while True:
            seconds, _, request = connection.recv_bytes().partition(b" ")
            # Also ends a request whose parent was killed; the parent itself measures elapsed time.
            resource.setrlimit(resource.RLIMIT_CPU, (ceil(process_time() + float(seconds)) + 1, -1))
            reply = _reply(handle, request)
            grown = base is not None and (_address_space() or 0) > base + memory // 4
            connection.send_bytes(_DONE_AND_GROWN + reply[1:] if grown and reply[:1] == _DONE else reply)


def _reply(handle: Callable[[bytes], bytes], request: bytes) -> bytes:
    try:
        return _DONE + handle(request)
    except MemoryError:
        return _NO_MEMORY
    except Exception as error:  # noqa: BLE001 - a parser may raise anything
        return _FAILED + f"{type(error).__name__}: {error}"[:1000].encode("utf-8", "backslashreplace")


def _address_space() -> int | None:
    """Return the size of the address space in bytes; None if the system does not report it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib would be imported for this only
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
