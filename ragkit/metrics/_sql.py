"""Execution accuracy: an SQL query is correct if it returns the same rows as the expected query."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from ragkit._files import file_sha256
from ragkit._isolated import IsolatedProcess, IsolationError
from ragkit.errors import InvalidInputError

Rows = list[tuple[object, ...]]

# The actions that reading needs. All others are denied: writing, ATTACH, PRAGMA, transactions, virtual tables.
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_REFUSED_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
_LARGEST_RESULT = 50_000_000  # characters and bytes of all values together
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,  # the time limit does not interrupt a single call such as randomblob(1e9)
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_MEBIBYTES = 512  # of a query, in addition to those of an idle process
_HEAP_BYTES = 256 * 2**20  # of SQLite
_TEMPORARY_BYTES = 256 * 2**20  # of a file for sorting
_STEPS = 1000  # instructions of SQLite's virtual machine between two checks of the time limit
_SECONDS_TO_ANSWER = 1  # in addition to the time limit, for a query that ends in time and gives many rows
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")
_ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SqlMatch:
    """A metric that is 1.0 if a query returns the same rows as the expected query; a query that fails is wrong.

    Queries run read-only on a SQLite file, with one statement each, in a child process with limits of time and memory,
    which also apply while SQLite prepares a statement. Rows are compared in order if the
    outermost expected query has ORDER BY, otherwise as multisets. Columns are compared by position, whatever their
    names, and real numbers to nine significant digits. The metric is called execution accuracy (Yu et al., "Spider",
    EMNLP 2018).

    Attributes:
        database: The SQLite file.
        seconds: Time limit of a query.
        most_rows: Maximum number of rows of a query.
    """

    database: str | Path
    seconds: float = 5.0
    most_rows: int = 10_000

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.most_rows < 1:
            raise InvalidInputError(
                f"`seconds` must be above 0 and `most_rows` at least 1, got {self.seconds} and {self.most_rows}"
            )
        self._run("SELECT count(*) FROM sqlite_master", what="the database")

    @property
    def name(self) -> str:
        """The spec that loads the same metric."""
        return f"sql:{self.database}"

    @property
    def fingerprint(self) -> str:
        """A fingerprint that is equal only for the same database content and limits."""
        digest = file_sha256(Path(self.database))[:16]
        return f"sql:{digest}:{self.seconds}:{self.most_rows}"

    def __call__(self, answer: str, expected: str) -> float:
        """Run both queries and compare their rows.

        Args:
            answer: A query.
            expected: The correct query.

        Returns:
            1.0 or 0.0.

        Raises:
            InvalidInputError: If the expected query cannot run within the limits.
        """
        wanted = self._run(expected, what="the expected query")
        try:
            found = self.rows(answer)
        except sqlite3.OperationalError:
            return 0.0
        if _ORDER_BY.search(_outermost(expected)):
            return float(list(map(_rounded, found)) == list(map(_rounded, wanted)))
        return float(Counter(map(_rounded, found)) == Counter(map(_rounded, wanted)))

    def rows(self, query: str) -> Rows:
        """Run a query.

        Args:
            query: A SELECT statement.

        Returns:
            The rows.

        Raises:
            sqlite3.OperationalError: If the query returns too many or too long rows, exceeds the limits of time or
                memory, writes, is not valid Unicode, or fails.
        """
        database = str(Path(self.database).absolute())
        try:
            request = json.dumps([database, query, self.seconds, self.most_rows]).encode()
            reply = json.loads(_PROCESS.ask(request, seconds=self.seconds + _SECONDS_TO_ANSWER))
        except IsolationError as error:
            raise sqlite3.OperationalError(f"the query {error}") from error
        if isinstance(reply, str):
            raise sqlite3.OperationalError(reply)
        return [tuple(bytes.fromhex(each[0]) if isinstance(each, list) else each for each in row) for row in reply]

    def _run(self, query: str, *, what: str) -> Rows:
        try:
            return self.rows(query)
        except sqlite3.OperationalError as error:
            raise InvalidInputError(f"{what} cannot be read: {error} ({self.database}; {query[:200]!r})") from error


_PROCESS = IsolatedProcess("ragkit.metrics._sql:answer_request", mebibytes=_MEBIBYTES, written_bytes=_TEMPORARY_BYTES)


def answer_request(request: bytes) -> bytes:
    """Run a query, in the child process.

    Args:
        request: The database, the query and its limits as JSON.

    Returns:
        The rows as JSON, with bytes as lists of one hexadecimal text; or the error as a text.
    """
    try:
        rows = _fetch(*json.loads(request))
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
        return json.dumps(str(error)).encode()
    encodable = [[[each.hex()] if isinstance(each, bytes) else each for each in row] for row in rows]
    return json.dumps(encodable, ensure_ascii=False).encode()


def _fetch(database: str, query: str, seconds: float, most_rows: int) -> Rows:
    with closing(sqlite3.connect(f"file:{quote(database)}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA hard_heap_limit = {_HEAP_BYTES}")
        connection.execute("PRAGMA trusted_schema = OFF")
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.set_authorizer(_authorise)
        end = monotonic() + seconds
        connection.set_progress_handler(lambda: monotonic() > end, _STEPS)
        # SQLite does not check that text is valid UTF-8.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        rows: Rows = []
        size = 0
        for row in connection.execute(query):
            rows.append(row)
            size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
            if len(rows) > most_rows:
                raise sqlite3.OperationalError(f"more than {most_rows} rows")
            if size > _LARGEST_RESULT:
                raise sqlite3.OperationalError(f"more than {_LARGEST_RESULT} characters")
    return rows


def _authorise(action: int, _: str | None, function: str | None, *__: object) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (function or "").lower() in _REFUSED_FUNCTIONS else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _outermost(query: str) -> str:
    """Return a query without its strings, comments and parenthesised parts."""
    text, shorter = "", _QUOTED.sub(" ", query)
    while text != shorter:
        text, shorter = shorter, _INNERMOST.sub(" ", shorter)
    return text


def _rounded(row: Sequence[object]) -> tuple[object, ...]:
    return tuple(float(f"{value:.9g}") if isinstance(value, float) else value for value in row)
