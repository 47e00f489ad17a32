"""Words of one line of a plan: names, numbers, quoted texts and signs, each with its column.

A line is read by hand, character by character, and what is not known is a word of kind ``"other"``: reading a line
cannot fail, only understanding it can.
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
    """A piece of a line.

    Attributes:
        kind: ``"name"``, ``"number"``, ``"sign"``, ``"end"`` or ``"other"``; a text in straight (``"text"``), curly or
            single quotes; ``"open-text"`` for one that is not closed on its line or holds an unknown escape.
        value: The characters; for a text what stands between its quotes, escapes resolved.
        column: Where it begins, counted from 1.
    """

    kind: Kind
    value: str
    column: int


class Lexer:
    """Reads one line word by word, with one word in sight."""

    def __init__(self, line: str) -> None:
        """Begin at the start of a line."""
        self.line = line
        self._end = 0  # where the word in sight ends
        self._begin = 0
        self.sight = self._read()

    def take(self) -> Word:
        """The word in sight; the next one comes into sight.

        Returns:
            The word.
        """
        word = self.sight
        self._begin = self._end
        self.sight = self._read()
        return word

    def is_sign(self, sign: str) -> bool:
        """Whether the word in sight is this sign."""
        return self.sight.kind == "sign" and self.sight.value == sign

    def rest(self) -> str:
        """What stands from the word in sight on, spaces around it removed."""
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
        closed = line[end : end + 1] == '"'  # else the line has ended, or an unknown escape was met
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
    r"""A text as it stands in a plan.

    Returns:
        The text in double quotes; quotes, backslashes and line breaks in it as ``\"``, ``\\`` and ``\n``.
    """
    return '"' + "".join(_WRITTEN.get(letter, letter) for letter in value) + '"'
