"""Actions, the functions of which plans are made, and their definitions as text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ragkit._tuples import restore_tuples
from ragkit.errors import PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.lexer import LONGEST_NAME, Lexer, Word, has_controls

DOCUMENT = "CTX"  # the name of the document in plans and actions
MORE = "..."  # the last parameter of an action that accepts any number of arguments
DIRECT = "ANSWER"  # the prompt of an action with this name contains the question itself


@dataclass(frozen=True, slots=True)
class Action:
    """One kind of step: a function from texts to a text.

    Attributes:
        name: Upper-case letters, digits and underscores.
        parameters: Names of the parameters. ``"CTX"`` is the document, ``"LIST"`` accepts a list, and a final ``"..."``
            accepts any number of further arguments.
        text: What the action does, in one line. The model receives this text.
        uses: Number of uses counted in plans.
    """

    name: str
    parameters: tuple[str, ...]
    text: str
    uses: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        restore_tuples(self)
        problem = _problem(self)
        if problem:
            raise PlanError(f"action {self.name[:60]!r}", [problem])

    @property
    def signature(self) -> str:
        """Name and parameters, as in ``FIND(CTX, X)``."""
        return f"{self.name}({', '.join(self.parameters)})"

    @property
    def variadic(self) -> bool:
        """Whether the action accepts any number of arguments."""
        return self.parameters[-1] == MORE

    @property
    def reads_document(self) -> bool:
        """Whether the document is one of the parameters."""
        return DOCUMENT in self.parameters

    def takes(self, count: int) -> bool:
        """Whether the action can be called with this number of arguments."""
        return count >= 1 + self.reads_document if self.variadic else count == len(self.parameters)

    def parameter(self, position: int) -> str:
        """Name of the parameter for the argument at a position, counted from 0."""
        if not self.variadic or position < len(self.parameters) - 1:
            return self.parameters[position]
        return f"S{position + 1 - self.reads_document}"


def is_action_name(name: str) -> bool:
    """Whether a name consists of upper-case letters, digits and underscores."""
    return _is_name(name) and name == name.upper() and name != DOCUMENT


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier() and len(name) <= LONGEST_NAME


def _problem(action: Action) -> Diagnostic | None:
    names = action.parameters
    if not is_action_name(action.name):
        message = "the name of an action must consist of upper-case letters, digits and underscores, such as FIND_CAUSE"
        return Diagnostic("error", "action-name", message)
    valid = all(name == MORE or _is_name(name) for name in names)
    if not names or not valid or len(set(names)) != len(names) or MORE in names[:-1] or names == (MORE,):
        message = f"{action.name} needs distinct parameters such as (CTX, X), with '...' only at the end"
        return Diagnostic("error", "parameters", message)
    if has_controls(action.text) or not action.text.strip():
        message = f"{action.name} needs a description of one line that states what it does"
        return Diagnostic("error", "action-text", message)
    return None


def read_action(line: str, number: int, found: list[Diagnostic], *, offset: int = 0) -> Action | None:
    """Read the definition of an action, ``NAME(CTX, X) # what it does``; a colon may replace the ``#``."""
    lexer = Lexer(line)
    try:
        return _read(lexer)
    except _UnexpectedError as error:
        got = "the end of the line" if error.word.kind == "end" else repr(error.word.value[:60])
        message = f"expected {error.expected}, got {got}; define an action as NAME(CTX, X) : what it does"
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
        raise _UnexpectedError(lexer.next, "'('")
    parameters: list[str] = []
    while not parameters or lexer.is_sign(","):
        lexer.take()
        word = lexer.take()
        if word.kind != "name" and word.value != MORE:
            raise _UnexpectedError(word, "the name of a parameter")
        parameters.append(word.value)
    if not lexer.is_sign(")"):
        raise _UnexpectedError(lexer.next, "',' or ')'")
    lexer.take()
    if not (lexer.is_sign("#") or lexer.is_sign(":")):
        raise _UnexpectedError(lexer.next, "':' followed by what the action does")
    lexer.take()
    return Action(name.value, tuple(parameters), lexer.rest())
