"""The cache file of the posting lists of `BM25Retriever` in the folder of an index. It can be rebuilt at any time."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragkit.files import atomic_file, read_arrays
from ragkit.lexical.analysis import WordAnalyzer
from ragkit.lexical.postings import PostingLists

_FORMAT = 2


class Bm25Cache:
    """The cache file for one analyzer in the folder of an index."""

    def __init__(self, folder: Path, analyzer: WordAnalyzer) -> None:
        """Set the path of the file."""
        digest = blake2b(repr(analyzer).encode(), digest_size=6).hexdigest()
        self.path, self.analyzer = folder / f"bm25-{digest}.npz", analyzer

    def save(self, lists: PostingLists, keys: NDArray[np.int64], version: int) -> None:
        """Replace the file atomically.

        Args:
            lists: The lists.
            keys: i64[n], the key in the index of each row.
            version: The commit of the index of the lists.

        Raises:
            OSError: If the file cannot be written, for example because the disk is full; the partial file is removed.
        """
        facts = {"format": _FORMAT, "analyzer": repr(self.analyzer), "version": version}
        arrays = {
            "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            "keys": keys,
            **{f"lists_{part}": values for part, values in lists.to_arrays().items()},
        }
        with atomic_file(self.path, durable=False) as file:  # `load` checks it
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(self, version: int) -> tuple[PostingLists, NDArray[np.int64]] | None:
        """Read the file.

        Args:
            version: The current commit of the index.

        Returns:
            The lists and the key of each row; None if the file is missing, damaged, of another format, or of a later
            commit than the index.
        """
        try:
            arrays = read_arrays(self.path)
            facts = json.loads(arrays["facts"].tobytes())
            if (facts["format"], facts["analyzer"]) != (_FORMAT, repr(self.analyzer)) or facts["version"] > version:
                return None
            parts = {part.removeprefix("lists_"): values for part, values in arrays.items()}
            return PostingLists.from_arrays(self.analyzer, parts), arrays["keys"]
        except (OSError, ValueError, KeyError):
            return None
