"""A commit as a reader sees it: arrays of a fixed length that never change during a search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import CorruptIndexError
from ragkit.index.array_file import ArrayFile
from ragkit.index.blocks import Blocks
from ragkit.index.checksum import checksum
from ragkit.index.database import Database
from ragkit.index.exact import Doubt, at_most, doubt_of, float32_error
from ragkit.index.gpu import GpuSegment
from ragkit.index.ids import IdHashes
from ragkit.index.segment import Segment, SegmentFacts, SegmentFile

_UNIT = np.float64(1.001)  # upper bound on the length of a unit vector rounded to half precision


class Facts(TypedDict):
    """The database's facts about an index as a whole.

    Attributes:
        dead: Checksum of the numbers of the rows without a document.
        indexed: The fields whose values are in the table ``facts``, each with the checksum of its facts.
    """

    dim: int
    dtype: str
    metric: str
    factory: str
    embedder: str | None
    fingerprint: str | None
    version: int
    generation: int
    rows: int
    next_key: int
    dead: int
    indexed: dict[str, int]
    segment: SegmentFacts | None
    tuned: dict[str, float] | None


def sealed(facts: Facts) -> dict[str, object]:
    """Return facts with a checksum of all of them."""
    return {**facts, "seal": checksum(json.dumps(facts, sort_keys=True).encode())}


def read_facts(database: Database) -> Facts:
    """Read the facts and verify their checksum.

    Args:
        database: The database.

    Returns:
        The facts.

    Raises:
        CorruptIndexError: If they do not match the checksum.
    """
    found = database.facts()
    seal = found.pop("seal", None)
    found.pop("format", None)
    if seal != checksum(json.dumps(found, sort_keys=True).encode()):
        raise CorruptIndexError(database.path, "the settings of the index are not what was written")
    return cast("Facts", found)


def rows_checksum(rows: NDArray[np.integer]) -> int:
    """Compute the checksum of row numbers, which must be ascending."""
    return checksum(rows.astype("<i8").tobytes())


class Longest:
    """The maximum length of the vectors in a growing array; each vector is measured once, when needed."""

    def __init__(self) -> None:
        """Start without vectors."""
        self._known = (0, 0.0)

    def of(self, vectors: NDArray[np.floating]) -> float:
        """Return an upper bound on the length of all vectors.

        Args:
            vectors: float[n, d]; those of earlier calls come first.

        Returns:
            A bound that is only slightly larger than the longest vector.
        """
        rows, length = self._known  # read as a pair: another thread may replace both
        if rows < len(vectors):
            length = max(length, float(at_most(vectors[rows:]).max()))
            self._known = len(vectors), length
        return length


@dataclass(frozen=True)
class State:
    """One commit.

    Attributes:
        facts: The facts in the database.
        vector_blocks: f32 or f16[rows, dim], mapped.
        key_blocks: i64[rows], mapped.
        id_blocks: i64[rows], hashes of ids, mapped.
        dead: bool[rows], rows without a document; None if all rows have one.
        built: An approximate index over the first rows, which `segment` loads.
        measured: The maximum vector length, shared by the commits of a generation.
        hashes: The sort order of the hashes, shared in the same way.
    """

    facts: Facts
    vector_blocks: Blocks
    key_blocks: Blocks
    id_blocks: Blocks
    dead: NDArray[np.bool_] | None
    built: SegmentFile | GpuSegment | None = None
    measured: Longest = field(default_factory=Longest)
    hashes: IdHashes = field(default_factory=IdHashes)

    @property
    def blocks(self) -> tuple[Blocks, Blocks, Blocks]:
        """The blocks of `files`."""
        return self.vector_blocks, self.key_blocks, self.id_blocks

    @property
    def vectors(self) -> NDArray[np.floating]:
        """All vectors, verified."""
        return cast("NDArray[np.floating]", self.vector_blocks.all())

    @property
    def keys(self) -> NDArray[np.int64]:
        """All keys, verified."""
        return cast("NDArray[np.int64]", self.key_blocks.all())

    @property
    def segment(self) -> Segment | GpuSegment | None:
        """The approximate index; None if there is none, or its file is damaged."""
        return self.built.load() if isinstance(self.built, SegmentFile) else self.built

    def vectors_of(self, rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return the vectors of rows, verified."""
        return cast("NDArray[np.floating]", self.vector_blocks.take(rows))

    def keys_of(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the keys of rows, verified; -1 returns the key of the last row."""
        return cast("NDArray[np.int64]", self.key_blocks.take(rows))

    def rows_of_ids(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of documents whose ids have the hashes of the names; collisions are very rare."""
        rows = self.hashes.rows(cast("NDArray[np.int64]", self.id_blocks.all()), names)
        return rows if self.dead is None else rows[~self.dead[rows]]

    def rows_of_keys(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of the document of each key; -1 if there is none."""
        if not self.facts["rows"]:
            return np.full(len(keys), -1)
        rows = np.minimum(np.searchsorted(self.keys, keys), self.facts["rows"] - 1)  # keys are ascending, as rows are
        there = self.keys[rows] == keys
        return np.where(there if self.dead is None else there & ~self.dead[rows], rows, -1)

    def doubt(self, queries: NDArray[np.float32]) -> Doubt:
        """Return the maximum error of float32 scores, for all queries or f64[m]."""
        if self.facts["metric"] == "cosine":
            return float32_error(self.facts["dim"], _UNIT)
        return doubt_of(queries, self.measured.of(self.vectors), euclidean=self.facts["metric"] == "l2")

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
    """Read the last commit, inside a snapshot.

    Args:
        folder: The folder of the index.
        database: Its database.
        last: An earlier commit; blocks verified for it are not verified again.

    Returns:
        The state, without its segment.

    Raises:
        CorruptIndexError: If the data do not match their checksums.
    """
    facts = read_facts(database)
    if last is not None and last.facts["generation"] != facts["generation"]:
        last = None
    earlier = last.blocks if last else (None, None, None)
    vectors, keys, ids = (
        Blocks(file, facts["rows"], database, before)
        for file, before in zip(files(folder, facts), earlier, strict=True)
    )
    state = State(facts, vectors, keys, ids, _dead(database, facts))
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
