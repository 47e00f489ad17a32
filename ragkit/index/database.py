"""Documents, metadata and commit records in SQLite; its transactions are the commits of an index."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from threading import RLock, local
from typing import Any, NamedTuple
from weakref import WeakSet

from ragkit.errors import CorruptIndexError, IntegrityError, InvalidInputError, RagkitError
from ragkit.files import create_private
from ragkit.forks import outlive
from ragkit.index.checksum import BITS, checksum
from ragkit.index.metadata import facts_of

FORMAT = 2  # 1: ragkit 0.1
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
_AT_ONCE = 5000  # values bound per statement
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter if SQLite quotes damaged names
_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_TOGETHER = 50  # rows inserted per statement, in 75% of the time of single inserts


class Stored(NamedTuple):
    """A document as stored. The text is the last column, so that reads of other columns skip it."""

    key: int
    id: str
    row: int
    hash: bytes
    checksum: int
    metadata: str
    text: str


def content_hash(text: str) -> bytes:
    """Return 16 bytes of blake2b, which identify texts that were embedded before."""
    return blake2b(text.encode(), digest_size=16).digest()


def document_checksum(key: int, name: str, row: int, metadata: str, digest: bytes) -> int:
    """Compute the checksum that is stored with a document; the hash represents its text."""
    return checksum(digest + f"{key} {row} {name}\0{metadata}".encode())


def fact_sums(facts: Iterable[Sequence[object]]) -> dict[str, int]:
    """Compute an order-independent checksum of facts for each field.

    Args:
        facts: Rows of the table ``facts``.

    Returns:
        Checksums by field; those of several documents are added modulo `BITS`.
    """
    sums: dict[str, int] = {}
    for key, field, kind, value in facts:
        sums[str(field)] = (sums.get(str(field), 0) + checksum(f"{key} {kind} {value!r}".encode())) % BITS
    return sums


def changed(document: Stored, *, row: int | None = None, metadata: str | None = None) -> Stored:
    """Return a document with another row or other metadata, and a new checksum."""
    new_row, held = document.row if row is None else row, document.metadata if metadata is None else metadata
    sealed = document_checksum(document.key, document.id, new_row, held, document.hash)
    return document._replace(row=new_row, metadata=held, checksum=sealed)


def is_bare(folder: Path) -> bool:
    """Return whether a database has no tables, because its creation was interrupted before the first commit."""
    try:
        with closing(sqlite3.connect(folder / NAME)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    except DAMAGE:
        return False


def is_text(name: str) -> bool:
    """Return whether a string can be stored: lone surrogates cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _end(connection: sqlite3.Connection) -> None:
    """Roll back uncommitted changes, unless SQLite has done so, as it does when a disk is full."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


class _Held:
    """A connection that is closed when its thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lock = RLock()  # held while the connection is used, and while another thread closes it
        self._process = os.getpid()

    def __del__(self) -> None:
        if self._process == os.getpid():
            self.connection.close()
        else:
            outlive(self.connection)


class Database:
    """One SQLite file, with a connection for each thread."""

    def __init__(self, folder: Path, *, read_only: bool, durable: bool = True) -> None:
        """Set the path of the file; connections are opened on first use.

        Args:
            folder: The folder of the index.
            read_only: Whether writing is disabled.
            durable: Whether commits wait until the data are on disk.
        """
        self.path = folder / NAME
        self._read_only, self._durable = read_only, durable
        self._local = local()
        self._opened: WeakSet[_Held] = WeakSet()
        self._closed = False

    @property
    def in_use(self) -> AbstractContextManager[bool]:
        """Return the lock of this thread's connection; while it is held, no other thread closes the connection."""
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
        mode = "ro" if self._read_only else "rw"
        if not self._read_only:
            create_private(self.path)
        opened = self._try(f"{self.path.as_uri()}?mode={mode}")
        if self._read_only:
            try:
                opened.execute("SELECT 1 FROM facts_of_index LIMIT 1").fetchone()
            except sqlite3.OperationalError:  # the write-ahead log cannot be created in this folder
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

    def _is_closed(self) -> InvalidInputError:
        return InvalidInputError(f"{self.path.parent} is closed; open it again")

    def create(self, facts: Mapping[str, object]) -> None:
        """Create the tables and write the first facts."""
        with self.transaction() as connection:
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            self.set_facts({"format": FORMAT, **facts})

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction, which is rolled back on errors.

        Yields:
            The connection of this thread.

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

    def begin(self) -> None:
        """Begin a snapshot: until `end`, all reads of this thread see the same commit."""
        self.connection.execute("BEGIN")

    def end(self) -> None:
        """End the snapshot of `begin`. Safe to call twice."""
        if not self._closed:
            _end(self.connection)

    def unreadable(self, error: Exception) -> RagkitError:
        """Convert one of the errors in `DAMAGE` to an error for users."""
        if self._closed:
            return self._is_closed()
        return CorruptIndexError(self.path, str(error))

    def facts(self) -> dict[str, object]:
        """Return the facts about the index as a whole.

        Returns:
            Values by name.

        Raises:
            CorruptIndexError: If the database cannot be read.
            IntegrityError: If it has another format.
        """
        connection = self.connection
        try:
            found = {name: json.loads(value) for name, value in connection.execute("SELECT * FROM facts_of_index")}
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise CorruptIndexError(self.path, str(error)) from error
        if found.get("format") != FORMAT:
            raise IntegrityError(
                f"{self.path} has format {found.get('format')!r}, but this version of ragkit reads format {FORMAT}. An "
                "index of format 1 was written by ragkit 0.1: create a new index and add its documents again "
                "(`ragkit index build`). A later format requires a newer ragkit"
            )
        return found

    def version(self) -> int:
        """Return the number of the commit that the snapshot sees."""
        found = self.connection.execute("SELECT value FROM facts_of_index WHERE name = 'version'").fetchone()
        try:
            return int(found[0])
        except (TypeError, ValueError) as error:
            raise CorruptIndexError(self.path, "the number of the last commit is missing") from error

    def set_facts(self, facts: Mapping[str, object]) -> None:
        """Write facts, inside a transaction."""
        self.connection.executemany(
            "INSERT INTO facts_of_index VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [(name, json.dumps(value)) for name, value in facts.items()],
        )

    def by_keys(self, keys: Iterable[int]) -> dict[int, Stored]:
        """Read documents by key; unknown keys are ignored.

        Args:
            keys: The keys.

        Returns:
            The documents.

        Raises:
            CorruptIndexError: If the database cannot be read, or if a document does not match its checksum.
        """
        try:
            with self.in_use:
                return {found.key: found for found in self._by("key", list(keys))}
        except DAMAGE as error:
            raise self.unreadable(error) from error

    def by_ids(self, ids: Iterable[str]) -> dict[str, Stored]:
        """Read documents by id; unknown ids are ignored."""
        return {found.id: found for found in self._by("id", [name for name in ids if is_text(name)])}

    def index_hashes(self) -> None:
        """Create the index of text hashes, which is not needed if the user passes all vectors."""
        self.connection.execute("CREATE INDEX IF NOT EXISTS documents_by_hash ON documents (hash)")

    def by_hashes(self, hashes: Iterable[bytes]) -> dict[bytes, Stored]:
        """Read one document for each hash of a text; unknown hashes are ignored."""
        return {found.hash: found for found in self._by("hash", list(hashes))}

    def _by(self, column: str, values: Sequence[object]) -> Iterator[Stored]:
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT * FROM documents WHERE {column} IN ({marks})"  # noqa: S608
            yield from self._checked(self.connection.execute(query, part))

    def every(self) -> Iterator[Stored]:
        """Iterate over all documents."""
        return self._checked(self.connection.execute("SELECT * FROM documents"))

    def _checked(self, found: Iterable[Sequence[Any]]) -> Iterator[Stored]:
        for each in map(Stored._make, found):
            self.check(each[:-1])
            try:
                intact = content_hash(each.text) == each.hash
            except (AttributeError, UnicodeEncodeError):
                intact = False
            if not intact:
                raise CorruptIndexError(self.path, f"the text of document {each.id!r} is not what was written")
            yield each

    def check(self, stored: Sequence[Any]) -> None:
        """Verify a document against its checksum.

        Args:
            stored: The fields of `Stored`, without the text.

        Raises:
            CorruptIndexError: If the document does not match its checksum.
        """
        key, name, row, digest, told, metadata = stored
        try:
            intact = document_checksum(key, name, row, metadata, digest) == told
        except (TypeError, UnicodeEncodeError):  # a corrupted byte can change the type of any value
            intact = False
        if not intact:
            raise CorruptIndexError(self.path, f"document {name!r} is not what was written")

    def insert(self, documents: Sequence[Stored], indexed: Iterable[str]) -> dict[str, int]:
        """Add documents, inside a transaction.

        Returns:
            The checksums of the added facts, by field.
        """
        self._insert("documents", documents)
        return self.insert_facts(((document.key, document.metadata) for document in documents), sorted(indexed))

    def insert_facts(self, documents: Iterable[tuple[int, str]], fields: Sequence[str]) -> dict[str, int]:
        """Add the facts of documents, given by key and metadata, for some fields, inside a transaction.

        Returns:
            The checksums of the added facts, by field.
        """
        sums = dict.fromkeys(fields, 0)
        facts = (fact for key, held in documents for fact in facts_of(key, held, fields)) if fields else iter(())
        while part := list(islice(facts, _AT_ONCE)):
            self._insert("facts", part)
            sums |= {field: (sums[field] + own) % BITS for field, own in fact_sums(part).items()}
        return sums

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
        """Assign rows to documents in the order of the given keys, from row 0, inside a transaction."""
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            rows = {key: start + place for place, key in enumerate(part)}
            moved = [changed(found, row=rows[found.key]) for found in self._by("key", part)]
            if len(moved) < len(part):
                raise CorruptIndexError(self.path, f"{len(part) - len(moved)} documents are missing")
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

    def blocks(self, file: str, first: int) -> list[tuple[int, int]]:
        """Return the numbers and checksums of the blocks of a file from a number on."""
        query = "SELECT block, checksum FROM blocks WHERE file = ? AND block >= ?"
        return self.connection.execute(query, (file, first)).fetchall()
