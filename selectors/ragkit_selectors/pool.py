"""The pool of examples of a selector: ids, searched texts, additions, removals and filters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragkit._lexical.analysis import Analyzer
from ragkit._lexical.postings import PostingLists
from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit.where import Condition, fields, matches, parse_where
from ragkit_selectors.example_parsing import read_example

if TYPE_CHECKING:
    from ragkit_selectors.exact_search import FlatVectors

AnyExample = Example | Mapping[str, object]
_COMPACT_FROM = 64
_MOST_MASKS = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """An example in a pool.

    Attributes:
        id: Id of the example in the pool.
        text: The text that is searched.
        example: The example.
        given: The original example or mapping that the user passed in.
    """

    id: str
    text: str
    example: Example
    given: AnyExample


class Pool:
    """Rows of examples. Removed rows stay empty until they are at least half of the rows; then the pool is compacted.

    Attributes:
        key: The part of an input that is searched.
        output: The entry of a mapping that contains the answer.
        entries: The entry of each row; None for a removed row.
        version: A number that grows with every change.
        serial: The number that becomes the id of the next example without an id.
    """

    def __init__(self, examples: Sequence[AnyExample], *, key: str = "input", output: str = "output") -> None:
        """Read the examples."""
        self.key, self.output = key, output
        self.entries: list[Entry | None] = []
        self.version = self.serial = 0
        self._rows: dict[str, int] = {}
        self._postings: dict[Analyzer, PostingLists] = {}
        self._vectors: list[tuple[Callable[[Sequence[str]], NDArray[np.float32]], FlatVectors]] = []
        self._masks: dict[Condition | None, NDArray[np.bool_]] = {}  # excluded rows by filter; None for no filter
        self.append(self.read(examples, "examples"))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Entry:
        entry = self.entries[row]
        if entry is None:
            raise InvalidInputError(f"row {row} of the pool was removed")
        return entry

    def read(self, examples: Sequence[AnyExample], name: str = "examples") -> list[Entry]:
        """Read examples without changing the pool.

        Args:
            examples: Examples or mappings.
            name: Name of the examples in error messages.

        Returns:
            The entries; the id of an example without an id is its serial number.

        Raises:
            InvalidInputError: If an example is invalid, or has the id of another example.
        """
        readable = hasattr(examples, "__iter__") or hasattr(examples, "__getitem__")
        if isinstance(examples, (str, Mapping)) or not readable:
            raise InvalidInputError(f"`{name}` must be a sequence of examples, got {type(examples).__name__}")
        made: list[Entry] = []
        seen: dict[str, str] = {}
        for place, given in enumerate(examples):
            where = f"{name}[{place}]"
            example = read_example(given, where, self.output)
            own = str(self.serial + place) if example.id is None else example.id
            if own in seen or own in self._rows:
                other = seen.get(own, f"row {self._rows.get(own)} of the pool")
                raise InvalidInputError(
                    f"ids must be unique, but {other} and {where} both have id {own!r} "
                    "(an example without an id is called by its position)"
                )
            try:
                text = example.text(self.key)
            except InvalidInputError as error:
                raise InvalidInputError(f"{where}: {error}") from error
            seen[own] = where
            made.append(Entry(own, text, example, given))
        return made

    def add(self, examples: Sequence[AnyExample]) -> list[str]:
        """Append examples and return their ids; after an error, none are added."""
        entries = self.read(examples)
        if entries:
            vectors = [embed([entry.text for entry in entries]) for embed, _ in self._vectors]
            self.append(entries)
            for (_, index), added in zip(self._vectors, vectors, strict=True):
                index.add(added)
        return [entry.id for entry in entries]

    def append(self, entries: Sequence[Entry]) -> None:
        """Append the entries that `read` returned, before vectors are attached."""
        for entry in entries:
            self._rows[entry.id] = len(self.entries)
            self.entries.append(entry)
        self.serial += len(entries)
        for lists in self._postings.values():
            lists.add([entry.text for entry in entries])
        self._changed()

    def remove(self, ids: Collection[str]) -> int:
        """Remove examples and return their number; ids that are not in the pool are ignored."""
        rows = [self._rows.pop(name) for name in dict.fromkeys(ids) if name in self._rows]
        for row in rows:
            self.entries[row] = None
        if rows:
            for lists in self._postings.values():
                lists.remove(rows)
            self._changed()
        if len(self.entries) >= _COMPACT_FROM and 2 * len(self) <= len(self.entries):
            self._compact()
        return len(rows)

    def _compact(self) -> None:
        """Drop the removed rows."""
        kept = self.rows()
        self.entries = [self.entries[row] for row in kept.tolist()]
        self._rows = {self[row].id: row for row in range(len(kept))}
        for lists in self._postings.values():
            lists.compact()
        for _, index in self._vectors:
            index.keep(kept)
        self._changed()

    def attach(self, embed: Callable[[Sequence[str]], NDArray[np.float32]], index: FlatVectors) -> None:
        """Update an index of embeddings, which has a row for each row of the pool, whenever the pool changes."""
        self._vectors.append((embed, index))

    def postings(self, analyzer: Analyzer) -> PostingLists:
        """Return the posting lists of an analyzer, which are built once and updated with the pool."""
        if analyzer not in self._postings:
            lists = self._postings[analyzer] = PostingLists(analyzer)
            lists.add(["" if entry is None else entry.text for entry in self.entries])
            lists.remove(np.flatnonzero(self._removed()))
        return self._postings[analyzer]

    def rows(self) -> NDArray[np.intp]:
        """Return the indices of the rows that were not removed, in ascending order."""
        return np.flatnonzero(~self._removed())

    def row(self, name: str) -> int | None:
        """Return the row of an id; None if the id is not in the pool."""
        return self._rows.get(name)

    def given(self, name: str) -> AnyExample:
        """Return the original example or mapping with this id."""
        return self[self._rows[name]].given

    def excluded(self, where: Mapping[str, object] | None, exclude: Collection[str]) -> NDArray[np.bool_] | None:
        """Return the rows that are removed, excluded or do not match a filter, bool[n]; None if there are none."""
        named = [self._rows[name] for name in exclude if name in self._rows]
        if where is None and not named and len(self) == len(self.entries):
            return None
        excluded = self._removed() if where is None else self._unmatched(where)
        if named:
            excluded = excluded.copy()
            excluded[named] = True
        return excluded

    def _removed(self) -> NDArray[np.bool_]:
        mask = self._masks.get(None)
        if mask is None:
            mask = self._masks[None] = np.array([entry is None for entry in self.entries], dtype=np.bool_)
        return mask

    def _unmatched(self, where: Mapping[str, object]) -> NDArray[np.bool_]:
        condition = parse_where(where)
        mask = self._masks.get(condition)
        if mask is None:
            known = {field for entry in self.entries if entry for field in entry.example.metadata or ()}
            for field in sorted(fields(condition) - known):
                close = get_close_matches(field, known, n=1)
                meant = f" Did you mean {close[0]!r}?" if close else ""
                raise InvalidInputError(
                    f"`where` names {field!r}, which no example's metadata has.{meant} Known: {sorted(known)}"
                )
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            mask = self._masks[condition] = np.array(
                [entry is None or not matches(condition, entry.example.metadata) for entry in self.entries],
                dtype=np.bool_,
            )
        return mask

    def _changed(self) -> None:
        self.version += 1
        self._masks.clear()
