"""Text normalisation and splitting into words, shared by all parts of the library, and parsing of JSON."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import chain, count, pairwise
from reprlib import Repr
from typing import Literal, NamedTuple

from ragkit.errors import InvalidInputError

# Scripts that are written without spaces between words: Thai and Lao, Myanmar, Khmer, then kana and Han characters.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b"
    "\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9fe\uaa60-\uaa7f\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that end a sentence without a space after them (Unicode's STerm, without those of the Latin script).
SENTENCE_ENDS = (
    "\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1367\u1368"
    "\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d\u1b7e\u1c3b\u1c3c"
    "\u1c7e\u1c7f\u2cf9-\u2cfb\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f"
    "\uaaf0\uaaf1\uabeb\ufe12\ufe15\ufe16\ufe56\ufe57\uff01\uff1f\uff61"
)
SENTENCE_CLOSERS = "”’)\\]）］】」』》〉"  # characters that may follow such a mark in its sentence
_HAN = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Invisible characters inside words: soft hyphens, joiners, directional marks, variation selectors.
_INVISIBLE = re.compile(
    "[\u00ad\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
)
_ASCII_WORD = re.compile(r"\w+")
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100  # characters
_MAYBE_MARKS = re.compile(r"[^\w\s\x00-\x7f]{31,}")  # much faster to find than exactly the combining marks


def composed(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """Normalise a text in linear time: a joiner interrupts runs of over 30 marks (Unicode's Stream-Safe Format)."""
    if not text.isascii():
        text = _MAYBE_MARKS.sub(lambda run: _patterns().mark_run.sub(_interrupted, run[0]), text)
    return unicodedata.normalize(form, text)


def _interrupted(run: re.Match[str]) -> str:
    return "\u034f".join(re.findall(".{1,30}", run[0]))


def normalised(text: str) -> str:
    """Normalise a text to NFKC with full case folding.

    Spellings that Unicode treats as equivalent become equal. Soft hyphens and other invisible characters are removed.

    Examples:
        >>> normalised("Ｃａｆｅ\u0301 STRASSE") == normalised("café straße")
        True

    Returns:
        The normalised text, including white space and punctuation.
    """
    if text.isascii():
        return text.lower()
    without_case = _INVISIBLE.sub("", composed(text, "NFKC")).casefold()
    # The Turkish capital I with a dot folds to an i and a combining dot, but users search for the plain i.
    return composed(without_case.replace("i\u0307", "i"), "NFKC")


def words(text: str) -> list[str]:
    """Split a text into normalised words. All lexical scores, duplicate checks and leak checks use this function.

    A word is a sequence of letters, digits and underscores with their combining marks. Chinese, Japanese, Thai, Lao,
    Khmer and Myanmar are written without spaces, so their texts are split into overlapping pairs of characters, as in
    search engines without a dictionary; a single character is one word.

    Examples:
        >>> words("Where's my card?")
        ['where', 's', 'my', 'card']
        >>> words("红色的灯 LED")
        ['红色', '色的', '的灯', 'led']

    Returns:
        The words in order, without punctuation.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    patterns, text = _patterns(), normalised(text)
    if not patterns.unspaced.search(text):
        return patterns.word.findall(text)
    found: list[str] = []
    for run in chain.from_iterable(map(patterns.run.findall, patterns.word.findall(text))):
        characters = patterns.character.findall(run) if patterns.unspaced.match(run) else [run]
        found += map("".join, pairwise(characters)) if len(characters) > 1 else characters
    return found


def spaced(text: str) -> str:
    """Put spaces around each character of scripts that are written without spaces, with its combining marks."""
    return text if text.isascii() else _patterns().single.sub(r" \g<0> ", text)


def han_characters(text: str) -> list[str]:
    """Return the single Chinese characters of a text in order; many are words by themselves."""
    return [] if text.isascii() else _HAN.findall(normalised(text))


def folded(text: str) -> str:
    """Return the normalised words of a text joined by spaces; a text without words is returned unchanged."""
    found = _ASCII_WORD.findall(text.lower()) if text.isascii() else _patterns().word.findall(normalised(text))
    return " ".join(found) or text


class _Patterns(NamedTuple):
    word: re.Pattern[str]
    run: re.Pattern[str]
    unspaced: re.Pattern[str]
    character: re.Pattern[str]
    single: re.Pattern[str]
    mark_run: re.Pattern[str]


@cache
def combining_marks() -> str:
    """Return all combining marks and vowel signs of Unicode; cached, because computing them takes milliseconds."""
    return "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)) in {"Mn", "Mc"})


@cache
def _patterns() -> _Patterns:
    """Return the patterns that need the list of combining marks."""
    marks = combining_marks()
    unspaced = f"[{UNSPACED}{marks}]"
    return _Patterns(
        word=re.compile(rf"\w[\w{marks}]*"),
        run=re.compile(rf"[{UNSPACED}]{unspaced}*|[^{UNSPACED}]+"),
        unspaced=re.compile(f"[{UNSPACED}]"),
        character=re.compile(rf".[{marks}]*"),
        single=re.compile(rf"[{UNSPACED}][{marks}]*"),
        mark_run=re.compile(f"[{marks}]{{31,}}"),
    )


def read_json(text: str | bytes, *, unique_names: bool = False) -> object:
    """Parse JSON from a user, a model or a file. By default, the last of several members with the same name counts.

    Returns:
        The value.

    Raises:
        InvalidInputError: If the text is not valid JSON, is nested too deeply, or contains a number that is too long
            (`json.loads` raises three different errors for these); or, with ``unique_names``, if an object has two
            members with the same name.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique if unique_names else None)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{error}; this is not valid JSON") from error


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(members)
    if len(made) < len(members):
        names = Counter(name for name, _ in members)
        raise ValueError(f"an object has {names.most_common(1)[0][0]!r:.200} more than once")
    return made


def refuse_bare_string(name: str, texts: Sequence[object]) -> None:
    """Reject a single string for an argument that takes several, because it would be read letter by letter."""
    if isinstance(texts, str):
        raise InvalidInputError(f"`{name}` must be a sequence of texts, got one string; put it in a list")


def require_valid_unicode(text: object) -> str:
    """Return a text unchanged after checking that it is valid Unicode, which tokenizers require.

    Returns:
        The text.

    Raises:
        InvalidInputError: If the value is not a string, or contains a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"a text must be a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"a text contains a lone surrogate at index {error.start} ({text[error.start]!a}); decode its bytes again"
        ) from error
    return text


def marked(name: str, text: str) -> str:
    """Enclose a text in tags that do not occur in it.

    Args:
        name: Name of the tags.
        text: Any text.

    Returns:
        The text between an opening and a closing tag on lines of their own; the name gets a number if the text
        contains the tag.
    """
    used = {number or "1" for number in re.findall(rf"</?{re.escape(name)}(?:-([1-9][0-9]*))?>", text)}
    number = next(number for number in count(1) if str(number) not in used)
    mark = name if number == 1 else f"{name}-{number}"
    return f"<{mark}>\n{text}\n</{mark}>\n"


def shown(value: object) -> str:
    """Return a short representation of any value for an error message, also of one that cannot represent itself."""
    try:
        return _SHORT.repr(value)
    except Exception:  # noqa: BLE001 - a number of more digits than Python converts, or a method of a hostile class
        return f"<{type(value).__name__}>"
