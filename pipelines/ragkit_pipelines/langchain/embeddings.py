"""Use any ragkit embedder as LangChain ``Embeddings``."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.embeddings import Embeddings
from typing_extensions import override

from ragkit.embedders import load_embedder
from ragkit.embedders._reference import EmbedderReference
from ragkit.protocols import Embedder


class RagkitEmbeddings(Embeddings):
    """LangChain ``Embeddings`` that call a ragkit embedder.

    Attributes:
        embedder: The embedder. Its arrays are more efficient than the lists that LangChain requires.

    Examples:
        >>> len(RagkitEmbeddings("hash:64").embed_query("dim the lamp"))
        64
    """

    def __init__(self, embedder: str | Embedder) -> None:
        """Load an embedder from its spec, such as ``"minilm"``, or wrap it."""
        self.embedder = load_embedder(embedder)

    def __getstate__(self) -> dict[str, object]:
        return {"embedder": EmbedderReference(self.embedder)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.embedder = state["embedder"].embedder

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents."""
        return cast("list[list[float]]", self.embedder.embed_documents(texts).tolist())

    @override
    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return cast("list[float]", self.embedder.embed_queries([text])[0].tolist())


def embedder_of(embedding: str | Embedder | Embeddings) -> Embedder:
    """Return the embedder of a spec or of LangChain embeddings; `RagkitEmbeddings` are unwrapped."""
    return embedding.embedder if isinstance(embedding, RagkitEmbeddings) else load_embedder(embedding)
