"""Selectors that rank a pool by shared words: Jaccard, containment, BM25, TF-IDF and n-gram overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._lexical.analysis import Analyzer, NgramAnalyzer, WordAnalyzer, bleu_ngrams, load_analyzer, split
from ragkit._lexical.bleu import Bleu
from ragkit._lexical.bm25 import BM25, K1, LANGUAGE, B
from ragkit._lexical.overlap import Containment, Jaccard, OverlapScorer
from ragkit._lexical.scorer import LexicalScorer
from ragkit._lexical.tfidf import Tfidf
from ragkit._text import words
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit_selectors.base import PoolSelector
from ragkit_selectors.candidates import Candidates, filled
from ragkit_selectors.pool import AnyExample, Pool

_ANALYZERS: dict[str, Analyzer] = {"folded": words, "split": split}
Mode = Literal["folded", "split"]


class LexicalSelector(PoolSelector):
    """Ranks a pool by the score of a `LexicalScorer`. Equal scores are ordered by `ragkit._lexical.tie_breaking`."""

    scorer: LexicalScorer

    def scores(self, query: str) -> NDArray[np.float64]:
        """Score all rows for a query, including removed rows: f64[n]."""
        return self.scorer.scores(query)

    @override
    def _best(self, texts: Sequence[str], n: int, excluded: NDArray[np.bool_] | None) -> list[Candidates]:
        size = len(self.pool.entries)
        return [filled(Candidates(*found), n, size, excluded) for found in self.scorer.best(texts, n, excluded)]

    @override
    def _why(self, text: str, example: str, score: float) -> dict[str, object]:
        return {"matched": self.scorer.matched(text, example), self.scorer.name: score}


class BM25Selector(LexicalSelector):
    """Selects the examples with the highest BM25 score, with the same defaults as `ragkit.BM25Retriever`.

    Attributes:
        analyzer: Turns a text into its terms.
        k1: Term-frequency saturation, 0 or more.
        b: Length normalisation, from 0 to 1.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play the song", "output": "music"}]
        >>> BM25Selector(pool).select("the lamps, please", k=1)[0].output
        'light'
    """

    scorer: BM25

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        *,
        key: str = "input",
        output: str = "output",
        k1: float = K1,
        b: float = B,
        analyzer: str | Analyzer | None = LANGUAGE,
    ) -> None:
        """Read and index the pool; ``analyzer`` may also be the language of a stemmer, or None for whole words."""
        super().__init__(examples, key=key, output=output)
        self.analyzer = load_analyzer(analyzer)
        self.scorer = BM25(self.pool.postings(self.analyzer), k1=k1, b=b)
        self.k1, self.b = k1, b

    @override
    def _config(self) -> dict[str, object]:
        analyzer = self.analyzer
        if not isinstance(analyzer, WordAnalyzer) or analyzer.stop_words:
            raise UnsupportedError(
                f"BM25Selector(analyzer={analyzer!r}) cannot be saved; only languages and None can be"
            )
        return {"k1": self.k1, "b": self.b, "analyzer": analyzer.language}


class TfidfSelector(LexicalSelector):
    """Selects the examples whose TF-IDF vectors have the highest cosine with the query's.

    The vectors are those of scikit-learn's ``TfidfVectorizer``.

    Attributes:
        grams: The unit, and the minimum and maximum length of the n-grams: ``("word", 1, 2)`` for words and pairs of
            words, ``("char", 3, 5)`` for parts of words.
        sublinear: Whether 1 + ln(count) replaces each count.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play the song", "output": "music"}]
        >>> TfidfSelector(pool, grams=("char", 3, 5)).select("lamps", k=1)[0].output
        'light'
    """

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        *,
        key: str = "input",
        output: str = "output",
        grams: tuple[str, int, int] = ("word", 1, 2),
        sublinear: bool = False,
    ) -> None:
        super().__init__(examples, key=key, output=output)
        unit, low, high = grams
        analyzer = NgramAnalyzer(unit, low, high)  # type: ignore[arg-type]  # it checks the unit
        self.scorer = Tfidf(self.pool.postings(analyzer), sublinear=sublinear)
        self.grams, self.sublinear = (unit, low, high), sublinear

    @override
    def _config(self) -> dict[str, object]:
        return {"grams": list(self.grams), "sublinear": self.sublinear}


class _OverlapSelector(LexicalSelector):
    """Ranks by the number of shared words."""

    _measure: ClassVar[type[OverlapScorer]]

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        *,
        key: str = "input",
        output: str = "output",
        mode: Mode = "folded",
    ) -> None:
        """Read and index the pool: words that are ``"folded"``, or exactly those of ``set(s.split(" "))``."""
        if mode not in _ANALYZERS:
            raise InvalidInputError(f"`mode` must be 'folded' or 'split', got {mode!r}")
        super().__init__(examples, key=key, output=output)
        self.mode = mode
        self.scorer = self._measure(self.pool.postings(_ANALYZERS[mode]))

    @override
    def _config(self) -> dict[str, object]:
        return {"mode": self.mode}


class JaccardSelector(_OverlapSelector):
    """Selects the examples with the highest Jaccard similarity of words, |A ∩ B| / |A ∪ B|, 0 if both are empty.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play a song", "output": "music"}]
        >>> hit = JaccardSelector(pool).select("Dim the lights!", k=1).hits[0]
        >>> hit.id, hit.why
        ('0', {'matched': ['dim', 'the'], 'jaccard': 0.5})
    """

    _measure = Jaccard


class ContainmentSelector(_OverlapSelector):
    """Selects the examples that contain most of the query's words, however long they are: |A ∩ B| / |A|.

    Examples:
        >>> pool = [{"input": "dim", "output": "a"}, {"input": "please dim the old lamp in the hall", "output": "b"}]
        >>> ContainmentSelector(pool).select("dim the lamp", k=1)[0].output
        'b'
    """

    _measure = Containment


class NgramSelector(LexicalSelector):
    """Selects the examples that share most n-grams of one to four words with the query: the highest sentence BLEU.

    Words are separated by white space, and case counts. The score was used to select examples in arXiv 2212.02437 and
    by LangChain's n-gram selector, which returns all examples instead of k.

    Examples:
        >>> pool = [{"input": "the lamp dims", "output": "a"}, {"input": "dim the lamp now", "output": "b"}]
        >>> NgramSelector(pool).select("please dim the lamp", k=1)[0].output
        'b'
    """

    def __init__(self, examples: Sequence[AnyExample] | Pool, *, key: str = "input", output: str = "output") -> None:
        super().__init__(examples, key=key, output=output)
        self.scorer = Bleu(self.pool.postings(bleu_ngrams))

    @override
    def _config(self) -> dict[str, object]:
        return {}
