"""Definitions of actions as text: ``NAME(CTX, X) # what it does``."""

from __future__ import annotations

from dataclasses import replace

from ragkit.errors import PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import MORE, Action
from ragkit_pipelines.pearl.plan.lexer import Lexer, Word


def read_action(line: str, number: int, found: list[Diagnostic], *, offset: int = 0) -> Action | None:
    """Read one definition; a colon may stand for the ``#``.

    Args:
        line: The line.
        number: Its number, for diagnostics.
        found: Where diagnostics go.
        offset: Columns of the text that stand before ``line``.

    Returns:
        The action, or None where it cannot be read.
    """
    lexer = Lexer(line)
    try:
        return _read(lexer)
    except _UnexpectedError as error:
        got = "the end of the line" if error.word.kind == "end" else repr(error.word.value[:60])
        message = f"expected {error.expected}, found {got}; an action is written NAME(CTX, X) : what it does"
        found.append(Diagnostic("error", "action-definition", message, number, offset + error.word.column))
        return None
    except PlanError as error:
        column = len(line) - len(line.lstrip()) + 1
        found.extend(replace(each, line=number, column=offset + column) for each in error.diagnostics)
        return None


class _UnexpectedError(Exception):
    def __init__(self, word: Word, expected: str) -> None:
        self.word, self.expected = word, expected


def _read(lexer: Lexer) -> Action:
    name = lexer.take()
    if name.kind != "name":
        raise _UnexpectedError(name, "the name of an action")
    if not lexer.is_sign("("):
        raise _UnexpectedError(lexer.sight, "'('")
    parameters: list[str] = []
    while not parameters or lexer.is_sign(","):
        lexer.take()
        word = lexer.take()
        if word.kind != "name" and word.value != MORE:
            raise _UnexpectedError(word, "the name of a parameter")
        parameters.append(word.value)
    if not lexer.is_sign(")"):
        raise _UnexpectedError(lexer.sight, "',' or ')'")
    lexer.take()
    if not (lexer.is_sign("#") or lexer.is_sign(":")):
        raise _UnexpectedError(lexer.sight, "':' and what the action does")
    lexer.take()
    return Action(name.value, tuple(parameters), lexer.rest())
