"""Answers without citations by the model: their words are looked up in the passages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragkit._lexical.analysis import STOP_WORDS, WordAnalyzer
from ragkit._text import words
from ragkit.records import Hit
from ragkit_pipelines.rag.answers import Citation, without_marks
from ragkit_pipelines.rag.extractive import cited_sentence, sentence_spans

_ANALYZER = WordAnalyzer("english", STOP_WORDS)
_NEGATIONS = {"no", "not", "never", "neither", "nor", "without", "cannot"}
_LONGEST = 50  # words; a longer answer is not a short one


def first_line(text: str) -> str:
    """Return the first line of an answer that is not empty, without citation numbers."""
    lines = (line.strip() for line in without_marks(text).splitlines())
    return next(filter(None, lines), "")


def citation_in(answer: str, hits: Sequence[Hit]) -> tuple[Citation, ...]:
    """Return the sentence of the first passage that contains an answer, or else all of its words in other forms.

    Returns:
        The citation; empty if no sentence does.
    """
    found = re.findall(r"\w+", answer)
    if not 0 < len(found) <= _LONGEST:
        return ()
    pattern = re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, found)) + r"(?!\w)", re.IGNORECASE)
    for number, hit in enumerate(hits, 1):
        if match := pattern.search(hit.text):
            spans = [(start, end) for start, end in sentence_spans(hit.text) if start <= match.start() < end]
            start, end = spans[0] if spans else match.span()
            return (cited_sentence(number, hit, start, max(end, match.end())),)
    terms = _terms(answer)
    for number, hit in enumerate(hits, 1):
        for start, end in sentence_spans(hit.text) if terms else ():
            if terms <= _terms(hit.text[start:end]):
                return (cited_sentence(number, hit, start, end),)
    return ()


def supporting(answer: str, question: str, hits: Sequence[Hit]) -> int | None:
    """Return the number of the first passage that contains every word that the answer adds to the question.

    Words are compared by their stems, without stop words other than negations.

    Returns:
        The number; None if no passage contains them all, or the answer adds none.
    """
    added = _terms(answer) - _terms(question)
    if not added:
        return None
    return next((number for number, hit in enumerate(hits, 1) if added <= _terms(hit.text)), None)


def _terms(text: str) -> set[str]:
    return {*_ANALYZER(text), *(_NEGATIONS.intersection(words(text)))}
