"""A commit as a reader sees it: arrays of a fixed length that never change during a search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ragkit.errors import CorruptIndexError
from ragkit.index._array_file import ArrayFile, Blocks
from ragkit.index._checksum import checksum, name_hashes
from ragkit.index._database import Database
from ragkit.index._exact import Doubt, at_most, doubt_of, float32_error
from ragkit.index._gpu import GpuSegment
from ragkit.index._segment import Segment, SegmentFacts, SegmentFile

_UNIT = np.float64(1.001)  # upper bound on the length of a unit vector rounded to half precision
MAX_DIM = 2**20  # of vectors
_FEW = 16  # up to this number of names, comparing all hashes is faster than sorting
_UNSORTED = 65_536  # new rows that are scanned before all hashes of ids are sorted again


_Count = Annotated[int, Field(ge=0, lt=2**40)]
_Sum = Annotated[int, Field(ge=0, lt=2**63)]


@with_config(ConfigDict(strict=True, extra="forbid"))
class Facts(TypedDict):
    """The database's facts about an index as a whole, which may come from someone else."""

    dim: Annotated[int, Field(ge=1, le=MAX_DIM)]
    dtype: Literal["float32", "float16"]
    metric: Literal["cosine", "ip", "l2"]
    factory: Annotated[str, Field(max_length=200)]
    embedder: Annotated[str, Field(max_length=4000)] | None
    fingerprint: Annotated[str, Field(max_length=4000)] | None
    version: _Sum
    generation: _Sum
    rows: _Count
    next_key: _Count
    dead: _Sum  # checksum of the numbers of the rows without a document
    indexed: dict[str, _Sum]  # the fields whose values are in the table ``facts``, with the checksum of these
    segment: SegmentFacts | None
    tuned: dict[str, float] | None


_FACTS = TypeAdapter(Facts)


def sealed(facts: Facts) -> dict[str, object]:
    """Return facts with a checksum of all of them."""
    return {**facts, "seal": checksum(json.dumps(facts, sort_keys=True).encode())}


def read_facts(database: Database) -> Facts:
    """Return the facts, which the database stores with a checksum.

    Raises:
        CorruptIndexError: If they do not match their checksum.
    """
    found = database.facts()
    seal = found.pop("seal", None)
    found.pop("format", None)
    if seal != checksum(json.dumps(found, sort_keys=True).encode()):
        raise CorruptIndexError(database.path, "the settings of the index are not what was written")
    try:
        facts = _FACTS.validate_python(found)
    except ValidationError as error:
        raise CorruptIndexError(database.path, f"the settings of the index are not valid: {error}") from error
    if facts["segment"] and facts["segment"]["rows"] > facts["rows"]:
        raise CorruptIndexError(database.path, "the approximate part has more rows than the index")
    return facts


def rows_checksum(rows: NDArray[np.integer]) -> int:
    """Return the checksum of row numbers, which must be ascending."""
    return checksum(rows.astype("<i8").tobytes())


class Longest:
    """The maximum length of the vectors in a growing array; each vector is measured once, when needed."""

    def __init__(self) -> None:
        self._known = (0, 0.0)

    def of(self, vectors: NDArray[np.floating]) -> float:
        """Return a close upper bound on the lengths of float[n, d], which begin with the vectors of earlier calls."""
        rows, length = self._known  # read as a pair: another thread may replace both
        if rows < len(vectors):
            length = max(length, float(at_most(vectors[rows:]).max()))
            self._known = len(vectors), length
        return length


class IdHashes:
    """The sort order of the hashes of the ids of all rows, updated only when needed.

    The hashes show without a query that an id is not in the index. Their file is verified block by block, so an id is
    not mistaken for a new one if the database is damaged, as most of its pages have no checksum.
    """

    def __init__(self) -> None:
        self._sorted = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def rows(self, hashes: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows, i64, whose ids have the hashes of some names.

        The hashes of all rows, i64[n], begin with those of earlier calls.
        """
        wanted = np.unique(name_hashes(names))
        ordered, rows = self._sorted  # read as a pair: another thread may replace both
        if len(names) > _FEW and len(hashes) - len(ordered) > max(_UNSORTED, len(ordered) // 8):
            rows = np.argsort(hashes, kind="stable")
            ordered = hashes[rows]
            self._sorted = ordered, rows
        first, stop = (np.searchsorted(ordered, wanted, side) for side in ("left", "right"))
        known = [rows[start:end] for start, end in zip(first.tolist(), stop.tolist(), strict=True) if start < end]
        later = np.flatnonzero(np.isin(hashes[len(ordered) :], wanted)) + len(ordered)
        return np.concatenate([*known, later])


@dataclass(frozen=True)
class State:
    """One commit. The commits of a generation share ``measured`` and ``hashes``."""

    facts: Facts
    vectors: Blocks[np.floating]  # f32 or f16[rows, dim], mapped
    keys: Blocks[np.int64]  # i64[rows], mapped, ascending
    ids: Blocks[np.int64]  # i64[rows], hashes of ids, mapped
    dead: NDArray[np.bool_] | None  # bool[rows], rows without a document; None if all rows have one
    built: SegmentFile | GpuSegment | None = None  # an approximate index over the first rows
    measured: Longest = field(default_factory=Longest)
    hashes: IdHashes = field(default_factory=IdHashes)

    @property
    def blocks(self) -> tuple[Blocks[Any], Blocks[Any], Blocks[Any]]:
        """The blocks of `files`."""
        return self.vectors, self.keys, self.ids

    @property
    def segment(self) -> Segment | GpuSegment | None:
        """The approximate index; None if there is none, or its file is damaged."""
        return self.built.load() if isinstance(self.built, SegmentFile) else self.built

    def rows_of_ids(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of documents whose ids have the hashes of the names; collisions are very rare."""
        rows = self.hashes.rows(self.ids.all(), names)
        return rows if self.dead is None else rows[~self.dead[rows]]

    def rows_of_keys(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each key, with or without a document; -1 if there is none."""
        if not self.facts["rows"]:
            return np.full(len(keys), -1)
        held = self.keys.all()
        rows = np.minimum(np.searchsorted(held, keys), len(held) - 1)  # keys are ascending, as rows are
        return np.where(held[rows] == keys, rows, -1)

    def doubt(self, queries: NDArray[np.float32]) -> Doubt:
        """Return the maximum error of float32 scores, for all queries or f64[m]."""
        if self.facts["metric"] == "cosine":
            return float32_error(self.facts["dim"], _UNIT)
        return doubt_of(queries, self.measured.of(self.vectors.all()), euclidean=self.facts["metric"] == "l2")

    @property
    def live(self) -> int:
        """Number of rows with a document."""
        return self.facts["rows"] - (0 if self.dead is None else int(np.count_nonzero(self.dead)))


def files(folder: Path, facts: Mapping[str, object]) -> tuple[ArrayFile, ArrayFile, ArrayFile]:
    """Return the array files of vectors, keys and hashes of ids, whose names depend only on the generation."""
    dim, generation = int(cast("int", facts["dim"])), int(cast("int", facts["generation"]))
    return (
        ArrayFile(folder / f"vectors-{generation}.bin", (dim,), str(facts["dtype"])),
        ArrayFile(folder / f"keys-{generation}.bin", (), "int64"),
        ArrayFile(folder / f"ids-{generation}.bin", (), "int64"),
    )


def load_state(folder: Path, database: Database, last: State | None = None) -> State:
    """Return the last commit without its segment, inside a snapshot; blocks verified for ``last`` stay verified.

    Raises:
        CorruptIndexError: If the data do not match their checksums.
    """
    facts = read_facts(database)
    if last is not None and last.facts["generation"] != facts["generation"]:
        last = None
    vectors, keys, ids = files(folder, facts)
    state = State(
        facts,
        Blocks(vectors, facts["rows"], database, last.vectors if last else None),
        Blocks(keys, facts["rows"], database, last.keys if last else None),
        Blocks(ids, facts["rows"], database, last.ids if last else None),
        _dead(database, facts),
    )
    return replace(state, measured=last.measured, hashes=last.hashes) if last else state


def _dead(database: Database, facts: Facts) -> NDArray[np.bool_] | None:
    found = database.connection.execute("SELECT row FROM dead ORDER BY row").fetchall()
    try:
        rows = np.array(found, dtype=np.int64).reshape(len(found))
        if rows_checksum(rows) != facts["dead"]:
            raise CorruptIndexError(database.path, "the table of removed rows is not what was written")
        dead = np.zeros(facts["rows"], dtype=np.bool_)
        dead[rows] = True
    except (IndexError, TypeError, ValueError, OverflowError) as error:
        raise CorruptIndexError(database.path, str(error)) from error
    return dead if found else None
