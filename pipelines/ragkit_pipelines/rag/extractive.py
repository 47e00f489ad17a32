"""An answer without a language model: the sentences that come nearest to the question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.lexical.analysis import STOP_WORDS, Analyzer, WordAnalyzer, load_analyzer
from ragkit.pairwise import inner_products
from ragkit.protocols import Embedder
from ragkit.records import Hit
from ragkit_pipelines.rag.answers import Citation, citation_of
from ragkit_pipelines.rag.sentences import sentence_spans

# A heading of Markdown by itself, or a block of code: near to many questions, and an answer to none.
_NO_ANSWER = re.compile(r"#{1,6} [^\n]*\Z|```")


class Extract(NamedTuple):
    """What was read out of some passages.

    Attributes:
        text: The sentences in the order of the passages, each with its number; empty where none is near enough.
        citations: Each sentence with its place in its source.
        score: Score of the best sentence, whether it was near enough or not.
    """

    text: str
    citations: tuple[Citation, ...]
    score: float


class _Sentence(NamedTuple):
    number: int  # of the passage
    start: int
    end: int
    text: str


class ExtractiveReader:
    """Answer with the sentences of the passages that are most like the question.

    Their score is the mean of two shares: the cosine of sentence and question, and how much of the question's words the
    sentence holds, rare words counting more.

    Attributes:
        embedder: What compares sentences and questions.
        sentences: How many are given at the most.
        min_score: What the best sentence must reach; below it the documents are taken not to answer.
        analyzer: Turns a text into its terms.
    """

    def __init__(
        self,
        embedder: str | Embedder = "minilm",
        *,
        sentences: int = 2,
        min_score: float = 0.3,
        analyzer: str | Analyzer | None = WordAnalyzer("english", STOP_WORDS),  # noqa: B008
    ) -> None:
        """Choose how to read.

        Args:
            embedder: An embedder or its spec.
            sentences: How many sentences are given at the most, at least 1.
            min_score: What the best sentence must reach, up to 1.
            analyzer: The language of a stemmer, None for whole words, or a function from a text to its terms.

        Raises:
            InvalidInputError: If a number is out of its range.
        """
        if type(sentences) is not int or sentences < 1 or not -1 <= min_score <= 1:
            raise InvalidInputError(
                f"`sentences` must be at least 1 and `min_score` between -1 and 1, got {sentences!r} and {min_score!r}"
            )
        self.embedder = load_embedder(embedder)
        self.sentences, self.min_score = sentences, min_score
        self.analyzer = load_analyzer(analyzer)

    def read(self, questions: Sequence[str], passages: Sequence[Sequence[Hit]]) -> list[Extract]:
        """Answer each question from its passages; all sentences are embedded together, equal ones once.

        Args:
            questions: n questions.
            passages: For each of them its passages, the best first.

        Returns:
            For each question what was read.
        """
        held = [[each for n, hit in enumerate(hits, 1) for each in _sentences(n, hit)] for hits in passages]
        texts = sorted({each.text for own in held for each in own}, key=len)
        places = {text: place for place, text in enumerate(texts)}
        vectors, asked = self.embedder.embed_documents(texts), self.embedder.embed_queries(list(questions))
        read = []
        for question, own, vector, hits in zip(questions, held, asked, passages, strict=True):
            likeness = inner_products(vectors[[places[each.text] for each in own]], vector)
            scores = (likeness + self._shared(question, own)) / 2
            read.append(self._chosen(own, scores.round(6), hits))
        return read

    def _shared(self, question: str, sentences: Sequence[_Sentence]) -> NDArray[np.float64]:
        """The share of the question's words that each sentence holds, by how rare they are among these sentences."""
        wanted = set(self.analyzer(question))
        terms = [wanted & set(self.analyzer(each.text)) for each in sentences]
        frequency = Counter(term for own in terms for term in own)
        n = len(sentences)
        weights = {term: log(1 + (n - frequency[term] + 0.5) / (frequency[term] + 0.5)) for term in wanted}
        total = sum(weights.values()) or 1.0
        return np.array([sum(weights[term] for term in sorted(own)) / total for own in terms], dtype=np.float64)

    def _chosen(self, sentences: Sequence[_Sentence], scores: NDArray[np.float64], hits: Sequence[Hit]) -> Extract:
        if not len(scores) or scores.max() < self.min_score:
            return Extract("", (), float(scores.max(initial=0.0)))
        best = np.argsort(-scores, kind="stable")[: self.sentences].tolist()
        kept = [sentences[place] for place in sorted(best) if scores[place] >= self.min_score]
        # Neighbouring sentences of one passage read better under one number.
        parts = []
        for number, own in groupby(kept, key=lambda each: each.number):
            parts.append(f"{' '.join(' '.join(each.text.split()) for each in own)} [{number}]")
        return Extract(" ".join(parts), tuple(_citation(each, hits) for each in kept), float(scores.max()))


def _sentences(number: int, hit: Hit) -> list[_Sentence]:
    found = [_Sentence(number, start, end, hit.text[start:end]) for start, end in sentence_spans(hit.text)]
    return [each for each in found if not _NO_ANSWER.match(each.text)]


def _citation(sentence: _Sentence, hits: Sequence[Hit]) -> Citation:
    hit = hits[sentence.number - 1]
    whole = citation_of(sentence.number, hit)
    span = None if hit.span is None else (hit.span[0] + sentence.start, hit.span[0] + sentence.end)
    return Citation(number=whole.number, id=whole.id, source=whole.source, span=span, text=sentence.text)
