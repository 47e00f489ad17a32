"""A second look: the first retriever's hits, judged one by one together with the query."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.extras import require
from ragkit.progress import quiet_transformers
from ragkit.protocols import LanguageModel, Retriever, TokenEmbedder
from ragkit.registry import create
from ragkit.retrievers.base import Hits, RetrieverBase, Where, ranked

_DECIMALS = 9  # what the order in which float64 numbers are added cannot change


class Reranker(Protocol):
    """Judges pairs of a query and a text."""

    def __call__(self, queries: Sequence[str], texts: Sequence[str], /) -> NDArray[np.floating]:
        """A score for each pair, float[n], higher for better."""
        ...


class RerankingRetriever(RetrieverBase):
    """Fetch more than is asked for and give the best by a reranker's judgement; all queries are judged in one batch.

    Attributes:
        base: Where the candidates come from.
        reranker: What judges them.
        fetch_k: How many are judged for each query.

    Examples:
        >>> from ragkit import BM25Retriever
        >>> base = BM25Retriever(["a lamp", "a lamp and a longer text"])
        >>> longest = lambda queries, texts: [len(text) for text in texts]
        >>> RerankingRetriever(base, longest).retrieve("lamp", k=1)[0].text
        'a lamp and a longer text'
    """

    name = "rerank"

    def __init__(
        self, base: Retriever, reranker: str | Reranker | LanguageModel | object, *, fetch_k: int = 50
    ) -> None:
        """Put a reranker behind a retriever.

        Args:
            base: Where the candidates come from.
            reranker: What `load_reranker` takes.
            fetch_k: How many candidates are judged, at least 1.

        Raises:
            InvalidInputError: If ``fetch_k`` is below 1.
        """
        if type(fetch_k) is not int or fetch_k < 1:
            raise InvalidInputError(f"`fetch_k` must be a whole number of at least 1, got {fetch_k!r}")
        self.base, self.reranker, self.fetch_k = base, load_reranker(reranker), fetch_k

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return self._judged(queries, self.base.retrieve(queries, max(k, self.fetch_k), where=where), k)

    @override
    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        found = await self.base.aretrieve(queries, max(k, self.fetch_k), where=where)
        return await asyncio.to_thread(self._judged, queries, found, k)

    def _judged(self, queries: Sequence[str], found: Hits, k: int) -> Hits:
        asked = [query for query, hits in zip(queries, found, strict=True) for _ in hits]
        texts = [hit.text for hits in found for hit in hits]
        scores = np.asarray(self.reranker(asked, texts), dtype=np.float64) if texts else np.zeros(0)
        if scores.shape != (len(texts),) or np.isnan(scores).any():
            raise InvalidInputError(f"the reranker must give {len(texts)} numbers, got {scores!r}")
        judged, start = [], 0
        for hits in found:
            own = scores[start : start + len(hits)]
            start += len(hits)
            order = np.argsort(-own, kind="stable")[:k].tolist()
            judged.append(
                ranked((hits[at], float(own[at]), {"rerank": float(own[at]), "base_rank": at + 1}) for at in order)
            )
        return judged


def load_reranker(reranker: object) -> Reranker:
    """Return the reranker that a spec or an object stands for.

    Args:
        reranker: ``"cross-encoder:"`` and a hub id or folder of sentence-transformers, ``"tokens:"`` and an embedder
            with vectors of tokens, a language model with `score` (how likely the query is after the text; Sachan et
            al., 2022), a `CrossEncoder` of sentence-transformers, or a function of queries and texts to numbers.

    Returns:
        A function.

    Raises:
        UnknownSpecError: If no reranker has this name.
        InvalidInputError: If it is none of these.
    """
    if isinstance(reranker, str):
        loaded: Reranker = create("reranker", reranker)
        return loaded
    if isinstance(reranker, LanguageModel):
        return QueryLikelihood(reranker)
    if hasattr(reranker, "predict"):
        return _Predicting(reranker)
    if callable(reranker):
        return cast("Reranker", reranker)
    raise InvalidInputError(f"`reranker` must be a spec, a language model or a function, got {type(reranker).__name__}")


def load_cross_encoder(source: str) -> Reranker:
    """Load a cross-encoder of sentence-transformers.

    Args:
        source: A hub id or a folder.

    Returns:
        The reranker.
    """
    require("sentence_transformers")
    from sentence_transformers import CrossEncoder

    with quiet_transformers():
        return _Predicting(CrossEncoder(source))


class QueryLikelihood:
    """How likely a language model finds the query after the text, by token (arXiv 2204.07496).

    Attributes:
        model: The model.
    """

    def __init__(self, model: LanguageModel) -> None:
        """Take a model.

        Raises:
            UnsupportedError: If it gives no probabilities.
        """
        if not model.capabilities.score:
            raise UnsupportedError(f"{model.name} gives no probabilities, so it cannot rerank; use another model")
        self.model = model

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        """f64[n], in nats a token of the query."""
        scores = np.zeros(len(texts))
        for query in dict.fromkeys(queries):
            places = [place for place, each in enumerate(queries) if each == query]
            choice, tokens = f" {query}", max(self.model.count_tokens(query), 1)
            prompts = [self._prompt(texts[place], tokens) for place in places]
            scores[places] = self.model.score(prompts, [choice])[:, 0] / tokens
        return scores

    def _prompt(self, text: str, tokens: int) -> str:
        """The text and what comes before the question, the text cut so that both fit the window."""
        window = self.model.capabilities.window
        while text:
            prompt = f"Passage: {text}\n\nA question that it answers:"
            size = self.model.count_tokens(prompt) + tokens + 8
            if window is None or size <= window:
                return prompt
            text = text[: min(len(text) - 1, int(len(text) * 0.95 * window / size))]
        return "A question:"


class TokenLikeness:
    """For each token of the query its likest token of the text, averaged (Khattab and Zaharia, 2020).

    Works with any embedder that gives vectors of tokens, so it needs no model of its own.

    Attributes:
        embedder: The embedder.
    """

    def __init__(self, embedder: str | TokenEmbedder) -> None:
        """Take an embedder or its spec.

        Raises:
            UnsupportedError: If it gives no vectors of tokens.
        """
        loaded: object = load_embedder(embedder) if isinstance(embedder, str) else embedder
        if not isinstance(loaded, TokenEmbedder):
            raise UnsupportedError(
                "this embedder gives no vectors of tokens (`embed_tokens`); use minilm, st:... or hash:..."
            )
        self.embedder = loaded

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        """f64[n], cosines; 0 where query or text has no tokens."""
        asked = _of_each(self.embedder, queries)
        held = _of_each(self.embedder, texts)
        scores = np.zeros(len(texts))
        for place, (query, text) in enumerate(zip(queries, texts, strict=True)):
            left, right = asked[query], held[text]
            if len(left) and len(right):
                cosines = left.astype(np.float64) @ right.T.astype(np.float64)
                scores[place] = cosines.max(axis=1).mean().round(_DECIMALS)
        return scores


def _of_each(embedder: TokenEmbedder, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    different = sorted(set(texts), key=len)  # of like length together, so that little is padded
    return dict(zip(different, embedder.embed_tokens(different), strict=True))


class _Predicting:
    """A cross-encoder of sentence-transformers, or what has its method ``predict``."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        pairs = list(zip(queries, texts, strict=True))
        return np.asarray(self.model.predict(pairs, show_progress_bar=False), dtype=np.float64).reshape(len(pairs))
