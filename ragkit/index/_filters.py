"""Evaluation of metadata filters: which rows match.

Conditions on indexed fields are evaluated in SQL over the table ``facts``, with one small statement per condition, and
combined as masks over the rows. For other fields, the metadata are read and evaluated by `ragkit.where`. SQLite never
parses JSON: some of its releases parse floats of 17 digits incorrectly, and some truncate text at a NUL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import CorruptIndexError
from ragkit.index._database import AT_ONCE, Database, marks
from ragkit.index._field_values import comparable, metadata_of, value_sums
from ragkit.index._snapshot import State
from ragkit.where import MISSING, All, AnyOf, Condition, Equals, Exists, Key, Not, Ordered, fields, parse_where

_KEPT = 16  # number of filters whose rows are cached
_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_Mask = NDArray[np.bool_]


class Filters:
    """The rows that match filters, with a cache of the last few filters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[int, Condition], NDArray[np.int64]] = {}
        self._checked: set[str] = set()  # fields whose values have been verified
        self._read = -1, np.zeros(0, dtype=np.bool_)  # generation, and its rows whose documents have been verified

    def rows(self, state: State, where: Mapping[str, object]) -> NDArray[np.int64]:
        """Return the rows that match a filter, i64, ascending, inside a snapshot of the commit."""
        name = (state.facts["version"], parse_where(where))
        found = self._known.get(name)
        if found is None:
            self._check(state, fields(name[1]))
            found = np.flatnonzero(_Reader(self._database, state, self._rows_read(state)).mask(name[1]))
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[name] = found
        return found

    def _rows_read(self, state: State) -> _Mask:
        """Return the mask of rows whose documents were verified before; the caller updates it."""
        generation, rows = self._read  # read as a pair: another thread may replace both
        if generation != state.facts["generation"]:
            rows = rows[:0]
        if len(rows) < state.facts["rows"]:
            rows = np.concatenate([rows, np.zeros(state.facts["rows"] - len(rows), dtype=np.bool_)])
            self._read = state.facts["generation"], rows
        return rows

    def _check(self, state: State, asked: Iterable[str]) -> None:
        """Verify the values of fields on first use."""
        for field in (set(asked) & state.facts["indexed"].keys()) - self._checked:
            query = "SELECT document, field, kind, value FROM facts WHERE field = ?"
            sums = value_sums(self._database.connection.execute(query, (field,)))
            if sums.get(field, 0) != state.facts["indexed"][field]:
                raise CorruptIndexError(self._database.path, f"the values of the field {field!r} are not those written")
            self._checked.add(field)


class _Reader:
    """Evaluates conditions on the documents of one commit."""

    def __init__(self, database: Database, state: State, read: _Mask) -> None:
        self._database, self._connection = database, database.connection
        self._state, self._read = state, read

    def mask(self, condition: Condition) -> _Mask:
        """Return the mask of rows whose documents fulfil a condition."""
        state, indexed = self._state, set(self._state.facts["indexed"])
        found = np.ones(state.facts["rows"], dtype=np.bool_) if state.dead is None else ~state.dead
        rest: list[Condition] = []
        for part in condition.conditions if isinstance(condition, All) else (condition,):
            if fields(part) <= indexed:
                found &= self._by_values(part)
            else:
                rest.append(part)
        return self._by_metadata(All(tuple(rest)), np.flatnonzero(found)) if rest else found

    def _by_metadata(self, condition: Condition, rows: NDArray[np.intp]) -> _Mask:
        mask = np.zeros(self._state.facts["rows"], dtype=np.bool_)
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            mask[part] = [condition.holds(held) for held in self._parsed(part)]
        return mask

    def _parsed(self, rows: NDArray[np.intp]) -> list[dict[str, object]]:
        metadata = self._metadata_of(rows)
        try:
            found: list[dict[str, object]] = json.loads(f"[{','.join(metadata)}]")  # four times as fast as many calls
        except (ValueError, RecursionError):
            found = []
        if len(found) == len(rows) and all(type(each) is dict for each in found):
            return found
        return [
            metadata_of(each, key) for each, key in zip(metadata, self._state.keys.take(rows).tolist(), strict=True)
        ]

    def _metadata_of(self, rows: NDArray[np.intp]) -> list[str]:
        """Return the metadata of the documents of some rows; each document is verified when it is first read."""
        keys, is_read = self._state.keys.take(rows).tolist(), self._read[rows].all()
        columns = "metadata" if is_read else "key, id, row, hash, checksum, metadata"
        query = f"SELECT {columns} FROM documents WHERE key IN ({marks(keys)}) ORDER BY key"  # noqa: S608
        found = self._connection.execute(query, keys).fetchall()  # keys are ascending, as rows are
        if len(found) < len(keys):
            raise CorruptIndexError(self._database.path, f"{len(keys) - len(found)} documents are missing")
        if not is_read:
            for each in found:
                self._database.check(each)
            self._read[rows] = True
        return [each[-1] for each in found]

    def _by_values(self, condition: Condition) -> _Mask:
        match condition:
            case Equals(field, keys):
                found = self._having(field, _equal(keys))
                return found | ~self._having(field, [("", [])]) if MISSING in keys else found
            case Ordered(field, order, key):
                return self._having(field, [(f"AND kind = ? AND value {_SIGNS[order]} ?", comparable(key))])
            case Exists(field):
                return self._having(field, [("", [])])
            case Not(inner):
                return ~self._by_values(inner)
            case All(conditions) | AnyOf(conditions):
                combine = np.logical_and if isinstance(condition, All) else np.logical_or
                found = np.full(self._state.facts["rows"], isinstance(condition, All))
                for each in conditions:
                    combine(found, self._by_values(each), out=found)
                return found

    def _having(self, field: str, tests: Iterable[tuple[str, Sequence[object]]]) -> _Mask:
        """Return the mask of rows with a value of this field that passes one of the tests, given as SQL and values."""
        mask = np.zeros(self._state.facts["rows"], dtype=np.bool_)
        for test, bound in tests:
            query = f"SELECT document FROM facts WHERE field = ? {test}"  # noqa: S608 - every value is bound
            found = self._connection.execute(query, [field, *bound])
            # Keys are ascending, as rows are.
            mask[np.searchsorted(self._state.keys.all(), np.fromiter((key for (key,) in found), dtype=np.int64))] = True
        return mask


def _equal(keys: Iterable[Key]) -> Iterator[tuple[str, Sequence[object]]]:
    facts = [comparable(key) for key in keys]
    for kind in sorted({kind for kind, _ in facts}):
        values = [value for own, value in facts if own == kind]
        for start in range(0, len(values), AT_ONCE):
            part = values[start : start + AT_ONCE]
            yield f"AND kind = ? AND value IN ({marks(part)})", [kind, *part]
