"""From a text to the terms that BM25 counts: words, without the most common ones, reduced to their stems."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import local
from typing import Any

from ragkit.errors import UnknownSpecError
from ragkit.extras import require
from ragkit.text import words

# Words of English that say how a sentence is built rather than what it is about.
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


@dataclass(frozen=True, slots=True)
class Analyzer:
    """Lower-case words, stemmed by the Snowball rules of a language; for English without stop words.

    Attributes:
        language: Such as ``"english"`` or ``"german"``; None for words as they are.

    Examples:
        >>> Analyzer("english")("The lamps that were dimmed")
        ['lamp', 'dim']
        >>> Analyzer(None)("The lamps")
        ['the', 'lamps']
    """

    language: str | None = "english"

    def __post_init__(self) -> None:
        if self.language is not None and self.language not in _languages():
            raise UnknownSpecError("language", self.language, _languages(), hint="None leaves words as they are.")

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in order."""
        found = words(text)
        if self.language is None:
            return found
        if self.language == "english":
            found = [word for word in found if word not in STOP_WORDS]
        terms: list[str] = _stemmer(self.language).stemWords(found)
        return terms


@lru_cache(maxsize=1)
def _languages() -> tuple[str, ...]:
    require("Stemmer")
    import Stemmer

    return tuple(Stemmer.algorithms())


def _stemmer(language: str) -> Any:
    """The stemmer of this thread: it keeps words it has seen, and is not made for several threads."""
    held: dict[str, Any] = _STEMMERS.__dict__
    if language not in held:
        import Stemmer

        held[language] = Stemmer.Stemmer(language)
    return held[language]
