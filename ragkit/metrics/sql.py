"""Execution accuracy: an SQL query is correct if it returns the same rows as the expected query."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from ragkit.errors import InvalidInputError
from ragkit.files import file_sha256

Rows = list[tuple[object, ...]]

# The actions that reading needs. All others are denied: writing, ATTACH, PRAGMA, transactions, virtual tables.
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_REFUSED_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
_LARGEST_VALUE = 1_000_000  # bytes; the time limit does not interrupt a single call such as randomblob(1e9)
_LARGEST_RESULT = 50_000_000  # characters and bytes of all values together
_STEPS = 1000  # instructions of SQLite's virtual machine between two checks of the time limit
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")
_ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SqlMatch:
    """A metric that is 1.0 if a query returns the same rows as the expected query; a query that fails is wrong.

    Queries run read-only on a SQLite file, with one statement each, within limits. Rows are compared in order if the
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
        except (sqlite3.Error, sqlite3.Warning):
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
            sqlite3.OperationalError: If the query returns too many or too long rows, exceeds the time limit, writes, or
                fails; SQLite may also raise other errors of sqlite3.
        """
        address = f"file:{quote(str(Path(self.database).absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
            connection.set_authorizer(_authorise)
            end = monotonic() + self.seconds
            connection.set_progress_handler(lambda: monotonic() > end, _STEPS)
            # SQLite does not check that text is valid UTF-8.
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            rows: Rows = []
            size = 0
            for row in connection.execute(query):
                rows.append(row)
                size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
                if len(rows) > self.most_rows:
                    raise sqlite3.OperationalError(f"more than {self.most_rows} rows")
                if size > _LARGEST_RESULT:
                    raise sqlite3.OperationalError(f"more than {_LARGEST_RESULT} characters")
        return rows

    def _run(self, query: str, *, what: str) -> Rows:
        try:
            return self.rows(query)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise InvalidInputError(f"{what} cannot be read: {error} ({self.database}; {query[:200]!r})") from error


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
