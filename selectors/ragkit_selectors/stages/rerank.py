"""A stage that reranks the candidates by a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.protocols import LanguageModel
from ragkit.records import Prompt
from ragkit.templates import Template
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.stages.base import FetchingStage, SelectionContext, Upstream

Score = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Rerank(FetchingStage):
    """Reranks candidates by the score of a model.

    The score of a language model is the likelihood of the query after the example, which needs no answer and ranks
    prompts well (arXiv 2212.04037).

    Attributes:
        score: A language model, or a function of n prompts and n continuations that returns f64[n], higher for better.
            The function receives rendered examples and the rendered query; it may also be a cross-encoder.
        fetch_k: Number of candidates to score.
        template: Format of the examples and the query.
    """

    score: LanguageModel | Score
    fetch_k: int = 20
    template: Template = field(default_factory=Template)

    def __post_init__(self) -> None:
        if not callable(self.score) and not isinstance(self.score, LanguageModel):
            raise InvalidInputError(f"`score` must be a language model or a function, got {type(self.score).__name__}")
        FetchingStage.__post_init__(self)

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Return the n candidates with the highest score."""
        found = upstream(self.fetch(n))
        prompts = [self.template.head + self.template.render_example(example) for example in context.examples(found)]
        query = self.template.render_query(context.query)
        if isinstance(self.score, LanguageModel):  # no chat turns, because the query continues the example
            scores = self.score.score([Prompt(text, form="text") for text in prompts], [query])[:, 0]
        else:
            scores = np.asarray(self.score(prompts, [query] * len(prompts)), dtype=np.float64)
        if scores.shape != (len(prompts),) or np.isnan(scores).any():
            raise InvalidInputError(f"`score` must give {len(prompts)} numbers, got {scores!r}")
        places = np.argsort(-scores, kind="stable")[:n]
        return found.take(places, model_score=scores[places])
