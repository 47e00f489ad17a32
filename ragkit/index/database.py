"""Documents, metadata and the record of what is committed, in SQLite; its transactions are the commits of an index."""

from __future__ import annotations

import errno
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from threading import RLock, local
from typing import NamedTuple
from weakref import WeakSet

from ragkit.errors import IntegrityError, InvalidInputError, RagkitError
from ragkit.index.metadata import facts_of

FORMAT = 1
NAME = "index.sqlite"
_SCHEMA = """
CREATE TABLE facts_of_index (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, row INTEGER NOT NULL, hash BLOB NOT NULL,
    checksum INTEGER NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE dead (row INTEGER PRIMARY KEY);
CREATE TABLE blocks (file TEXT NOT NULL, block INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (file, block))
    WITHOUT ROWID;
CREATE TABLE facts (document INTEGER NOT NULL, field TEXT NOT NULL, kind TEXT NOT NULL, value);
CREATE INDEX facts_by_value ON facts (field, kind, value, document);
CREATE INDEX facts_by_document ON facts (document);
"""
_AT_ONCE = 5000  # values bound in one statement
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter where SQLite quotes damaged names
_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_TOGETHER = 50  # rows inserted by one statement, which takes three quarters of the time


class Stored(NamedTuple):
    """A document as it stands in the database: its text at the end, where it is not read on the way to the rest."""

    key: int
    id: str
    row: int
    hash: bytes
    checksum: int
    metadata: str
    text: str


def content_hash(text: str) -> bytes:
    """What tells whether a text was embedded before: 16 bytes of blake2b."""
    return blake2b(text.encode(), digest_size=16).digest()


def checksum(key: int, name: str, row: int, metadata: str, digest: bytes) -> int:
    """The checksum that is stored beside a document; the hash stands for its text."""
    return zlib.crc32(digest + f"{key} {row} {name}\0{metadata}".encode())


def changed(document: Stored, *, row: int | None = None, metadata: str | None = None) -> Stored:
    """A document with another row or other metadata, and the checksum that goes with them."""
    new_row, held = document.row if row is None else row, document.metadata if metadata is None else metadata
    sealed = checksum(document.key, document.id, new_row, held, document.hash)
    return document._replace(row=new_row, metadata=held, checksum=sealed)


def is_bare(folder: Path) -> bool:
    """Whether a database has no table: who made it was stopped before the first commit."""
    try:
        with closing(sqlite3.connect(folder / NAME)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    except DAMAGE:
        return False


def _is_text(name: str) -> bool:
    """Whether a string can stand in the database, as half a surrogate pair cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _end(connection: sqlite3.Connection) -> None:
    """Undo what is not committed, unless SQLite has done so, as it does when a disk is full."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


class _Held:
    """A connection that is closed when its thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lock = RLock()  # held by who uses it, and by who closes it from another thread

    def __del__(self) -> None:
        self.connection.close()


class Database:
    """One SQLite file; every thread has a connection of its own."""

    def __init__(self, folder: Path, *, read_only: bool, durable: bool = True) -> None:
        """Name the file; connections are opened when they are used.

        Args:
            folder: The folder of the index.
            read_only: Whether nothing may be written.
            durable: Whether a commit waits for the disk.
        """
        self.path = folder / NAME
        self._read_only, self._durable = read_only, durable
        self._local = local()
        self._opened: WeakSet[_Held] = WeakSet()
        self._closed = False

    @property
    def in_use(self) -> AbstractContextManager[bool]:
        """The lock of this thread's connection: while it is held, nobody else closes the connection."""
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
        mode = "ro" if self._read_only else "rwc"
        opened = self._try(f"{self.path.as_uri()}?mode={mode}")
        if self._read_only:
            try:
                opened.execute("SELECT 1 FROM facts_of_index LIMIT 1").fetchone()
            except sqlite3.OperationalError:  # a folder where no file for the log can be made
                opened.close()
                opened = self._try(f"{self.path.as_uri()}?mode=ro&immutable=1")
        else:
            opened.execute("PRAGMA journal_mode = WAL")
            opened.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        return opened

    @staticmethod
    def _try(uri: str) -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)

    def close(self) -> None:
        """Close all connections; the last one folds the log into the file."""
        self._closed = True
        opened = list(self._opened)
        self._local = local()
        for held in opened:
            with held.lock:
                held.connection.close()

    def _is_closed(self) -> InvalidInputError:
        return InvalidInputError(f"{self.path.parent} is closed; open it again")

    def create(self, facts: Mapping[str, object]) -> None:
        """Make the tables and write the first facts."""
        with self.transaction() as connection:
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            self.set_facts({"format": FORMAT, **facts})

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write that happens whole or not at all.

        Yields:
            The connection of this thread.

        Raises:
            OSError: If the disk is full, or fails otherwise.
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
            raise

    def begin(self) -> None:
        """Begin reads of this thread that all see the same commit."""
        self.connection.execute("BEGIN")

    def end(self) -> None:
        """End what `begin` began; done twice it does no harm."""
        if not self._closed:
            _end(self.connection)

    def unreadable(self, error: Exception) -> RagkitError:
        """One of `DAMAGE` as what a user is told."""
        if self._closed:
            return self._is_closed()
        return IntegrityError(f"{self.path} cannot be read: {error}; restore it from a copy")

    def facts(self) -> dict[str, object]:
        """What is known of the index as a whole.

        Returns:
            Values by name.

        Raises:
            IntegrityError: If the database cannot be read, or is of a newer format.
        """
        connection = self.connection
        try:
            found = {name: json.loads(value) for name, value in connection.execute("SELECT * FROM facts_of_index")}
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise IntegrityError(f"{self.path} is damaged: {error}; restore it from a copy") from error
        if found.get("format") != FORMAT:
            raise IntegrityError(
                f"{self.path} is of format {found.get('format')!r}, this ragkit reads {FORMAT}; use a newer ragkit"
            )
        return found

    def version(self) -> int:
        """Number of the commit that the snapshot sees, which is one of the facts."""
        found = self.connection.execute("SELECT value FROM facts_of_index WHERE name = 'version'").fetchone()
        try:
            return int(found[0])
        except (TypeError, ValueError) as error:
            raise IntegrityError(f"{self.path} is damaged: it says of no version; restore it from a copy") from error

    def set_facts(self, facts: Mapping[str, object]) -> None:
        """Write facts, inside a transaction."""
        self.connection.executemany(
            "INSERT INTO facts_of_index VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [(name, json.dumps(value)) for name, value in facts.items()],
        )

    def by_keys(self, keys: Iterable[int]) -> dict[int, Stored]:
        """Documents by key; missing ones are left out.

        Args:
            keys: The keys.

        Returns:
            The documents.

        Raises:
            IntegrityError: If the database cannot be read.
        """
        try:
            with self.in_use:
                return {found.key: found for found in self._by("key", list(keys))}
        except DAMAGE as error:
            raise self.unreadable(error) from error

    def by_ids(self, ids: Iterable[str]) -> dict[str, Stored]:
        """Documents by id; missing ones are left out."""
        return {found.id: found for found in self._by("id", [name for name in ids if _is_text(name)])}

    def index_hashes(self) -> None:
        """Make texts findable by hash, which is of no use to who gives all vectors."""
        self.connection.execute("CREATE INDEX IF NOT EXISTS documents_by_hash ON documents (hash)")

    def by_hashes(self, hashes: Iterable[bytes]) -> dict[bytes, Stored]:
        """One document for each hash of a text; missing ones are left out."""
        return {found.hash: found for found in self._by("hash", list(hashes))}

    def _by(self, column: str, values: Sequence[object]) -> Iterator[Stored]:
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT * FROM documents WHERE {column} IN ({marks})"  # noqa: S608
            yield from map(Stored._make, self.connection.execute(query, part))

    def insert(self, documents: Sequence[Stored], indexed: Iterable[str]) -> None:
        """Add documents, inside a transaction."""
        self._insert("documents", documents)
        self.insert_facts(((document.key, document.metadata) for document in documents), sorted(indexed))

    def insert_facts(self, documents: Iterable[tuple[int, str]], fields: Sequence[str]) -> None:
        """Add what some fields of documents hold, given by key and metadata, inside a transaction."""
        if fields:
            self._insert("facts", (fact for key, held in documents for fact in facts_of(key, held, fields)))

    def _insert(self, table: str, rows: Iterable[Sequence[object]]) -> None:
        rest = iter(rows)
        while part := list(islice(rest, _TOGETHER)):
            marks = f"({','.join('?' * len(part[0]))})"
            statement = f"INSERT INTO {table} VALUES {','.join([marks] * len(part))}"  # noqa: S608
            self.connection.execute(statement, list(chain.from_iterable(part)))

    def delete(self, documents: Sequence[Stored], *, dead: Sequence[int]) -> None:
        """Remove documents and mark rows as dead, inside a transaction."""
        keys = [(document.key,) for document in documents]
        self.connection.executemany("DELETE FROM documents WHERE key = ?", keys)
        self.connection.executemany("DELETE FROM facts WHERE document = ?", keys)
        self.connection.executemany("INSERT INTO dead VALUES (?)", [(row,) for row in dead])

    def move_rows(self, keys: Sequence[int]) -> None:
        """Say which rows documents have: the first key has row 0. Inside a transaction."""
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            rows = {key: start + place for place, key in enumerate(part)}
            moved = [changed(found, row=rows[found.key]) for found in self._by("key", part)]
            self.connection.executemany(
                "UPDATE documents SET row = ?, checksum = ? WHERE key = ?",
                [(found.row, found.checksum, found.key) for found in moved],
            )

    def set_blocks(self, file: str, sums: Iterable[tuple[int, int]]) -> None:
        """Write the checksums of blocks, inside a transaction."""
        self.connection.executemany(
            "INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT (file, block) DO UPDATE SET checksum = excluded.checksum",
            [(file, block, value) for block, value in sums],
        )

    def block(self, file: str, block: int) -> int:
        """The checksum of a block so far, 0 where there is none."""
        query = "SELECT checksum FROM blocks WHERE file = ? AND block = ?"
        found = self.connection.execute(query, (file, block)).fetchone()
        return int(found[0]) if found else 0
