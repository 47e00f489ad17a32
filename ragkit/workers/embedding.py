"""Embedding as work for a pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.workers.batches import Function


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Embed texts, the items of a batch: f32[n, dim].

    Attributes:
        embedder: The spec of an embedder, which each worker loads once.
        expected: The fingerprint that the embedder must have; None for any.
    """

    embedder: str
    expected: str | None = None

    @property
    def fingerprint(self) -> str:
        """The embedder's."""
        return f"embed:{self.expected or load_embedder(self.embedder).fingerprint}"

    def start(self) -> Function:
        """Load the embedder.

        Returns:
            Its `embed_documents`.

        Raises:
            InvalidInputError: If it gives other vectors here than were expected.
        """
        loaded = load_embedder(self.embedder)
        if self.expected not in {None, loaded.fingerprint}:
            raise InvalidInputError(
                f"embedder {self.embedder!r} is {loaded.fingerprint} in this worker, expected {self.expected}; install "
                "the same model everywhere"
            )
        return cast("Function", loaded.embed_documents)
