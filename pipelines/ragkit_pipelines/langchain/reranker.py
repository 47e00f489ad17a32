"""A reranker of ragkit as LangChain's document compressor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.protocols import LanguageModel
from ragkit.records import Hit

Score = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]


class RagkitReranker(BaseDocumentCompressor):
    """Orders documents by how well they answer a query, and keeps the best; the score goes into their metadata.

    Attributes:
        reranker: What judges: anything with ``rerank(queries, hits, k)`` that gives lists of `Hit`; a function of
            queries and texts to f64[n], higher for better; or a language model with ``score``, for which a document is
            the better the likelier the query is after it (arXiv 2204.07496).
        top_n: How many documents are kept; None for all.

    Examples:
        >>> by_length = RagkitReranker(reranker=lambda queries, texts: np.array([len(text) for text in texts]), top_n=1)
        >>> by_length.compress_documents([Document("short"), Document("a longer one")], "which?")[0].page_content
        'a longer one'
    """

    reranker: Any
    top_n: int | None = Field(default=None, ge=1)

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @field_validator("reranker")
    @classmethod
    def _judges(cls, reranker: Any) -> Any:
        able = isinstance(reranker, LanguageModel) and reranker.capabilities.score
        if not able and not callable(reranker) and not hasattr(reranker, "rerank"):
            raise InvalidInputError(
                "`reranker` must have `rerank`, be a function of queries and texts, or a language model that scores; "
                f"got {type(reranker).__name__}"
            )
        return reranker

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Order documents by their score and keep the best; equal scores keep their order.

        Args:
            documents: The documents; they are not changed.
            query: The query.
            callbacks: Not called, for nothing of LangChain's runs inside.

        Returns:
            Copies with ``relevance_score`` in their metadata, the best first.
        """
        if not documents:
            return []
        keep = len(documents) if self.top_n is None else self.top_n
        return [
            document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
            for document, score in self._ranked(documents, query)[:keep]
        ]

    def _ranked(self, documents: Sequence[Document], query: str) -> list[tuple[Document, float]]:
        texts = [document.page_content for document in documents]
        if hasattr(self.reranker, "rerank"):
            places = {str(place): document for place, document in enumerate(documents)}
            hits = [Hit(id=str(n), score=0.0, rank=n + 1, text=text) for n, text in enumerate(texts)]
            found = cast("list[list[Hit]]", self.reranker.rerank([query], [hits], len(hits)))
            return [(places[hit.id], hit.score) for hit in found[0]]
        if isinstance(self.reranker, LanguageModel):
            prompts = [f"{text}\n\nA question that this text answers:" for text in texts]
            scores = self.reranker.score(prompts, [f" {query}"])[:, 0]
        else:
            scores = np.asarray(self.reranker([query] * len(texts), texts), dtype=np.float64)
        if scores.shape != (len(texts),) or np.isnan(scores).any():
            raise InvalidInputError(f"`reranker` must give {len(texts)} numbers, got {scores!r}")
        order = np.argsort(-scores, kind="stable").tolist()
        return [(documents[place], float(scores[place])) for place in order]
