"""One SQLite file with a connection for each thread: snapshots, transactions, closing and forking."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import RLock, local
from weakref import WeakSet

from ragkit._forks import outlive
from ragkit.errors import CorruptIndexError, InvalidInputError, RagkitError
from ragkit.index._own_files import check_regular, open_own

DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter if SQLite quotes damaged names
_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


class _Held:
    """A connection that is closed when its thread ends."""

    _current_process, _outlive = staticmethod(os.getpid), staticmethod(outlive)  # also exist when the interpreter ends

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lock = RLock()  # held while the connection is used, and while another thread closes it
        self._process = os.getpid()

    def __del__(self) -> None:
        if self._process == self._current_process():
            self.connection.close()
        else:
            self._outlive(self.connection)


class Connections:
    """The connections to one SQLite file."""

    def __init__(self, path: Path, *, read_only: bool, durable: bool = True) -> None:
        """Set the path of the file; with ``durable``, commits wait until the data are on disk."""
        self.path = path
        self._read_only, self._durable = read_only, durable
        self._local = local()
        self._opened: WeakSet[_Held] = WeakSet()
        self._closed = False

    @property
    def in_use(self) -> AbstractContextManager[bool]:
        """The lock of this thread's connection; while it is held, no other thread closes the connection."""
        return self._held().lock

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        return self._held().connection

    def _held(self) -> _Held:
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            if self._closed:
                raise self._is_closed()
            try:
                held = self._local.held = _Held(self._connect())
            except DAMAGE as error:
                raise self.unreadable(error) from error
            self._opened.add(held)
        return held

    def _connect(self) -> sqlite3.Connection:
        for suffix in ("", "-wal", "-shm"):
            check_regular(self.path.with_name(self.path.name + suffix))
        journal = self.path.with_name(f"{self.path.name}-journal")
        if os.path.lexists(journal):  # an index never has one, and SQLite would remove a file that it names
            raise CorruptIndexError(journal, "an index has no such file; remove it")
        opened = self._configured()
        try:
            self._check_schema(opened)
        except BaseException:
            opened.close()
            raise
        return opened

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        """Check what a new connection sees, before any table is read."""

    def _configured(self) -> sqlite3.Connection:
        if self._read_only:
            opened = self._try("mode=ro")
            try:
                opened.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.OperationalError:  # the write-ahead log cannot be created in this folder
                opened.close()
                opened = self._try("mode=ro&immutable=1")
        else:
            os.close(open_own(self.path, os.O_RDWR | os.O_CREAT))  # with permissions for the owner only
            opened = self._try("mode=rw")
            opened.execute("PRAGMA journal_mode = WAL")
            opened.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        return opened

    def _try(self, options: str) -> sqlite3.Connection:
        uri = f"{self.path.as_uri()}?{options}"
        opened = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        # The file may come from someone else: nothing that its schema names is called, and damage is looked for.
        opened.execute("PRAGMA trusted_schema = OFF")
        opened.execute("PRAGMA cell_size_check = ON")
        opened.execute("PRAGMA mmap_size = 0")
        opened.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        opened.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
        if sys.version_info >= (3, 12):
            opened.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)  # noqa: FBT003 - positional only
        return opened

    def close(self) -> None:
        """Close all connections; the last one merges the write-ahead log into the file."""
        self._closed = True
        opened = list(self._opened)
        self._local = local()
        for held in opened:
            with held.lock:
                held.connection.close()

    def forget_connections(self, *, read_only: bool) -> None:
        """Open new connections from now on, as required after a fork."""
        self._read_only, self._local, self._opened = read_only, local(), WeakSet()

    def begin(self) -> None:
        """Begin a snapshot: until `end`, all reads of this thread see the same commit."""
        self.connection.execute("BEGIN")

    def end(self) -> None:
        """End the snapshot of `begin`. Safe to call twice."""
        if not self._closed:
            _end(self.connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection of this thread in a write transaction, which is rolled back on errors.

        Raises:
            OSError: If the disk is full or fails.
            CorruptIndexError: If the database is damaged.
        """
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            _end(connection)
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in _OF_THE_DISK:
                problem = f"{error}; make room and do it again, nothing of it is stored"
                raise OSError(errno.ENOSPC, problem, str(self.path)) from error
            if isinstance(error, DAMAGE):
                raise self.unreadable(error) from error
            raise

    def unreadable(self, error: Exception) -> RagkitError:
        """Convert one of the errors in `DAMAGE` to an error for users."""
        return self._is_closed() if self._closed else CorruptIndexError(self.path, str(error))

    def _is_closed(self) -> InvalidInputError:
        return InvalidInputError(f"{self.path.parent} is closed; open it again")


def _end(connection: sqlite3.Connection) -> None:
    """Roll back uncommitted changes, unless SQLite has done so, as it does when a disk is full."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
