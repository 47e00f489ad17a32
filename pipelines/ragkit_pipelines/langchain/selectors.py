"""Example selectors with the constructors that LangChain's own have."""

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
    """Examples whose input means what the query means; in the place of ``SemanticSimilarityExampleSelector``.

    Only the input is searched, and examples come back as they were given. Any other selector of ragkit becomes one of
    LangChain's by ``RagkitExampleSelector(selector, k, input_key)`` or ``selector.as_langchain()``.

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
        """Build a pool of examples and a selector over it.

        Args:
            examples: The examples.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            k: How many are chosen.
            input_key: The entry that is searched, and the input variable that it is searched by.
            output_key: The entry that holds the answer.

        Returns:
            The selector.
        """
        pool = EmbeddingSelector(examples, embedder=embedder_of(embedding), key=input_key, output=output_key)
        return cls(pool, k, input_key)


class RagkitMmrExampleSelector(LangChainSelector):
    """Examples near the query and unlike each other; in the place of ``MaxMarginalRelevanceExampleSelector``."""

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
        """Build a pool of examples and a selector over it.

        Args:
            examples: The examples.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            k: How many are chosen.
            fetch_k: How many candidates are looked at.
            lambda_mult: 1 for likeness to the query alone, 0 for unlikeness alone.
            input_key: The entry that is searched, and the input variable that it is searched by.
            output_key: The entry that holds the answer.

        Returns:
            The selector.
        """
        pool = EmbeddingSelector(examples, embedder=embedder_of(embedding), key=input_key, output=output_key)
        return cls(pool | Mmr(lambda_mult, fetch_k=fetch_k), k, input_key)


class RagkitHybridExampleSelector(LangChainSelector):
    """Examples by words and by meaning together: several rankings fused into one."""

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
        """Build a pool of examples and a selector over it.

        Args:
            examples: The examples.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            k: How many are chosen.
            weights: Names of selectors, each with its weight; ``{"bm25": 1, "embedding": 1}`` if None.
            input_key: The entry that is searched, and the input variable that it is searched by.
            output_key: The entry that holds the answer.

        Returns:
            The selector.
        """
        embedder = embedder_of(embedding)
        return cls(HybridSelector(examples, weights, embedder=embedder, key=input_key, output=output_key), k, input_key)
