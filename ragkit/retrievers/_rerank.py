"""Reranking: the hits of a retriever are scored again, each together with the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._extras import require
from ragkit._progress import quiet_transformers
from ragkit.embedders import load_embedder
from ragkit.embedders._foreign_folders import checked_source, loading
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.protocols import LanguageModel, Retriever, TokenEmbedder
from ragkit.registry import create
from ragkit.retrievers._base import Hits, RefiningRetriever, Where, ranked

_DECIMALS = 9  # decimals that do not depend on the order of float64 additions


class Reranker(Protocol):
    """Scores pairs of a query and a text."""

    def __call__(self, queries: Sequence[str], texts: Sequence[str], /) -> NDArray[np.floating]:
        """Return a score for each pair, float[n], higher is better."""
        ...


class RerankingRetriever(RefiningRetriever):
    """Fetches more hits than requested, and returns the best by a reranker, which scores all queries in one batch.

    The arguments are attributes of the same names.

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
        """Rerank the hits of a retriever.

        Args:
            base: The retriever of the candidates.
            reranker: A reranker, or any other argument of `load_reranker`.
            fetch_k: Number of candidates per query, at least 1.

        Raises:
            InvalidInputError: If ``fetch_k`` is below 1.
        """
        super().__init__(base, fetch_k)
        self.reranker = load_reranker(reranker)

    @override
    def _refined(self, queries: Sequence[str], found: Hits, k: int, where: Where | None) -> Hits:
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
    """Return the reranker for a spec or an object.

    It may be ``"cross-encoder:"`` followed by a hub id or folder of sentence-transformers, ``"tokens:"`` followed by an
    embedder with token vectors, a language model with `score` (the probability of the query after the text; Sachan et
    al., 2022), a `CrossEncoder` of sentence-transformers, or a function of queries and texts that returns numbers.

    Raises:
        UnknownSpecError: If no reranker has this name.
        InvalidInputError: If the argument has another type.
    """
    if isinstance(reranker, str):
        loaded: Reranker = create("reranker", reranker)
        return loaded
    if isinstance(reranker, LanguageModel):
        return QueryLikelihood(reranker)
    if hasattr(reranker, "predict"):
        return _predicting(reranker)
    if callable(reranker):
        return cast("Reranker", reranker)
    raise InvalidInputError(f"`reranker` must be a spec, a language model or a function, got {type(reranker).__name__}")


def load_cross_encoder(source: str) -> Reranker:
    """Load a cross-encoder of sentence-transformers from a hub id or a folder."""
    require("sentence_transformers")
    folder, revision = checked_source(source, organization="cross-encoder")
    from sentence_transformers import CrossEncoder

    with loading(source), quiet_transformers():
        return _predicting(CrossEncoder(folder, revision=revision))


class QueryLikelihood:
    """Query likelihood: mean log probability of the query's tokens after the text (arXiv 2204.07496)."""

    def __init__(self, model: LanguageModel) -> None:
        """Use a model.

        Raises:
            UnsupportedError: If it does not return probabilities.
        """
        if not model.capabilities.score:
            raise UnsupportedError(f"{model.name} gives no probabilities, so it cannot rerank; use another model")
        self.model = model

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        """Return f64[n], in nats per token of the query."""
        scores = np.zeros(len(texts))
        for query in dict.fromkeys(queries):
            places = [place for place, each in enumerate(queries) if each == query]
            choice, tokens = f" {query}", max(self.model.count_tokens(query), 1)
            prompts = [self._prompt(texts[place], tokens) for place in places]
            scores[places] = self.model.score(prompts, [choice])[:, 0] / tokens
        return scores

    def _prompt(self, text: str, tokens: int) -> str:
        """Return the text and the lead-in of the question; the text is truncated to fit the context window."""
        window = self.model.capabilities.window
        while text:
            prompt = f"Passage: {text}\n\nA question that it answers:"
            size = self.model.count_tokens(prompt) + tokens + 8
            if window is None or size <= window:
                return prompt
            text = text[: min(len(text) - 1, int(len(text) * 0.95 * window / size))]
        return "A question:"


class TokenLikeness:
    """The mean, over the query's tokens, of the maximum similarity to a token of the text (Khattab and Zaharia, 2020).

    Works with any embedder that returns token vectors, so it does not need a model of its own.
    """

    def __init__(self, embedder: str | TokenEmbedder) -> None:
        """Use an embedder or its spec.

        Raises:
            UnsupportedError: If it does not return token vectors.
        """
        loaded: object = load_embedder(embedder) if isinstance(embedder, str) else embedder
        if not isinstance(loaded, TokenEmbedder):
            raise UnsupportedError(
                "this embedder gives no vectors of tokens (`embed_tokens`); use minilm, st:... or hash:..."
            )
        self.embedder = loaded

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
        """Return f64[n], mean cosines; 0 if query or text has no tokens."""
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
    different = sorted(set(texts), key=len)  # texts of similar length are batched together with little padding
    return dict(zip(different, embedder.embed_tokens(different), strict=True))


def _predicting(model: Any) -> Reranker:
    """Return the reranker of a cross-encoder of sentence-transformers, or of any object with its method ``predict``."""

    def scores(queries: Sequence[str], texts: Sequence[str], /) -> NDArray[np.float64]:
        pairs = list(zip(queries, texts, strict=True))
        made = np.asarray(model.predict(pairs, show_progress_bar=False), dtype=np.float64)
        if made.size != len(pairs):
            raise InvalidInputError(
                f"the cross-encoder gives scores of the shape {made.shape} for {len(pairs)} pairs, as a classifier of "
                "entailment does; expected one score for each pair, so use a cross-encoder for passage ranking"
            )
        return made.reshape(len(pairs))

    return scores
