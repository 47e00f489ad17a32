"""Short answers: a few words, which are looked up in the passages instead of being cited by the model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragkit.records import Hit
from ragkit_pipelines.rag.answers import Citation, without_marks
from ragkit_pipelines.rag.extractive import cited_sentence, sentence_spans

_LONGEST = 50  # words; a longer answer is not a short one


def first_line(text: str) -> str:
    """Return the first line of an answer that is not empty, without citation numbers."""
    lines = (line.strip() for line in without_marks(text).splitlines())
    return next(filter(None, lines), "")


def citation_in(answer: str, hits: Sequence[Hit]) -> tuple[Citation, ...]:
    """Return the sentence of the first passage that contains the words of an answer; empty if no passage does."""
    found = re.findall(r"\w+", answer)
    if not 0 < len(found) <= _LONGEST:
        return ()
    pattern = re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, found)) + r"(?!\w)", re.IGNORECASE)
    for number, hit in enumerate(hits, 1):
        if match := pattern.search(hit.text):
            spans = [(start, end) for start, end in sentence_spans(hit.text) if start <= match.start() < end]
            start, end = spans[0] if spans else match.span()
            return (cited_sentence(number, hit, start, max(end, match.end())),)
    return ()
