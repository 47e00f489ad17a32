"""Helpers for the wording of answers: normalised characters, phrases that announce an answer, and negations."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from ragkit._text import composed

_DASHES = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_APOSTROPHES = "\u2018\u2019\u02bc"

_IN_OTHER_LANGUAGES = (
    "réponse|respuesta|resposta|risposta|antwort|antwoord|svar|vastaus|válasz|odpowiedź|odpověď|ответ|відповідь|"
    "cevap|yanıt|jawaban|jawapan|đáp án|απάντηση|الإجابة|الجواب|پاسخ|תשובה|उत्तर|जवाब|"
    "উত্তর|คำตอบ|정답|답변|답|答案|回答|答え|正解"
)
_VERB = r"(?:is|was|would be|should be|must be|est|es|ist|é|è|là|это|هو|هي|হল|হলো)(?!\w)|คือ|[是为為は은는]"
_ADJECTIVE = r"(?:\s(?:correct[ao]?|corrett[ao]|corret[ao]|finale?))?"
_CLOSING = r"[\"'*_)\]`]*+"

_CLAUSE = r"[^.,;!?\n。、]"
_NEGATION = re.compile(
    r"(?:(?<!\w)(?:not|no(?!\s(?:doubt|question))|non|never|neither|nor|without|cannot|\w{1,10}n't|instead of|"
    r"rather than|except|wrong|incorrect|unlike|unlikely|nicht|kein\w{0,2}|weder|pas|jamais|ni|nunca|não|nem|"
    rf"nessun\w?|не|нет|ни|nie|niet|geen|inte)(?!\w){_CLAUSE}{{0,24}}|[不非没沒無无未]{_CLAUSE}{{0,2}})\Z",
    re.IGNORECASE,
)


class CharacterTable(dict[int, str]):
    """A table for `str.translate` that computes the replacement of a character when it first occurs."""

    def __init__(self, replacement: Callable[[str], str]) -> None:
        super().__init__()
        self._replacement = replacement

    def __missing__(self, code: int) -> str:
        self[code] = self._replacement(chr(code))
        return self[code]


def _usual_form(char: str) -> str:
    if char in _DASHES:
        return "-"
    if char in _APOSTROPHES:
        return "'"
    return "" if unicodedata.category(char) == "Cf" else char


_USUAL_FORMS = CharacterTable(_usual_form)


def plain(text: str) -> str:
    """Normalise characters: NFKC, ASCII dashes and apostrophes, without invisible characters."""
    return composed(text, "NFKC").translate(_USUAL_FORMS)


def announcing(words: str) -> re.Pattern[str]:
    """Return a pattern for phrases that announce an answer: ``The answer is``, ``答案：`` or ``<answer>``.

    ``words`` are English words for the answer, as alternatives of a regular expression. A match in any text, `plain` or
    not, ends before the answer or its quotation marks.

    Returns:
        The pattern.
    """
    others = f"{_IN_OTHER_LANGUAGES}|{plain(_IN_OTHER_LANGUAGES)}"  # NFKC decomposes a Thai vowel
    nouns = rf"(?:(?<![A-Za-z])(?:{words})(?![A-Za-z])|{others})"
    whose = r"(?:\s(?:to|for|of)(?:\s\w{1,20}){1,5}?)?"
    link = rf"(?:(?:{_VERB})\s*+[:：]?+|[:：=]|[-—–](?=\s))"
    return re.compile(rf"(?:{nouns}{_ADJECTIVE}{whose}{_CLOSING}\s*+{link}|<answer>){_CLOSING}\s*+", re.IGNORECASE)


def negated(text: str, start: int) -> bool:
    """Return whether a negation such as ``not`` or ``isn't`` precedes a position of a `plain` text in its clause."""
    return _NEGATION.search(text, max(0, start - 40), start) is not None
