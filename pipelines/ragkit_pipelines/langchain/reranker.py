"""Use a ragkit reranker as a LangChain document compressor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.protocols import LanguageModel
from ragkit.records import Hit

Score = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]


class RagkitReranker(BaseDocumentCompressor):
    """Order documents by their relevance to a query, keep the best, and add the score to their metadata.

    Attributes:
        reranker: One of three kinds: an object with ``rerank(queries, hits, k)`` that returns lists of `Hit`; a
            function of queries and texts that returns f64[n], higher for better; or a language model with ``score``,
            which ranks documents by the probability of the query after the document (arXiv 2204.07496).
        top_n: Number of documents to keep; None for all.

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
    def _check(cls, reranker: Any) -> Any:
        able = isinstance(reranker, LanguageModel) and reranker.capabilities.score
        if not able and not callable(reranker) and not hasattr(reranker, "rerank"):
            raise InvalidInputError(
                "`reranker` must have `rerank`, be a function of queries and texts, or be a model with `score`; "
                f"got {type(reranker).__name__}"
            )
        return reranker

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Order documents by their score and keep the best; documents with equal scores keep their order.

        Args:
            documents: The documents; they are not modified.
            query: The query.
            callbacks: Callbacks, which receive a run of the reranker.

        Returns:
            Copies of the documents with ``relevance_score`` in their metadata, the best first.
        """
        if not documents:
            return []
        given = {"query": query, "documents": list(documents)}
        run = RunnableLambda(self._kept, name=type(self).__name__)
        return run.invoke(given, {} if callbacks is None else {"callbacks": callbacks})

    def _kept(self, given: Mapping[str, Any]) -> list[Document]:
        documents: Sequence[Document] = given["documents"]
        keep = len(documents) if self.top_n is None else self.top_n
        return [
            document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
            for document, score in self._ranked(documents, given["query"])[:keep]
        ]

    def _ranked(self, documents: Sequence[Document], query: str) -> list[tuple[Document, float]]:
        texts = [document.page_content for document in documents]
        if hasattr(self.reranker, "rerank"):
            by_id = {str(n): document for n, document in enumerate(documents)}
            hits = [Hit(id=str(n), score=0.0, rank=n + 1, text=text) for n, text in enumerate(texts)]
            found = cast("list[list[Hit]]", self.reranker.rerank([query], [hits], len(hits)))
            return [(by_id[hit.id], hit.score) for hit in found[0]]
        if isinstance(self.reranker, LanguageModel):
            prompts = [f"{text}\n\nA question that this text answers:" for text in texts]
            scores = self.reranker.score(prompts, [f" {query}"])[:, 0]
        else:
            scores = np.asarray(self.reranker([query] * len(texts), texts), dtype=np.float64)
        if scores.shape != (len(texts),) or np.isnan(scores).any():
            raise InvalidInputError(f"`reranker` must return {len(texts)} numbers without NaN, got {scores!r}")
        order = np.argsort(-scores, kind="stable").tolist()
        return [(documents[n], float(scores[n])) for n in order]
