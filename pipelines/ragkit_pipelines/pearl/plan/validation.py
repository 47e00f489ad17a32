"""What has to hold for the steps of a plan, and what is only odd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import DOCUMENT, Action
from ragkit_pipelines.pearl.plan.builtins import is_local

if TYPE_CHECKING:
    from ragkit_pipelines.pearl.plan.plan import Argument, Plan, Step

Where = Callable[[int, int], tuple[int, int]]
"""Gives line and column of a value: the step's place, and the value's place or -1 for the name of the step."""

WHOLE_STEP = -1


def check_plan(plan: Plan) -> list[Diagnostic]:
    """Check a plan that was not read from text; lines are those of its steps.

    Returns:
        Everything found.
    """
    found: list[Diagnostic] = []
    if not plan.steps:
        found.append(Diagnostic("error", "no-steps", "the plan has no step; expected one at least"))
    names = [action.name for action in plan.new_actions]
    twice = sorted({name for name in names if names.count(name) > 1})
    found += [Diagnostic("error", "duplicate-action", f"{name} is defined twice") for name in twice]
    for place, step in enumerate(plan.steps, 1):
        if not _is_variable(step.out):
            message = f"{step.out[:60]!r} is no name for a value; use letters, digits and underscores"
            found.append(Diagnostic("error", "variable-name", message, place))
        if has_controls(step.note) or not step.note.strip():
            found.append(Diagnostic("error", "note", "a step needs a note of one line that says what it is for", place))
    check_steps(plan.steps, lambda place, _: (place + 1, 0), found)
    return found


def _is_variable(name: str) -> bool:
    return bool(name) and not name[0].isdigit() and all(letter.isalnum() or letter == "_" for letter in name)


def has_controls(text: str, allowed: str = "") -> bool:
    """Whether a text holds a control character; most texts do not, and are passed quickly."""
    return not text.isprintable() and any((c < " " or c == "\x7f") and c not in allowed for c in text)


def check_steps(
    steps: Sequence[Step],
    where: Where,
    found: list[Diagnostic],
    *,
    unreadable: frozenset[str] = frozenset(),
    unknown: frozenset[str] = frozenset(),
) -> None:
    """Check the steps of a plan one after the other.

    Args:
        steps: The steps.
        where: Gives the place of a value in the text.
        found: Where diagnostics go.
        unreadable: Values of steps that could not be read; whoever uses them is not to blame.
        unknown: Names of actions that are not known, so that nothing can be said about their calls.
    """
    _StepCheck(steps, where, found, unreadable, unknown).run()


class _StepCheck:
    def __init__(
        self,
        steps: Sequence[Step],
        where: Where,
        found: list[Diagnostic],
        unreadable: frozenset[str],
        unknown: frozenset[str],
    ) -> None:
        self.steps, self.where, self.found, self.unknown = steps, where, found, unknown
        self.made: dict[str, int] = dict.fromkeys(unreadable, WHOLE_STEP)
        self.last_of: Mapping[str, int] = {step.out: place for place, step in enumerate(steps)}
        self.calls: dict[tuple[str, tuple[Argument, ...]], int] = {}

    def run(self) -> None:
        for place, step in enumerate(self.steps):
            if step.action.name not in self.unknown:
                self._check_call(place, step)
            self._check_names(place, step)
            self._check_output(place, step)
        self._check_dangling()

    def _say(self, level: Literal["error", "warning"], code: str, message: str, place: int, at: int) -> None:
        line, column = self.where(place, at)
        self.found.append(Diagnostic(level, code, message, line, column))

    def _check_call(self, place: int, step: Step) -> None:
        from ragkit_pipelines.pearl.plan.plan import Ctx, Text, TextList, Variable

        action = step.action
        if not action.takes(len(step.arguments)):
            message = f"{action.signature} takes {_number(action)}, got {len(step.arguments)}"
            self._say("error", "arity", message, place, WHOLE_STEP)
            return
        for at, argument in enumerate(step.arguments):
            name = action.parameter(at)
            if isinstance(argument, Ctx) and name != DOCUMENT:
                message = f"{DOCUMENT} cannot stand for {name} of {action.signature}; name the value it needs"
                self._say("error", "document-place", message, place, at)
            elif name == DOCUMENT and isinstance(argument, Variable):
                message = f"{argument.name} stands in the place of the document, which this step will not see"
                self._say("warning", "no-document", message, place, at)
            elif name == DOCUMENT and not isinstance(argument, Ctx):
                message = f"the document is missing: {action.signature} begins with {DOCUMENT}"
                self._say("error", "document-place", message, place, at)
            elif isinstance(argument, TextList) and name != "LIST":
                message = f"a list cannot stand for {name} of {action.signature}; write one text or variable"
                self._say("error", "list-argument", message, place, at)
            elif isinstance(argument, Text):
                self._check_text(place, at, argument.value)
        if action.name == "CONCAT" and is_local(action):
            self._check_concat(place, step)

    def _check_text(self, place: int, at: int, value: str) -> None:
        if has_controls(value, "\n\t\r"):
            self._say("error", "control-character", "a text must not hold control characters", place, at)
        elif not value.strip():
            self._say("warning", "empty-text", "the text is empty", place, at)
        elif self.made.get(value, WHOLE_STEP) != WHOLE_STEP:
            message = f'"{value}" is a text, although a variable has that name; without quotes it is the variable'
            self._say("warning", "quoted-variable", message, place, at)

    def _check_concat(self, place: int, step: Step) -> None:
        from ragkit_pipelines.pearl.plan.plan import Text

        if len(step.arguments) == 1:
            self._say("warning", "concat-of-one", "CONCAT of one value only copies it", place, WHOLE_STEP)
        for at, argument in enumerate(step.arguments):
            if isinstance(argument, Text):
                self._say("warning", "concat-of-text", "CONCAT of a text that the plan wrote itself", place, at)

    def _check_names(self, place: int, step: Step) -> None:
        from ragkit_pipelines.pearl.plan.plan import TextList, Variable

        seen: set[str] = set()
        for at, argument in enumerate(step.arguments):
            for part in argument.items if isinstance(argument, TextList) else (argument,):
                if not isinstance(part, Variable):
                    continue
                name = part.name
                if name in seen:
                    self._say("warning", "same-value-twice", f"{name} is given twice", place, at)
                seen.add(name)
                if name not in self.made:
                    self._say_missing(place, at, name, step)

    def _say_missing(self, place: int, at: int, name: str, step: Step) -> None:
        if name == step.out and self.last_of[name] == place:
            code, message = "self-use", f"{name} is used in the step that makes it"
        elif name in self.last_of:
            code, message = "used-before-made", f"{name} is made by step {self.last_of[name] + 1} only; put that first"
        else:
            close = get_close_matches(name, self.made, n=1)
            hint = f"did you mean {close[0]}?" if close else "a text is written in double quotes"
            code, message = "undefined-variable", f"no step makes {name}; {hint}"
        self._say("error", code, message, place, at)

    def _check_output(self, place: int, step: Step) -> None:
        if step.out in self.made:
            message = f"{step.out} is made by an earlier step; give this value another name"
            self._say("error", "made-twice", message, place, WHOLE_STEP)
        if step.out == DOCUMENT:
            self._say("error", "variable-name", f"{DOCUMENT} is the document; use another name", place, WHOLE_STEP)
        call = (step.action.name, step.arguments)
        if self.calls.setdefault(call, place) != place:
            message = f"the same call as in step {self.calls[call] + 1}; use its value"
            self._say("warning", "same-call-twice", message, place, WHOLE_STEP)
        self.made[step.out] = place

    def _check_dangling(self) -> None:
        used = {name for step in self.steps for name in step.reads}
        for place, step in enumerate(self.steps[:-1]):
            if step.out not in used:
                message = f"no step uses {step.out}, so it becomes part of the answer as it is"
                self._say("warning", "dangling-value", message, place, WHOLE_STEP)


def _number(action: Action) -> str:
    count = len(action.parameters)
    if action.variadic:
        return f"{1 + action.reads_document} values at least"
    return f"{count} value{'s' * (count > 1)}"
