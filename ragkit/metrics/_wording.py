"""Metrics that compare the wording of an answer with the expected text: token F1, chrF and ROUGE."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from ragkit._extras import require
from ragkit._text import composed, spaced, words

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MOST_CHARACTERS = 200_000  # sacrebleu takes a kilobyte of memory for each character
_MOST_WORDS = 20_000  # the time and memory of the longest common subsequence grow with their square


def token_f1(answer: str, expected: str) -> float:
    """Return the F1 of the words of answer and expected text, normalised as for SQuAD (Rajpurkar et al., EMNLP 2016).

    Case, punctuation and English articles are ignored. Each character of Chinese and other scripts without spaces is a
    word, as in MLQA (Lewis et al., ACL 2020). If one text has no words, the score is 1.0 if the other has none either,
    and 0.0 otherwise.

    Examples:
        >>> token_f1("The cat sat.", "a cat")
        0.6666666666666666

    Returns:
        A score from 0 to 1.
    """
    return multiset_f1(Counter(_squad_words(answer)), Counter(_squad_words(expected)))


def multiset_f1(found: Counter[Any], wanted: Counter[Any]) -> float:
    """Return the harmonic mean of precision and recall of two multisets, from 0 to 1; 1 if both are empty."""
    total = found.total() + wanted.total()
    return 2 * (found & wanted).total() / total if total else 1.0


def chrf(answer: str, expected: str) -> float:
    """Return chrF (Popović, WMT 2015), from 0 to 1: F2 of character n-grams up to six, by sacrebleu.

    Only the first 200,000 characters of a text are compared.

    Returns:
        The score.
    """
    found, wanted = composed(answer[:_MOST_CHARACTERS]), composed(expected[:_MOST_CHARACTERS])
    return float(_chrf_scorer().sentence_score(found, [wanted]).score) / 100


def rouge_1(answer: str, expected: str) -> float:
    """Return ROUGE-1 F1 (Lin, 2004), from 0 to 1: common words, without stemming, in all scripts."""
    found, wanted = _rouge_words(answer), _rouge_words(expected)
    return _f1((Counter(found) & Counter(wanted)).total(), len(found), len(wanted))


def rouge_2(answer: str, expected: str) -> float:
    """Return ROUGE-2 F1 (Lin, 2004), from 0 to 1: common pairs of words, without stemming, in all scripts."""
    found, wanted = Counter(pairwise(_rouge_words(answer))), Counter(pairwise(_rouge_words(expected)))
    return _f1((found & wanted).total(), found.total(), wanted.total())


def rouge_l(answer: str, expected: str) -> float:
    """Return ROUGE-L F1 (Lin, 2004), from 0 to 1: the longest common subsequence of words, without stemming.

    Only the first 20,000 words of a text are compared.

    Returns:
        The score.
    """
    found, wanted = _rouge_words(answer)[:_MOST_WORDS], _rouge_words(expected)[:_MOST_WORDS]
    return _f1(_common_subsequence(found, wanted), len(found), len(wanted))


def _squad_words(text: str) -> list[str]:
    plain = text.lower().translate(_PUNCTUATION)
    if not plain.isascii():
        plain = spaced("".join(each for each in composed(plain) if not unicodedata.category(each).startswith("P")))
    return _ARTICLES.sub(" ", plain).split()


def _rouge_words(text: str) -> list[str]:
    return words(text.replace("_", " "))


def _f1(common: int, found: int, wanted: int) -> float:
    """Return the harmonic mean of precision and recall; 0 if nothing is common, also for empty texts."""
    if not common:
        return 0.0
    precision, recall = common / found, common / wanted
    return 2 * precision * recall / (precision + recall)


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, with one bit for each word of ``other`` (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(other)) - 1
    row = every  # a cleared bit is a word at which the subsequence grows
    for word in one:
        if common := row & places.get(word, 0):
            row = ((row + common) | (row - common)) & every
    return len(other) - row.bit_count()


@cache
def _chrf_scorer() -> Any:
    require("sacrebleu")
    from sacrebleu.metrics import CHRF

    return CHRF()
