"""How texts are compared, one rule for words used by selectors, leak checks and metrics; and how JSON is read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ragkit.errors import InvalidInputError

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Split a text into lower-case words, punctuation left out.

    Examples:
        >>> words("Where's my card?")
        ['where', 's', 'my', 'card']

    Returns:
        The runs of letters, digits and underscores, in order.
    """
    return _WORD.findall(text.lower())


def folded(text: str) -> str:
    """Reduce a text to what is left when case, punctuation and spacing do not count.

    Returns:
        The words joined by single spaces; a text without words stays as it is.
    """
    return " ".join(words(text)) or text


def read_json(text: str | bytes) -> object:
    """Read JSON that a user, a model or a file gave.

    Args:
        text: Anything.

    Returns:
        The value.

    Raises:
        InvalidInputError: If it is no JSON, or brackets stand too deep or numbers are too long to be read, for which
            `json.loads` raises three kinds of errors.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{error}; this is no JSON that can be read") from error


def refuse_bare_string(name: str, texts: Sequence[object]) -> None:
    """Refuse one string where several are expected, which would be read letter by letter.

    Raises:
        InvalidInputError: If ``texts`` is a string.
    """
    if isinstance(texts, str):
        raise InvalidInputError(f"`{name}` must be a sequence of texts, got one string; put it in a list")


def whole_text(text: object) -> str:
    """A text as it is, where a tokenizer can read it.

    Args:
        text: Anything.

    Returns:
        The text.

    Raises:
        InvalidInputError: If it is no string, or holds half of a character (a lone surrogate).
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"a text must be a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"a text has half of a character at place {error.start} ({text[error.start]!a}); decode it again from its "
            "bytes"
        ) from error
    return text


def marked(name: str, text: str) -> str:
    """A text between marks that do not occur in it.

    Args:
        name: Name of the marks.
        text: Anything.

    Returns:
        Lines that begin and end with a mark; the mark is numbered where the text holds it.
    """
    number, mark = 1, name
    while f"<{mark}>" in text or f"</{mark}>" in text:
        number += 1
        mark = f"{name}-{number}"
    return f"<{mark}>\n{text}\n</{mark}>\n"
