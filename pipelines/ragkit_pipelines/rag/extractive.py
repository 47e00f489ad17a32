"""Answer without a language model, by quoting the sentences that are most similar to the question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit._lexical.analysis import STOP_WORDS, Analyzer, WordAnalyzer, load_analyzer
from ragkit._pairwise import inner_products
from ragkit._text import SENTENCE_CLOSERS, SENTENCE_ENDS
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.protocols import Embedder
from ragkit.records import Hit
from ragkit_pipelines.rag.answers import Citation, citation_of, lines_of

# A Markdown heading or a code block, which is similar to many questions but does not answer any.
_NO_ANSWER = re.compile(r"#{1,6} [^\n]*\Z|```")
# A sentence ends at a punctuation mark before white space, at a blank line, and before the next item of a list.
_END = re.compile(
    r"""
    (?<=[.!?…])["'”’)\]]*\s+(?=["'“‘(\[]*[^\W_a-z]|[-*•]\s)   # a mark before the possible start of a sentence
    | (?:[ENDS]|．(?!\d))+[CLOSERS]*\s*                         # marks of other scripts, which need no space
    | (?>\r\n|[\r\n])\s*?(?>\r\n|[\r\n])                       # a blank line
    | [\r\n](?=\s*(?:[-*•]|\d+[.)]|\#+|\|)\s)                   # an item of a list, a heading, a row
    """.replace("ENDS", SENTENCE_ENDS).replace("CLOSERS", SENTENCE_CLOSERS),
    re.VERBOSE,
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"“])(?:[^\W\d_]|[A-Z]\.[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|al|cf|e\.g|i\.e|No|Fig|Eq|Vol|pp|approx)\.$"
)


class Extract(NamedTuple):
    """The sentences that answer a question.

    Attributes:
        text: The sentences in the order of the passages, with citation numbers; empty if no sentence is similar enough.
        citations: The citation of each sentence.
        score: Score of the best sentence, even if it is too low.
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
    """Answer with the sentences of the passages that are most similar to the question.

    The score of a sentence is the mean of two values: its cosine similarity to the question, and the share of the
    question's terms that it contains, weighted by IDF.

    Attributes:
        embedder: The embedder of sentences and questions.
        sentences: Maximum number of sentences.
        min_score: Minimum score of the best sentence; below it, the question is not answered.
        analyzer: Function from a text to its terms.
    """

    def __init__(
        self,
        embedder: str | Embedder = "minilm",
        *,
        sentences: int = 2,
        min_score: float = 0.3,
        analyzer: str | Analyzer | None = WordAnalyzer("english", STOP_WORDS),  # noqa: B008
    ) -> None:
        """Create a reader.

        Args:
            embedder: An embedder or its spec.
            sentences: Maximum number of sentences, at least 1.
            min_score: Minimum score of the best sentence, at most 1.
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
        """Answer each question from its own passages; all sentences are embedded as one batch."""
        candidates = [[each for n, hit in enumerate(hits, 1) for each in _sentences(n, hit)] for hits in passages]
        texts = sorted({each.text for own in candidates for each in own}, key=len)
        rows = {text: row for row, text in enumerate(texts)}
        vectors, queries = self.embedder.embed_documents(texts), self.embedder.embed_queries(list(questions))
        extracts = []
        for question, own, query, hits in zip(questions, candidates, queries, passages, strict=True):
            similarity = inner_products(vectors[[rows[each.text] for each in own]], query)
            scores = (similarity + self._term_overlap(question, own)) / 2
            extracts.append(self._best(own, scores.round(6), hits))
        return extracts

    def _term_overlap(self, question: str, sentences: Sequence[_Sentence]) -> NDArray[np.float64]:
        """Return the share of the question's terms in each sentence, weighted by their IDF in these sentences."""
        wanted = set(self.analyzer(question))
        terms = [wanted & set(self.analyzer(each.text)) for each in sentences]
        frequency = Counter(term for own in terms for term in own)
        n = len(sentences)
        weights = {term: log(1 + (n - frequency[term] + 0.5) / (frequency[term] + 0.5)) for term in wanted}
        total = sum(weights.values()) or 1.0
        return np.array([sum(weights[term] for term in sorted(own)) / total for own in terms], dtype=np.float64)

    def _best(self, sentences: Sequence[_Sentence], scores: NDArray[np.float64], hits: Sequence[Hit]) -> Extract:
        if not len(scores) or scores.max() < self.min_score:
            return Extract("", (), float(scores.max(initial=0.0)))
        best = np.argsort(-scores, kind="stable")[: self.sentences].tolist()
        kept = [sentences[row] for row in sorted(best) if scores[row] >= self.min_score]
        # Consecutive sentences of one passage share a citation number, which is easier to read.
        parts = []
        for number, own in groupby(kept, key=lambda each: each.number):
            parts.append(f"{' '.join(' '.join(each.text.split()) for each in own)} [{number}]")
        cited = tuple(cited_sentence(each.number, hits[each.number - 1], each.start, each.end) for each in kept)
        return Extract(" ".join(parts), cited, float(scores.max()))


def _sentences(number: int, hit: Hit) -> list[_Sentence]:
    found = [_Sentence(number, start, end, hit.text[start:end]) for start, end in sentence_spans(hit.text)]
    return [each for each in found if not _NO_ANSWER.match(each.text)]


def cited_sentence(number: int, hit: Hit, start: int, end: int) -> Citation:
    """Return the citation of a part of a passage."""
    span = None if hit.span is None else (hit.span[0] + start, hit.span[0] + end)
    return replace(citation_of(number, hit), span=span, text=hit.text[start:end], lines=lines_of(hit, start, end))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Split a text into sentences.

    Args:
        text: Prose, lists or Markdown.

    Returns:
        Start and end of each sentence, without surrounding white space.

    Examples:
        >>> text = "Dr. Who came. He left at 5 p.m. yesterday!  - Really?"
        >>> [text[start:end] for start, end in sentence_spans(text)]
        ['Dr. Who came.', 'He left at 5 p.m. yesterday!', '- Really?']
    """
    ends = [(found.start(), found.end()) for found in _END.finditer(text)]
    cuts = [0, *(after for at, after in ends if not _ABBREVIATION.search(text[max(0, at - 12) : at]))]
    spans = []
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        own = text[start:end]
        if own.strip():
            first = start + len(own) - len(own.lstrip())
            spans.append((first, start + len(own.rstrip())))
    return spans
