"""An action: one kind of step, of which plans are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from ragkit.errors import PlanError
from ragkit.records import Diagnostic

DOCUMENT = "CTX"  # how plans and actions name the document
MORE = "..."  # the last parameter of an action that takes any number of values


@dataclass(frozen=True, slots=True)
class Action:
    """One kind of step: a function from texts to a text.

    Attributes:
        name: Capital letters, digits and underscores.
        parameters: Names of the values it takes; ``"CTX"`` stands for the document, ``"LIST"`` takes a list, and a last
            ``"..."`` any number of further values.
        text: What it does, in one line; this is what a model is told.
        uses: How often it was seen in plans.
    """

    name: str
    parameters: tuple[str, ...]
    text: str
    uses: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise PlanError(f"action {self.name[:60]!r}", [problem])

    @property
    def signature(self) -> str:
        """Name and parameters, as in ``FIND(CTX, X)``."""
        return f"{self.name}({', '.join(self.parameters)})"

    @property
    def variadic(self) -> bool:
        """Whether it takes any number of values."""
        return self.parameters[-1] == MORE

    @property
    def reads_document(self) -> bool:
        """Whether the document is one of the values."""
        return DOCUMENT in self.parameters

    def takes(self, count: int) -> bool:
        """Whether it can be called with this many values."""
        return count >= 1 + self.reads_document if self.variadic else count == len(self.parameters)

    def parameter(self, place: int) -> str:
        """Name of the parameter for the value at a place, counted from 0."""
        if not self.variadic or place < len(self.parameters) - 1:
            return self.parameters[place]
        return f"S{place + 1 - self.reads_document}"


def is_action_name(name: str) -> bool:
    """Whether a name is made of capital letters, digits and underscores."""
    return name.isascii() and name.isidentifier() and name == name.upper() and name != DOCUMENT


def _problem(action: Action) -> Diagnostic | None:
    names = action.parameters
    if not is_action_name(action.name):
        return Diagnostic("error", "action-name", "an action's name is written in capital letters, such as FIND_CAUSE")
    bad = next((name for name in names if name != MORE and not (name.isascii() and name.isidentifier())), None)
    if not names or bad is not None or len(set(names)) != len(names) or MORE in names[:-1] or names == (MORE,):
        message = f"{action.name} needs distinct parameters such as (CTX, X), with '...' at the end only"
        return Diagnostic("error", "parameters", message)
    if any(ord(letter) < 32 or letter == "\x7f" for letter in action.text) or not action.text.strip():
        return Diagnostic("error", "action-text", f"{action.name} needs a line of text that says what it does")
    return None
