"""An embedder as LangChain's ``Embeddings``."""

from __future__ import annotations

import asyncio
from typing import cast

from langchain_core.embeddings import Embeddings
from typing_extensions import override

from ragkit.embedders import load_embedder
from ragkit.protocols import Embedder


class RagkitEmbeddings(Embeddings):
    """Any embedder of ragkit for LangChain.

    Attributes:
        embedder: The embedder, whose arrays are cheaper than the lists that LangChain asks for.

    Examples:
        >>> len(RagkitEmbeddings("hash:64").embed_query("dim the lamp"))
        64
    """

    def __init__(self, embedder: str | Embedder) -> None:
        """Take an embedder or its spec, such as ``"minilm"``."""
        self.embedder = load_embedder(embedder)

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed what is stored.

        Args:
            texts: n texts.

        Returns:
            n vectors.
        """
        return cast("list[list[float]]", self.embedder.embed_documents(texts).tolist())

    @override
    def embed_query(self, text: str) -> list[float]:
        """Embed what is asked.

        Args:
            text: A text.

        Returns:
            A vector.
        """
        return cast("list[float]", self.embedder.embed_queries([text])[0].tolist())

    @override
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` without blocking the event loop."""
        return await asyncio.to_thread(self.embed_documents, texts)

    @override
    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` without blocking the event loop."""
        return await asyncio.to_thread(self.embed_query, text)


def embedder_of(embedding: str | Embedder | Embeddings) -> Embedder:
    """The embedder behind what users call an embedding; ours is unwrapped, so that no lists are made.

    Returns:
        An embedder.
    """
    return embedding.embedder if isinstance(embedding, RagkitEmbeddings) else load_embedder(embedding)
