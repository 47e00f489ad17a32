"""What is committed, as a reader sees it: arrays of a fixed length that never change under a search."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import IntegrityError
from ragkit.index.array_file import ArrayFile
from ragkit.index.database import Database
from ragkit.index.exact import Doubt, at_most, doubt_of, float32_error
from ragkit.index.gpu import GpuSegment
from ragkit.index.segment import Segment

_UNIT = np.float64(1.001)  # more than the rounding to half precision can make of the length of a unit vector


class SegmentFacts(TypedDict):
    """What the database says of a segment's file."""

    file: str
    sha256: str
    rows: int
    factory: str
    settings: dict[str, int]


class Facts(TypedDict):
    """What the database says of an index as a whole."""

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
    indexed: list[str]
    segment: SegmentFacts | None
    tuned: dict[str, float] | None


def sealed(facts: Facts) -> dict[str, object]:
    """Facts with a checksum of them all."""
    return {**facts, "seal": zlib.crc32(json.dumps(facts, sort_keys=True).encode())}


def read_facts(database: Database) -> Facts:
    """Read the facts and check their seal.

    Args:
        database: The database.

    Returns:
        The facts.

    Raises:
        IntegrityError: If they are not what was written.
    """
    found = database.facts()
    seal = found.pop("seal", None)
    found.pop("format", None)
    if seal != zlib.crc32(json.dumps(found, sort_keys=True).encode()):
        raise IntegrityError(f"{database.path} is damaged: what it says of the index is not what was written")
    return cast("Facts", found)


class Longest:
    """The length of the longest of some vectors to which others may be added; each is measured once, when needed."""

    def __init__(self) -> None:
        """Begin with no vectors."""
        self._known = (0, 0.0)

    def of(self, vectors: NDArray[np.floating]) -> float:
        """A length that no vector exceeds.

        Args:
            vectors: float[n, d], those of earlier calls first.

        Returns:
            A length, hardly larger than that of the longest.
        """
        rows, length = self._known  # read together: another thread may put others in their place
        if rows < len(vectors):
            length = max(length, float(at_most(vectors[rows:]).max()))
            self._known = len(vectors), length
        return length


@dataclass(frozen=True)
class State:
    """One commit.

    Attributes:
        facts: What the database said.
        vectors: f32 or f16[rows, dim], mapped.
        keys: i64[rows], mapped.
        dead: bool[rows], rows without a document; None where there is none.
        segment: An approximate index over the first rows.
        measured: What is known of the lengths of the vectors; shared by the commits of a generation.
    """

    facts: Facts
    vectors: NDArray[np.floating]
    keys: NDArray[np.int64]
    dead: NDArray[np.bool_] | None
    segment: Segment | GpuSegment | None
    measured: Longest = field(default_factory=Longest)

    def doubt(self, queries: NDArray[np.float32]) -> Doubt:
        """How far scores in float32 may be from the true ones, for all queries or f64[m]."""
        if self.facts["metric"] == "cosine":
            return float32_error(self.facts["dim"], _UNIT)
        return doubt_of(queries, self.measured.of(self.vectors), euclidean=self.facts["metric"] == "l2")

    @property
    def live(self) -> int:
        """Rows with a document."""
        return len(self.keys) - (0 if self.dead is None else int(np.count_nonzero(self.dead)))


def files(folder: Path, facts: Mapping[str, object]) -> tuple[ArrayFile, ArrayFile]:
    """The array files of vectors and of keys, named by their generation alone."""
    dim, generation = int(cast("int", facts["dim"])), int(cast("int", facts["generation"]))
    return (
        ArrayFile(folder / f"vectors-{generation}.bin", (dim,), str(facts["dtype"])),
        ArrayFile(folder / f"keys-{generation}.bin", (), "int64"),
    )


def load_state(folder: Path, database: Database) -> State:
    """Read the last commit, inside a snapshot.

    Args:
        folder: The folder of the index.
        database: Its database.

    Returns:
        The state, without its segment.

    Raises:
        IntegrityError: If it is not what was written.
    """
    facts = read_facts(database)
    vectors, keys = files(folder, facts)
    rows = facts["rows"]
    found = database.connection.execute("SELECT row FROM dead").fetchall()
    dead = None
    if found:
        dead = np.zeros(rows, dtype=np.bool_)
        try:
            dead[np.array(found, dtype=np.int64)[:, 0]] = True
        except (IndexError, TypeError, ValueError) as error:
            raise IntegrityError(f"{database.path} is damaged: {error}; restore it from a copy") from error
    return State(
        facts,
        cast("NDArray[np.floating]", vectors.view(rows)),
        cast("NDArray[np.int64]", keys.view(rows)),
        dead,
        None,
    )
