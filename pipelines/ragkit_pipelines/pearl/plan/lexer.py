"""Split a line of a plan into tokens: names, numbers, strings and punctuation, each with its column.

The lexer never fails: a character that it does not recognise becomes a token of kind ``"other"``, which the parser
then reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["name", "number", "text", "curly", "single", "open-text", "sign", "other", "end"]

_SIGNS = frozenset("()[],.:=#-")
_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
_WRITTEN = {value: f"\\{name}" for name, value in _ESCAPES.items()}
_CURLY = {"“": "”", "„": "“"}
_SINGLE = {"'": "'", "‘": "’", "`": "`"}


@dataclass(slots=True)
class Word:
    """A token of a line.

    Attributes:
        kind: ``"name"``, ``"number"``, ``"sign"``, ``"end"`` or ``"other"``; a string in straight (``"text"``), curly
            or single quotes; ``"open-text"`` for a string that is not closed on its line or has an unknown escape.
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
        self._begin = 0
        self.next = self._read()

    def take(self) -> Word:
        """Consume the next token."""
        word = self.next
        self._begin = self._end
        self.next = self._read()
        return word

    def is_sign(self, sign: str) -> bool:
        """Whether the next token is this punctuation sign."""
        return self.next.kind == "sign" and self.next.value == sign

    def rest(self) -> str:
        """Return the rest of the line from the next token on, without surrounding white space."""
        return self.line[self._begin :].strip()

    def _read(self) -> Word:
        line, at, size = self.line, self._end, len(self.line)
        while at < size and line[at].isspace():
            at += 1
        self._begin = at
        if at == size:
            self._end = at
            return Word("end", "", at + 1)
        first = line[at]
        if first == '"':
            return self._text(at)
        if first.isalpha() or first == "_":
            return self._run(at, "name")
        if first.isascii() and first.isdigit():
            return self._run(at, "number")
        if first in _CURLY or first in _SINGLE:
            return self._foreign_text(at)
        if line.startswith("...", at):
            self._end = at + 3
            return Word("sign", "...", at + 1)
        self._end = at + 1
        if first == "…":
            return Word("sign", "...", at + 1)
        return Word("sign" if first in _SIGNS else "other", first, at + 1)

    def _run(self, at: int, kind: Literal["name", "number"]) -> Word:
        line, end, size = self.line, at + 1, len(self.line)
        while end < size and (line[end].isalnum() or line[end] == "_"):
            end += 1
        self._end = end
        value = line[at:end]
        if kind == "number" and not (value.isascii() and value.isdigit()):
            return Word("other", value, at + 1)
        return Word(kind, value, at + 1)

    def _text(self, at: int) -> Word:
        line = self.line
        end = line.find('"', at + 1)
        if end < 0:
            self._end = len(line)
            return Word("open-text", line[at + 1 :], at + 1)
        if "\\" not in line[at:end]:
            self._end = end + 1
            return Word("text", line[at + 1 : end], at + 1)
        return self._escaped_text(at)

    def _escaped_text(self, at: int) -> Word:
        line, value, end = self.line, [], at + 1
        while end < len(line) and line[end] != '"':
            if line[end] == "\\":
                end += 1
                if line[end : end + 1] not in _ESCAPES:
                    break
                value.append(_ESCAPES[line[end]])
            else:
                value.append(line[end])
            end += 1
        closed = line[end : end + 1] == '"'  # otherwise the line ended, or an escape is unknown
        self._end = end + 1 if closed else len(line)
        return Word("text" if closed else "open-text", "".join(value), at + 1)

    def _foreign_text(self, at: int) -> Word:
        first = self.line[at]
        curly = first in _CURLY
        end = self.line.find(_CURLY[first] if curly else _SINGLE[first], at + 1)
        if end < 0:
            self._end = at + 1
            return Word("other", first, at + 1)
        self._end = end + 1
        return Word("curly" if curly else "single", self.line[at + 1 : end], at + 1)


def quoted(value: str) -> str:
    r"""Write a text as a string of a plan."""
    return '"' + "".join(_WRITTEN.get(letter, letter) for letter in value) + '"'
