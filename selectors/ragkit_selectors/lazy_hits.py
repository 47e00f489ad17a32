"""Lazily created hits of a selection, since many callers need only the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from typing_extensions import override

from ragkit.records import Hit
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.pool import AnyExample, Entry

if TYPE_CHECKING:
    from ragkit_selectors.base import PoolSelector


class Hits(Sequence[Hit]):
    """The hits of a selection, which are created when they are first read."""

    __slots__ = ("_entries", "_found", "_made", "_ranks", "_source", "_text")

    def __init__(
        self, source: PoolSelector, text: str, entries: Sequence[Entry], found: Candidates, ranks: Sequence[int]
    ) -> None:
        self._source, self._text, self._entries, self._found, self._ranks = source, text, entries, found, ranks
        self._made: tuple[Hit, ...] | None = None

    @property
    def given(self) -> list[AnyExample]:
        """The original example or mapping of each hit."""
        return [entry.given for entry in self._entries]

    def _read(self) -> tuple[Hit, ...]:
        if self._made is None:
            scores = self._found.scores.tolist()
            parts = {name: values.tolist() for name, values in self._found.parts.items()}
            self._made = tuple(
                Hit(
                    id=entry.id,
                    score=scores[place],
                    rank=self._ranks[place],
                    text=entry.text,
                    metadata=entry.example.metadata,
                    why=self._source._why(self._text, entry.text, scores[place])
                    | {
                        name: value for name, values in parts.items() if (value := values[place]) == value
                    },  # NaN means that a row has no value
                )
                for place, entry in enumerate(self._entries)
            )
        return self._made

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Hit, ...]: ...
    @override
    def __getitem__(self, place: int | slice) -> Hit | tuple[Hit, ...]:
        return self._read()[place]

    @override
    def __len__(self) -> int:
        return len(self._entries)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Hits, tuple)) and self._read() == tuple(other)

    @override
    def __hash__(self) -> int:
        return hash(self._read())

    @override
    def __repr__(self) -> str:
        return repr(self._read())

    @override
    def __reduce__(self) -> tuple[type, tuple[tuple[Hit, ...]]]:
        return tuple, (self._read(),)  # copies and other processes get a tuple of hits without the selector
