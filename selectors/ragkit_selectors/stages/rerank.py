"""A stage that lets a model judge the candidates."""

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
from ragkit_selectors.stages.base import Asked, Before

Score = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Rerank:
    """Order candidates by a model's score; with a language model, by how likely the query is after the example.

    That likelihood needs no answer and ranks prompts well (arXiv 2212.04037).

    Attributes:
        score: A language model, or a function of prompts and answers, one answer for each prompt, to f64[n], higher for
            better. It gets rendered examples and the rendered query; a cross-encoder fits too.
        fetch_k: How many candidates are judged.
        template: How examples and query become text.
    """

    score: LanguageModel | Score
    fetch_k: int = 20
    template: Template = field(default_factory=Template)

    def __post_init__(self) -> None:
        if not callable(self.score) and not isinstance(self.score, LanguageModel):
            raise InvalidInputError(f"`score` must be a language model or a function, got {type(self.score).__name__}")
        if type(self.fetch_k) is not int or self.fetch_k < 1:
            raise InvalidInputError(f"`fetch_k` must be a whole number of at least 1, got {self.fetch_k!r}")

    def fetch(self, n: int) -> int:
        """At least `fetch_k`."""
        return max(n, self.fetch_k)

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Choose the n that the model likes best."""
        found = before(self.fetch(n))
        prompts = [self.template.head + self.template.render_example(example) for example in asked.examples(found)]
        query = self.template.render_query(asked.query)
        if isinstance(self.score, LanguageModel):  # the query is a continuation of the example, so no chat turns
            scores = self.score.score([Prompt(text, form="text") for text in prompts], [query])[:, 0]
        else:
            scores = np.asarray(self.score(prompts, [query] * len(prompts)), dtype=np.float64)
        if scores.shape != (len(prompts),) or np.isnan(scores).any():
            raise InvalidInputError(f"`score` must give {len(prompts)} numbers, got {scores!r}")
        places = np.argsort(-scores, kind="stable")[:n]
        return found.take(places, model_score=scores[places])
