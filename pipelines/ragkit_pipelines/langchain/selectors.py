"""LangChain example selectors that replace LangChain's own, with the same constructors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from langchain_core.embeddings import Embeddings

from ragkit.protocols import Embedder
from ragkit_pipelines.langchain.embeddings import embedder_of
from ragkit_selectors.embedding import EmbeddingSelector
from ragkit_selectors.hybrid import HybridSelector
from ragkit_selectors.langchain import LangChainSelector
from ragkit_selectors.stages.diversity_stages import Mmr

AnyEmbedding = str | Embedder | Embeddings


class RagkitExampleSelector(LangChainSelector):
    """Select examples whose input is semantically similar; replaces ``SemanticSimilarityExampleSelector``.

    Only the input is searched, and examples are returned unchanged. Any other ragkit selector becomes a LangChain
    selector with ``RagkitExampleSelector(selector, k, input_key)`` or ``selector.as_langchain()``.

    Examples:
        >>> pool = [{"question": "dim the lamp", "answer": "light"}, {"question": "play a song", "answer": "music"}]
        >>> made = RagkitExampleSelector.from_examples(pool, "hash:256", 1, input_key="question", output_key="answer")
        >>> made.select_examples({"question": "the lamp"})
        [{'question': 'dim the lamp', 'answer': 'light'}]
    """

    @classmethod
    def from_examples(
        cls,
        examples: Sequence[Mapping[str, Any]],
        embedding: AnyEmbedding = "minilm",
        k: int = 4,
        *,
        input_key: str = "input",
        output_key: str = "output",
    ) -> Self:
        """Create a selector of examples.

        Args:
            examples: The examples.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            k: Number of examples to select.
            input_key: The field that is searched, which is also the name of the query variable.
            output_key: The field that contains the answer.

        Returns:
            The selector.
        """
        pool = EmbeddingSelector(examples, embedder=embedder_of(embedding), key=input_key, output=output_key)
        return cls(pool, k, input_key)


class RagkitMmrExampleSelector(LangChainSelector):
    """Select similar and diverse examples; replaces ``MaxMarginalRelevanceExampleSelector``."""

    @classmethod
    def from_examples(
        cls,
        examples: Sequence[Mapping[str, Any]],
        embedding: AnyEmbedding = "minilm",
        k: int = 4,
        *,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        input_key: str = "input",
        output_key: str = "output",
    ) -> Self:
        """Create a selector that ranks ``fetch_k`` candidates by similarity (``lambda_mult`` 1) or diversity (0)."""
        pool = EmbeddingSelector(examples, embedder=embedder_of(embedding), key=input_key, output=output_key)
        return cls(pool | Mmr(lambda_mult, fetch_k=fetch_k), k, input_key)


class RagkitHybridExampleSelector(LangChainSelector):
    """Select examples by lexical and semantic similarity, by fusing several rankings."""

    @classmethod
    def from_examples(
        cls,
        examples: Sequence[Mapping[str, Any]],
        embedding: AnyEmbedding = "minilm",
        k: int = 4,
        *,
        weights: Mapping[str, float] | None = None,
        input_key: str = "input",
        output_key: str = "output",
    ) -> Self:
        """Create a selector with weights by ranking, such as ``{"bm25": 1, "embedding": 1}``, the default."""
        embedder = embedder_of(embedding)
        return cls(HybridSelector(examples, weights, embedder=embedder, key=input_key, output=output_key), k, input_key)
