"""Analyzers: functions that turn a text into the terms that lexical scores count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import local
from typing import Any, Literal

from typing_extensions import override

from ragkit._text import han_characters, normalised, words
from ragkit.errors import InvalidInputError, UnknownSpecError

Analyzer = Callable[[str], list[str]]
"""Turns a text into its terms, in order. Equal analyzers compare equal and are hashable."""

# English function words.
_STOP_WORDS = """
a about above after again against all also am among an and any are as at be because been before being below
between both but by can could did do does doing don down during each either etc ever few for from further had
has have having he her here hers herself him himself his how however i if in into is it its itself just many may
me might more most much must my myself no nor not now of off on once only or other our ours ourselves out over
own per s same several shall she should so some still such t than that the their theirs them themselves then
there therefore these they this those through thus to too under until up upon us very via was we were what when
where whether which while who whom whose why will with within without would yet you your yours yourself
yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_STEMMERS = local()
_LONGEST_GRAM = 20  # the number of n-grams of a text grows with their maximum length


@dataclass(frozen=True, slots=True)
class WordAnalyzer:
    """Splits a text into normalised words, as `ragkit._text.words` does, and reduces them to their stems.

    Attributes:
        language: The language of the Snowball stemmer, such as ``"english"`` or ``"german"``; None to keep whole words.
        stop_words: Words to leave out, in lower case.

    Examples:
        >>> WordAnalyzer("english")("The lamps that were dimmed")
        ['the', 'lamp', 'that', 'were', 'dim']
        >>> WordAnalyzer("english", STOP_WORDS)("The lamps that were dimmed")
        ['lamp', 'dim']
    """

    language: str | None = "english"
    stop_words: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.language is not None and self.language not in _languages():
            raise UnknownSpecError("language", self.language, _languages(), hint="Pass None to keep whole words.")

    def __call__(self, text: str) -> list[str]:
        """Return the terms of a text in order; the single characters of Chinese texts follow after the pairs."""
        found = words(text) + han_characters(text)
        if self.stop_words:
            found = [word for word in found if word not in self.stop_words]
        return found if self.language is None else _stemmer(self.language).stemWords(found)

    @override
    def __repr__(self) -> str:  # sorted, because this string identifies the files created with the analyzer
        return f"WordAnalyzer({self.language!r}, {sorted(self.stop_words)})"


def load_analyzer(analyzer: str | Analyzer | None) -> Analyzer:
    """Return the analyzer of a language, or of whole words for None; a function is returned unchanged."""
    return analyzer if callable(analyzer) else WordAnalyzer(analyzer)


@dataclass(frozen=True, slots=True)
class NgramAnalyzer:
    """Splits a text into n-grams of words or of characters, as the vectorizers of scikit-learn do.

    Attributes:
        unit: ``"word"`` for sequences of normalised words; ``"char"`` for sequences of characters within words, where
            each word is padded with a space on both sides.
        low: The length of the shortest n-grams.
        high: The length of the longest n-grams.
    """

    unit: Literal["word", "char"]
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.unit not in {"word", "char"} or not 1 <= self.low <= self.high <= _LONGEST_GRAM:
            raise InvalidInputError(
                f"`grams` must be ('word' or 'char', low, high) with 1 <= low <= high <= {_LONGEST_GRAM}, got "
                f"{(self.unit, self.low, self.high)!r:.200}"
            )

    def __call__(self, text: str) -> list[str]:
        """Return the n-grams of a text, the shortest ones first."""
        if self.unit == "word":
            found = words(text)
            sizes = range(self.low, min(self.high, len(found)) + 1)
            return [" ".join(found[at : at + size]) for size in sizes for at in range(len(found) - size + 1)]
        return [gram for word in normalised(text).split() for gram in self._within(f" {word} ")]

    def _within(self, word: str) -> list[str]:
        found: list[str] = []
        for size in range(self.low, self.high + 1):
            found += [word[at : at + size] for at in range(max(1, len(word) - size + 1))]
            if size >= len(word):  # a word shorter than the n-gram counts once
                break
        return found


def split(text: str) -> list[str]:
    """Split a text at every space, as ``text.split(" ")`` does."""
    return text.split(" ")


def bleu_ngrams(text: str) -> list[str]:
    """Return the n-grams of BLEU: sequences of one to four words, separated by white space, the single words first."""
    found = text.split()
    return [" ".join(found[start : start + size]) for size in range(1, 5) for start in range(len(found) - size + 1)]


@cache
def _languages() -> tuple[str, ...]:
    import Stemmer

    return tuple(Stemmer.algorithms())


def _stemmer(language: str) -> Any:
    """Return the stemmer of this thread; stemmers cache words and are not thread-safe."""
    held: dict[str, Any] = _STEMMERS.__dict__
    if language not in held:
        import Stemmer

        held[language] = Stemmer.Stemmer(language)
    return held[language]
