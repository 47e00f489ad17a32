"""BM25 over documents that come and go: posting lists, with the statistics of those that are there now."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Sequence
from math import log
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import IntegrityError
from ragkit.index.database import NAME
from ragkit.postings import PostingLists, Rule

_FORMAT = 1
_DECIMALS = 9  # what the order in which floats are added cannot change


class Norms(NamedTuple):
    """What the scores of one moment share.

    Attributes:
        weights: f64[n], how much a row's length holds a term back.
        documents: Rows that are there.
    """

    weights: NDArray[np.float64]
    documents: int


class Bm25Lists:
    """Terms of documents, which are known by ascending keys.

    Attributes:
        rule: How a text is cut into terms.
        keys: i64[n], the key of each row.
        live: bool[n], whether the row's document is still there.
    """

    def __init__(self, rule: Rule) -> None:
        """Start without documents."""
        self.rule = rule
        self.lists = PostingLists(rule)
        self.keys: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.live: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def add(self, keys: NDArray[np.int64], texts: Sequence[str]) -> None:
        """Append documents; their keys are higher than all before."""
        self.lists.add(texts)
        self.keys = np.concatenate([self.keys, keys])
        self.live = np.concatenate([self.live, np.ones(len(keys), dtype=np.bool_)])

    def keep(self, keys: NDArray[np.int64]) -> None:
        """Remove all documents but those with these keys."""
        self.live &= np.isin(self.keys, keys)

    def rows_of(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows hold the documents with these keys, bool[n]; keys that are not held are passed over."""
        places = np.searchsorted(self.keys, keys)
        places = places[places < len(self.keys)]
        held = np.zeros(len(self.keys), dtype=np.bool_)
        held[places[np.isin(self.keys[places], keys)]] = True
        return held & self.live

    def norms(self, k1: float, b: float) -> Norms:
        """What scores share until documents change."""
        lengths, documents = self.lists.lengths, int(np.count_nonzero(self.live))
        mean = float(lengths[self.live].mean()) if documents else 0.0
        return Norms(np.asarray(k1 * (1 - b + b * lengths / (mean or 1.0)), dtype=np.float64), documents)

    def scores(self, query: str, norms: Norms) -> NDArray[np.float64]:
        """BM25 of each row, as Lucene computes it; a term counts once, however often the query repeats it.

        Args:
            query: The query.
            norms: What `norms` gave.

        Returns:
            f64[n], 0 for a row without a term of the query; rows of removed documents count as well.
        """
        found = np.zeros(len(self.keys))
        whole = norms.documents == len(self.keys)
        for column in self.lists.known(self.rule(query)):
            rows = self.lists.rows(column)
            counts = self.lists.counts(column).astype(np.float64)
            frequency = len(rows) if whole else int(np.count_nonzero(self.live[rows]))
            rarity = log(1 + (norms.documents - frequency + 0.5) / (frequency + 0.5))
            found[rows] += rarity * counts / (counts + norms.weights[rows])
        return found

    def best(
        self, query: str, k: int, norms: Norms, allowed: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The best documents for a query.

        Args:
            query: The query.
            k: How many at the most, at least 1.
            norms: What `norms` gave.
            allowed: bool[n], rows that may be found.

        Returns:
            i64[m] keys and f64[m] scores above 0, the best first; equal scores in the order of keys.
        """
        every = self.scores(query, norms)
        rows = np.flatnonzero(every)
        rows = rows[allowed[rows]]
        scores = every[rows].round(_DECIMALS)
        if len(rows) > k:
            kept = scores >= np.partition(scores, len(rows) - k)[len(rows) - k]
            rows, scores = rows[kept], scores[kept]
        order = np.argsort(-scores, kind="stable")[:k]
        return self.keys[rows[order]], scores[order]

    def save(self, path: Path, *, name: str, version: int) -> None:
        """Write a file, whole or not at all.

        Args:
            path: The file.
            name: What the rule is called.
            version: Commit of the index.

        Raises:
            OSError: If it cannot be written, such as on a full disk; nothing of it is left then.
        """
        facts = json.dumps({"format": _FORMAT, "rule": name, "version": version}).encode()
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}-", suffix=".partial", delete=False) as file:
            partial = Path(file.name)
            try:
                np.savez(
                    file,
                    facts=np.frombuffer(facts, dtype=np.uint8),
                    keys=self.keys,
                    live=self.live,
                    **{f"lists_{part}": values for part, values in self.lists.to_arrays().items()},  # type: ignore[arg-type]
                )
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), stat.S_IMODE((path.parent / NAME).stat().st_mode))  # as readable as the index
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    @classmethod
    def load(cls, path: Path, rule: Rule, *, name: str, version: int) -> Bm25Lists:
        """Read a file that `save` wrote.

        Args:
            path: The file.
            rule: How a text is cut into terms.
            name: What the rule is called.
            version: Commit of the index now.

        Returns:
            The lists.

        Raises:
            IntegrityError: If the file is not whole, of another rule, or of a later commit than the index.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                arrays = {part: held[part] for part in held.files}  # checks the sums of the archive
            facts = json.loads(arrays["facts"].tobytes())
            found = cls(rule)
            found.lists = PostingLists.from_arrays(
                rule, {part.removeprefix("lists_"): values for part, values in arrays.items()}
            )
            found.keys, found.live = arrays["keys"], arrays["live"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise IntegrityError(f"{path} cannot be read: {error}; delete it, it can be made again") from error
        if (facts.get("format"), facts.get("rule")) != (_FORMAT, name) or facts["version"] > version:
            raise IntegrityError(f"{path} belongs to another index or rule; delete it, it can be made again")
        return found
