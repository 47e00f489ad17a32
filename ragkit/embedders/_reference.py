"""References to embedders in pickled and copied objects."""

from __future__ import annotations

from typing import Any, Self

from ragkit.embedders import load_embedder
from ragkit.embedders._langchain_embeddings import LangChainEmbedder
from ragkit.protocols import Embedder


class EmbedderReference:
    """An embedder in the state of another object: copies share it, and other processes load it by its spec.

    Attributes:
        embedder: The embedder.
    """

    def __init__(self, embedder: str | Embedder) -> None:
        """Refer to an embedder, or load it from its spec."""
        self.embedder = load_embedder(embedder)

    @property
    def is_spec(self) -> bool:
        """Whether the embedder can be loaded by its spec; other embedders are pickled themselves."""
        ours = type(self.embedder).__module__.startswith("ragkit.")
        return ours and not isinstance(self.embedder, LangChainEmbedder)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.embedder.name if self.is_spec else self.embedder,)
