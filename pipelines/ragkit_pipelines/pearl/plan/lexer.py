"""Split a line of a plan into tokens: names, numbers, strings and punctuation, each with its column.

The lexer never fails: a character that it does not recognise becomes a token of kind ``"other"``, which the parser
then reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, cast
from unicodedata import category

LONGEST_NAME = 100  # characters of the name of an action or a value

Kind = Literal["name", "number", "text", "curly", "single", "open_text", "sign", "other", "end"]

_TOKEN = re.compile(
    r"""\s*+(?:
    (?P<text>"(?:[^"\\]|\\["\\ntr])*+")
    | (?P<open_text>".*)
    | (?P<number>[0-9]\w*)
    | (?P<name>[^\W\d]\w*)
    | (?P<curly>“[^”]*”|„[^“]*“)
    | (?P<single>'[^']*'|‘[^’]*’|`[^`]*`)
    | (?P<sign>\.\.\.|…|[()\[\],.:=\#-])
    | (?P<end>$)
    | (?P<other>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
_ESCAPED = re.compile(r"\\(.)")
_WRITTEN = {value: f"\\{name}" for name, value in _ESCAPES.items()}


@dataclass(slots=True)
class Word:
    """A token of a line.

    Attributes:
        kind: ``"name"``, ``"number"``, ``"sign"``, ``"end"`` or ``"other"``; a string in straight (``"text"``), curly
            or single quotes; ``"open_text"`` for a string that is not closed on its line or has an unknown escape.
        value: The characters; for a string, the characters between its quotes, with escapes resolved.
        column: Column of the first character, counted from 1.
    """

    kind: Kind
    value: str
    column: int


class Lexer:
    """Reads one line token by token, with a lookahead of one token.

    Attributes:
        next: The next token, which `take` will return.
    """

    def __init__(self, line: str) -> None:
        """Start at the beginning of a line."""
        self.line = line
        self._end = 0  # the end of the next token
        self.next = self._read()

    def take(self) -> Word:
        """Consume the next token."""
        word = self.next
        self.next = self._read()
        return word

    def is_sign(self, sign: str) -> bool:
        """Whether the next token is this punctuation sign."""
        return self.next.kind == "sign" and self.next.value == sign

    def rest(self) -> str:
        """Return the rest of the line from the next token on, without surrounding white space."""
        return self.line[self.next.column - 1 :].strip()

    def _read(self) -> Word:
        found = _TOKEN.match(self.line, self._end)
        assert found is not None  # noqa: S101 - the pattern matches every character and the end
        kind = cast("Kind", found.lastgroup)
        value, column, self._end = found[kind], found.start(kind) + 1, found.end()
        if kind == "text":
            value = _ESCAPED.sub(lambda escape: _ESCAPES[escape[1]], value[1:-1])
        elif kind in {"curly", "single"}:
            value = value[1:-1]
        elif kind == "number" and not (value.isascii() and value.isdigit()):
            kind = "other"
        elif kind == "name" and not (value[0].isalpha() or value[0] == "_"):  # such as a superscript digit
            kind, value, self._end = "other", value[0], column
        elif value == "…":
            value = "..."
        return Word(kind, value, column)


def has_controls(text: str, allowed: str = "") -> bool:
    """Whether a text contains a control character other than the allowed ones."""
    return not text.isprintable() and any(letter not in allowed and category(letter) == "Cc" for letter in text)


def similar_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the two most similar known names. A very long name, whose comparison would take long, has none."""
    return get_close_matches(name, known, n=2) if len(name) <= LONGEST_NAME else []


def quoted(value: str) -> str:
    """Write a text as a string of a plan: in double quotes, with quotes, backslashes and line breaks escaped."""
    return '"' + "".join(_WRITTEN.get(letter, letter) for letter in value) + '"'
