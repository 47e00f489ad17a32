"""Metrics that compare the wording of an answer with the expected text: token F1, chrF and ROUGE."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

from ragkit.extras import require
from ragkit.text import spaced, words

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


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
    """Return chrF (Popović, WMT 2015): F2 of character n-grams up to six, by sacrebleu, scaled to 0 to 1."""
    composed = [unicodedata.normalize("NFC", each) for each in (answer, expected)]
    return float(_chrf_scorer().sentence_score(composed[0], composed[1:]).score) / 100


def rouge_1(answer: str, expected: str) -> float:
    """Return ROUGE-1 F1 (Lin, 2004), from 0 to 1: common words, by rouge-score, unstemmed, in all scripts."""
    return _rouge("rouge1", answer, expected)


def rouge_2(answer: str, expected: str) -> float:
    """Return ROUGE-2 F1 (Lin, 2004), from 0 to 1: common word pairs, by rouge-score, unstemmed, in all scripts."""
    return _rouge("rouge2", answer, expected)


def rouge_l(answer: str, expected: str) -> float:
    """Return ROUGE-L F1 (Lin, 2004), from 0 to 1: longest common subsequence of words, by rouge-score, unstemmed."""
    return _rouge("rougeL", answer, expected)


def _squad_words(text: str) -> list[str]:
    plain = text.lower().translate(_PUNCTUATION)
    if not plain.isascii():
        composed = unicodedata.normalize("NFC", plain)
        plain = spaced("".join(each for each in composed if not unicodedata.category(each).startswith("P")))
    return _ARTICLES.sub(" ", plain).split()


def _rouge(kind: str, answer: str, expected: str) -> float:
    return float(_rouge_scorer(kind).score(target=expected, prediction=answer)[kind].fmeasure)


@cache
def _chrf_scorer() -> Any:
    require("sacrebleu")
    from sacrebleu.metrics import CHRF

    return CHRF()


@cache
def _rouge_scorer(kind: str) -> Any:
    require("rouge_score")
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_RougeTokenizer())


class _RougeTokenizer:
    """A tokenizer for all scripts; that of rouge-score only knows the letters a to z."""

    def tokenize(self, text: str) -> list[str]:
        return words(text.replace("_", " "))
