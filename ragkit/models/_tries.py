"""Token sequences that share their prefixes, as a trie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Trie:
    """A trie in preorder: the descendants of node i are the nodes i + 1 to ends[i] - 1.

    The root, which represents the empty sequence, is not a node.

    Attributes:
        tokens: Token of each node.
        parents: Parent of each node; -1 if the node begins a sequence.
        depths: Number of ancestors of each node.
        ends: The node after the last descendant of each node.
        last: The node at which each sequence ends; -1 for an empty sequence.
    """

    tokens: NDArray[np.int64]
    parents: NDArray[np.int64]
    depths: NDArray[np.int64]
    ends: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Trie:
        """Build the trie of token sequences; equal sequences share all their nodes."""
        tokens: list[int] = []
        parents: list[int] = []
        ends: list[int] = []
        last = np.full(len(sequences), -1)
        path: list[int] = []  # the nodes of the previous sequence
        for index in sorted(range(len(sequences)), key=lambda index: list(sequences[index])):
            sequence = sequences[index]
            shared = 0
            while shared < min(len(path), len(sequence)) and tokens[path[shared]] == sequence[shared]:
                shared += 1
            for node in path[shared:]:
                ends[node] = len(tokens)
            del path[shared:]
            for token in sequence[shared:]:
                parents.append(path[-1] if path else -1)
                path.append(len(tokens))
                tokens.append(token)
                ends.append(0)
            last[index] = path[-1] if path else -1
        for node in path:
            ends[node] = len(tokens)
        depths = np.zeros(len(tokens), dtype=np.int64)
        for node, parent in enumerate(parents):
            depths[node] = depths[parent] + 1 if parent >= 0 else 0
        return cls(np.array(tokens, int), np.array(parents, int), depths, np.array(ends, int), last)

    @property
    def inner(self) -> NDArray[np.int64]:
        """The nodes that have children."""
        return np.flatnonzero(self.ends > np.arange(len(self.ends)) + 1)

    def on_path(self, nodes: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of k nodes are one of m nodes or one of its ancestors: bool[m, k]."""
        found: NDArray[np.bool_] = (others <= nodes[:, None]) & (nodes[:, None] < self.ends[others])
        return found

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum values f64[n, nodes] along the path of each sequence: f64[n, sequences], 0 for an empty sequence."""
        totals = np.append(values, np.zeros((len(values), 1)), axis=1)  # the last column is the root's
        for depth in range(1, int(self.depths.max(initial=0)) + 1):
            level = np.flatnonzero(self.depths == depth)
            totals[:, level] += totals[:, self.parents[level]]
        return totals[:, self.last]
