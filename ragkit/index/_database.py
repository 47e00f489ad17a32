"""Documents, metadata and commit records in SQLite; its transactions are the commits of an index."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import override

from ragkit._text import shown
from ragkit.errors import CorruptIndexError, IntegrityError
from ragkit.index._checksum import BITS, checksum
from ragkit.index._connections import DAMAGE, Connections
from ragkit.index._field_values import value_sums, values_of

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
_TABLES = {found[1]: found[0] for found in re.finditer(r"CREATE TABLE (\w+) .*?(?=;)", " ".join(_SCHEMA.split()))}
_INDEX = re.compile(r"|CREATE INDEX \w+ ON \w+ \([\w, ]+\)")  # without expressions; SQLite's own have no SQL
AT_ONCE = 5000  # values bound per statement
_TYPES = (int, str, int, bytes, int, str)  # of a document without its text
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


def stored(key: int, name: str, row: int, digest: bytes, metadata: str, text: str) -> Stored:
    """Return a document with its checksum."""
    return Stored(key, name, row, digest, _checksum(key, name, row, digest, metadata), metadata, text)


def content_hash(text: str) -> bytes:
    """Return 16 bytes of blake2b, which identify texts that were embedded before."""
    return blake2b(text.encode(), digest_size=16).digest()


def _checksum(key: int, name: str, row: int, digest: bytes, metadata: str) -> int:
    """Return the checksum of a document; the hash represents its text."""
    return checksum(digest + f"{key} {row} {name}\0{metadata}".encode())


def is_bare(folder: Path) -> bool:
    """Return whether a database has no tables, because its creation was interrupted before the first commit."""
    with closing(Database(folder, read_only=True)) as database:
        try:
            return database.connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
        except (IntegrityError, *DAMAGE):
            return False


def is_text(name: str) -> bool:
    """Return whether a string can be stored: lone surrogates cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Database(Connections):
    """The tables of an index. Every document is verified against its checksum when it is read."""

    def __init__(self, folder: Path, *, read_only: bool, durable: bool = True) -> None:
        """Set the folder of the index; see `Connections` for the other arguments."""
        super().__init__(folder / NAME, read_only=read_only, durable=durable)

    @override
    def _check_schema(self, connection: sqlite3.Connection) -> None:
        """Reject views, triggers, virtual tables and other tables, in which queries would run foreign SQL."""
        found = connection.execute("SELECT type, name, CAST(coalesce(sql, '') AS TEXT) FROM sqlite_master").fetchall()
        tables = {name: " ".join(sql.split()) for kind, name, sql in found if kind == "table"}
        plain = (kind == "table" or (kind == "index" and _INDEX.fullmatch(sql)) for kind, _, sql in found)
        if found and not (tables == _TABLES and all(plain)):
            if tables.get("facts_of_index") == _TABLES["facts_of_index"]:
                self._check_format(connection)
            raise CorruptIndexError(self.path, "its tables are not those that ragkit creates")

    def _check_format(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM facts_of_index WHERE name = 'format'").fetchone()
        if row is None or row[0] != json.dumps(FORMAT):
            raise IntegrityError(
                f"{self.path} has format {shown(row and row[0])}, but this version of ragkit reads format {FORMAT}. An "
                "index of format 1 was written by ragkit 0.1: create a new index and add its documents again "
                "(`ragkit index build`). A later format requires a newer ragkit"
            )

    # -- facts about the index as a whole ------------------------------------------------------------------------------

    def create(self, facts: Mapping[str, object]) -> None:
        """Create the tables and write the first facts."""
        with self.transaction() as connection:
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            self.set_facts({"format": FORMAT, **facts})

    def facts(self) -> dict[str, object]:
        """Return the facts about the index as a whole, by name.

        Raises:
            CorruptIndexError: If the database cannot be read.
            IntegrityError: If it has another format.
        """
        connection = self.connection
        try:
            found = {name: json.loads(value) for name, value in connection.execute("SELECT * FROM facts_of_index")}
        except (sqlite3.DatabaseError, ValueError, TypeError, RecursionError) as error:
            raise CorruptIndexError(self.path, str(error)) from error
        self._check_format(connection)
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

    def blocks(self, file: str, first: int) -> list[tuple[int, int]]:
        """Return the numbers and checksums of the blocks of a file from a number on."""
        query = "SELECT block, checksum FROM blocks WHERE file = ? AND block >= ?"
        return self.connection.execute(query, (file, first)).fetchall()

    def set_blocks(self, file: str, sums: Iterable[tuple[int, int]]) -> None:
        """Write the checksums of blocks, inside a transaction."""
        self.connection.executemany(
            "INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT (file, block) DO UPDATE SET checksum = excluded.checksum",
            [(file, block, value) for block, value in sums],
        )

    # -- reading documents ---------------------------------------------------------------------------------------------

    def by_keys(self, keys: Iterable[int]) -> dict[int, Stored]:
        """Return documents by key; unknown keys are ignored.

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
        for start in range(0, len(values), AT_ONCE):
            part = values[start : start + AT_ONCE]
            query = f"SELECT * FROM documents WHERE {column} IN ({marks(part)})"  # noqa: S608
            yield from self._checked(self.connection.execute(query, part))

    def every(self) -> Iterator[Stored]:
        """Iterate over all documents."""
        return self._checked(self.connection.execute("SELECT * FROM documents"))

    def listed(self) -> Iterator[Stored]:
        """Iterate over all documents with an empty text, which is not read."""
        for each in self.connection.execute("SELECT key, id, row, hash, checksum, metadata FROM documents"):
            self.check(each)
            yield Stored._make((*each, ""))

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

    def check(self, document: Sequence[Any]) -> None:
        """Verify the fields of a `Stored` without its text against its checksum.

        Raises:
            CorruptIndexError: If the document does not match its checksum.
        """
        key, name, row, digest, told, metadata = document
        types = tuple(map(type, document))  # a corrupted byte can change the type of any value
        if types != _TYPES or _checksum(key, name, row, digest, metadata) != told:
            raise CorruptIndexError(self.path, f"document {shown(name)} is not what was written")

    # -- writing documents, inside a transaction -----------------------------------------------------------------------

    def insert(self, documents: Sequence[Stored], indexed: Iterable[str]) -> dict[str, int]:
        """Add documents; return the checksums of the values of indexed fields that were added."""
        self._insert("documents", documents)
        return self.insert_values(((document.key, document.metadata) for document in documents), sorted(indexed))

    def insert_values(self, documents: Iterable[tuple[int, str]], fields: Sequence[str]) -> dict[str, int]:
        """Add the values of fields of documents, given by key and metadata; return the checksum of each field."""
        sums = dict.fromkeys(fields, 0)
        values = (value for key, held in documents for value in values_of(key, held, fields)) if fields else iter(())
        while part := list(islice(values, AT_ONCE)):
            self._insert("facts", part)
            sums |= {field: (sums[field] + own) % BITS for field, own in value_sums(part).items()}
        return sums

    def _insert(self, table: str, rows: Iterable[Sequence[object]]) -> None:
        rest = iter(rows)
        while part := list(islice(rest, _TOGETHER)):
            statement = f"INSERT INTO {table} VALUES {','.join([f'({marks(part[0])})'] * len(part))}"  # noqa: S608
            self.connection.execute(statement, list(chain.from_iterable(part)))

    def delete(self, documents: Sequence[Stored], *, dead: Sequence[int]) -> None:
        """Remove documents and mark rows as dead."""
        keys = [(document.key,) for document in documents]
        self.connection.executemany("DELETE FROM documents WHERE key = ?", keys)
        self.connection.executemany("DELETE FROM facts WHERE document = ?", keys)
        self.connection.executemany("INSERT INTO dead VALUES (?)", [(row,) for row in dead])

    def move_rows(self, keys: Sequence[int]) -> None:
        """Assign rows to documents in the order of the given keys, from row 0."""
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            rows = {key: start + place for place, key in enumerate(part)}
            found = list(self._by("key", part))
            if len(found) < len(part):
                raise CorruptIndexError(self.path, f"{len(part) - len(found)} documents are missing")
            moved = [(rows[key], name, digest, held, key) for key, name, _, digest, _, held, _ in found]
            self.connection.executemany(
                "UPDATE documents SET row = ?, checksum = ? WHERE key = ?",
                [(row, _checksum(key, name, row, digest, held), key) for row, name, digest, held, key in moved],
            )


def marks(values: Sequence[object]) -> str:
    """Return one placeholder of SQL for each value."""
    return ",".join("?" * len(values))
