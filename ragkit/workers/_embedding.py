"""Embedding as work for a pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ragkit.embedders import load_embedder
from ragkit.workers._batches import Function, check_same


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Embeds texts, the items of a batch, as f32[n, dim].

    Attributes:
        embedder: The spec of an embedder, which each worker loads once.
        expected: The required fingerprint of the embedder; None for any.
    """

    embedder: str
    expected: str | None = None

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the embedder."""
        return f"embed:{self.expected or load_embedder(self.embedder).fingerprint}"

    def start(self) -> Function:
        """Load the embedder.

        Returns:
            The embedder's `embed_documents`.

        Raises:
            InvalidInputError: If the embedder does not have the expected fingerprint.
        """
        loaded = load_embedder(self.embedder)
        check_same("embedder", self.embedder, loaded.fingerprint, self.expected)
        return cast("Function", loaded.embed_documents)
