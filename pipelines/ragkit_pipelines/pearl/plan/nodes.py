"""The nodes of a plan: steps, and the arguments of their calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragkit._tuples import restore_tuples
from ragkit_pipelines.pearl.plan.action import DOCUMENT, Action
from ragkit_pipelines.pearl.plan.lexer import quoted


@dataclass(frozen=True, slots=True)
class Ctx:
    """The document as an argument."""

    def __str__(self) -> str:
        return DOCUMENT


@dataclass(frozen=True, slots=True)
class Text:
    """A string as an argument. Its content is never parsed."""

    value: str

    def __str__(self) -> str:
        return quoted(self.value)


@dataclass(frozen=True, slots=True)
class Variable:
    """The value of an earlier step as an argument."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class TextList:
    """A list of strings and variables, for a parameter called LIST."""

    items: tuple[Text | Variable, ...]

    def __post_init__(self) -> None:
        restore_tuples(self)

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.items))}]"


Argument = Ctx | Text | Variable | TextList


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an action.

    Attributes:
        out: Name of the step's value.
        action: The action.
        arguments: One argument for each parameter.
        note: The purpose of the step, in one line.
    """

    out: str
    action: Action
    arguments: tuple[Argument, ...]
    note: str

    def __post_init__(self) -> None:
        restore_tuples(self)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that the step uses, without duplicates, in order."""
        return tuple(dict.fromkeys(name for _, name in self.variables()))

    @property
    def reads_document(self) -> bool:
        """Whether the document is one of the arguments."""
        return any(isinstance(argument, Ctx) for argument in self.arguments)

    @property
    def call(self) -> str:
        """The call in the notation of a plan."""
        return f"{self.action.name}({', '.join(map(str, self.arguments))})"

    def variables(self) -> Iterator[tuple[int, str]]:
        """Yield every use of a variable: the position of the argument, and the variable's name."""
        for position, argument in enumerate(self.arguments):
            for part in argument.items if isinstance(argument, TextList) else (argument,):
                if isinstance(part, Variable):
                    yield position, part.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on the size of a plan.

    Attributes:
        characters: Maximum length of the plan's text.
        steps: Maximum number of steps.
        arguments: Maximum number of arguments of one call.
        literal: Maximum length of one string.
        depth: Maximum nesting of brackets, if nested calls are repaired.
    """

    characters: int = 16_000
    steps: int = 32
    arguments: int = 12
    literal: int = 600
    depth: int = 4


def sinks_of(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Find the steps whose value no other step uses."""
    used = {name for step in steps for name in step.reads}
    return tuple(step for step in steps if step.out not in used)
