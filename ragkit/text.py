"""How texts are compared: one rule for words, used by selectors, leak checks and metrics."""

from __future__ import annotations

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


def refuse_bare_string(name: str, texts: Sequence[object]) -> None:
    """Refuse one string where several are expected, which would be read letter by letter.

    Raises:
        InvalidInputError: If ``texts`` is a string.
    """
    if isinstance(texts, str):
        raise InvalidInputError(f"`{name}` must be a sequence of texts, got one string; put it in a list")


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
