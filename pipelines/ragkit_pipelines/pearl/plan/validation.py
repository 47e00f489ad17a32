"""The rules that the steps of a plan must follow, and warnings about unusual steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Literal

from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import DOCUMENT, Action
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.lexer import LONGEST_NAME, has_controls, similar_names
from ragkit_pipelines.pearl.plan.nodes import Argument, Ctx, Step, Text, TextList, Variable, sinks_of

Where = Callable[[int, int], tuple[int, int]]
"""Returns the line and column of an argument, given the index of the step and the position of the argument, or -1 for
the name of the step."""

WHOLE_STEP = -1


def check_plan(steps: Sequence[Step], new_actions: Sequence[Action]) -> list[Diagnostic]:
    """Check a plan that was not parsed from text; the line of a diagnostic is the number of its step."""
    found: list[Diagnostic] = []
    if not steps:
        found.append(Diagnostic("error", "no-steps", "the plan has no step; expected at least one"))
    twice = sorted(name for name, uses in Counter(action.name for action in new_actions).items() if uses > 1)
    found += [Diagnostic("error", "duplicate-action", f"{name} is defined twice") for name in twice]
    for number, step in enumerate(steps, 1):
        if not _is_variable(step.out):
            message = f"{step.out[:60]!r} is not a valid name for a value; use letters, digits and underscores"
            found.append(Diagnostic("error", "variable-name", message, number))
        if has_controls(step.note) or not step.note.strip():
            message = "a step needs a note of one line that states its purpose"
            found.append(Diagnostic("error", "note", message, number))
    check_steps(steps, lambda index, _: (index + 1, 0), found)
    return found


def _is_variable(name: str) -> bool:
    return (
        0 < len(name) <= LONGEST_NAME
        and not name[0].isdigit()
        and all(letter.isalnum() or letter == "_" for letter in name)
    )


def check_steps(
    steps: Sequence[Step],
    where: Where,
    found: list[Diagnostic],
    *,
    unreadable: Set[str] = frozenset(),
    unknown: Set[str] = frozenset(),
) -> None:
    """Check the steps of a plan in order."""
    _StepCheck(steps, where, found, unreadable, unknown).run()


class _StepCheck:
    def __init__(
        self, steps: Sequence[Step], where: Where, found: list[Diagnostic], unreadable: Set[str], unknown: Set[str]
    ) -> None:
        self.steps, self.where, self.found, self.unknown = steps, where, found, unknown
        self.made: dict[str, int] = dict.fromkeys(unreadable, WHOLE_STEP)
        self.last_of: Mapping[str, int] = {step.out: index for index, step in enumerate(steps)}
        self.calls: dict[tuple[str, tuple[Argument, ...]], int] = {}

    def run(self) -> None:
        for index, step in enumerate(self.steps):
            if step.action.name not in self.unknown:
                self._check_call(index, step)
            self._check_names(index, step)
            self._check_output(index, step)
        sinks = {step.out for step in sinks_of(self.steps)}
        for index, step in enumerate(self.steps[:-1]):
            if step.out in sinks:
                message = f"no step uses {step.out}, so its value becomes part of the answer"
                self._report("warning", "dangling-value", message, index, WHOLE_STEP)

    def _report(self, level: Literal["error", "warning"], code: str, message: str, index: int, at: int) -> None:
        line, column = self.where(index, at)
        self.found.append(Diagnostic(level, code, message, line, column))

    def _check_call(self, index: int, step: Step) -> None:
        action = step.action
        if not action.takes(len(step.arguments)):
            message = f"{action.signature} takes {_arity(action)}, got {len(step.arguments)}"
            self._report("error", "arity", message, index, WHOLE_STEP)
            return
        for at, argument in enumerate(step.arguments):
            name = action.parameter(at)
            if isinstance(argument, Ctx) and name != DOCUMENT:
                message = f"{DOCUMENT} cannot be passed as {name} of {action.signature}; pass a string or a variable"
                self._report("error", "document-place", message, index, at)
            elif name == DOCUMENT and isinstance(argument, Variable):
                message = f"{argument.name} is passed instead of {DOCUMENT}, so this step does not see the document"
                self._report("warning", "no-document", message, index, at)
            elif name == DOCUMENT and not isinstance(argument, Ctx):
                message = f"the document is missing: the first argument of {action.signature} must be {DOCUMENT}"
                self._report("error", "document-place", message, index, at)
            elif isinstance(argument, TextList) and name != "LIST":
                message = f"a list cannot be passed as {name} of {action.signature}; pass one string or variable"
                self._report("error", "list-argument", message, index, at)
            elif isinstance(argument, Text):
                self._check_text(index, at, argument.value)
        if action.name == "CONCAT" and is_local(action):
            self._check_concat(index, step)

    def _check_text(self, index: int, at: int, value: str) -> None:
        if has_controls(value, "\n\t\r"):
            self._report("error", "control-character", "a string must not contain control characters", index, at)
        elif not value.strip():
            self._report("warning", "empty-text", "the string is empty", index, at)
        elif self.made.get(value, WHOLE_STEP) != WHOLE_STEP:
            message = f'"{value}" is a string, but a variable has this name; to use the variable, remove the quotes'
            self._report("warning", "quoted-variable", message, index, at)

    def _check_concat(self, index: int, step: Step) -> None:
        if len(step.arguments) == 1:
            self._report("warning", "concat-of-one", "CONCAT of one value only copies it", index, WHOLE_STEP)
        for at, argument in enumerate(step.arguments):
            if isinstance(argument, Text):
                self._report("warning", "concat-of-text", "CONCAT of a string that is part of the plan", index, at)

    def _check_names(self, index: int, step: Step) -> None:
        seen: set[str] = set()
        for at, name in step.variables():
            if name in seen:
                self._report("warning", "same-value-twice", f"{name} is passed twice", index, at)
            seen.add(name)
            if name not in self.made:
                self._report_missing(index, at, name, step)

    def _report_missing(self, index: int, at: int, name: str, step: Step) -> None:
        if name == step.out and self.last_of[name] == index:
            code, message = "self-use", f"{name} is used in the step that makes it"
        elif name in self.last_of:
            code, message = "used-before-made", f"{name} is made only by step {self.last_of[name] + 1}; move it up"
        else:
            close = similar_names(name, self.made)
            hint = f"did you mean {close[0]}?" if close else "write a string in double quotes"
            code, message = "undefined-variable", f"no step makes {name}; {hint}"
        self._report("error", code, message, index, at)

    def _check_output(self, index: int, step: Step) -> None:
        if step.out in self.made:
            message = f"{step.out} is already made by an earlier step; give this value another name"
            self._report("error", "made-twice", message, index, WHOLE_STEP)
        if step.out == DOCUMENT:
            message = f"{DOCUMENT} is the document; give this value another name"
            self._report("error", "variable-name", message, index, WHOLE_STEP)
        call = (step.action.name, step.arguments)
        if self.calls.setdefault(call, index) != index:
            message = f"this is the same call as in step {self.calls[call] + 1}; use its value"
            self._report("warning", "same-call-twice", message, index, WHOLE_STEP)
        self.made[step.out] = index


def _arity(action: Action) -> str:
    count = len(action.parameters)
    if action.variadic:
        return f"at least {1 + action.reads_document} arguments"
    return f"{count} argument{'s' * (count > 1)}"
