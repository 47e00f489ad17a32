# ruff: noqa: E501 - a table
"""The 29 slips that planners make, put into plans that are right.

A slip takes a plan and gives its text with the slip in it and the plan that a reader would take it for, or None where
the plan has no place for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.plan import Plan, Step, Text, Variable

Made = tuple[str, Plan] | None
RIGHT, REJECTED, REPAIRED = "right", "rejected", "repaired"


def _first(plan: Plan, kind: type) -> tuple[int, int] | None:
    places = (
        (place, at)
        for place, step in enumerate(plan.steps)
        for at, argument in enumerate(step.arguments)
        if isinstance(argument, kind)
    )
    return next(places, None)


def _with_text(change: Callable[[str], str]) -> Callable[[Plan], Made]:
    """Put something else into the first text of a plan; its meaning is that text."""

    def slip(plan: Plan) -> Made:
        at = _first(plan, Text)
        if at is None:
            return None
        value = change(plan.steps[at[0]].arguments[at[1]].value)
        meant = _replaced(plan, at, Text(value))
        return meant.render(), meant

    return slip


def _replaced(plan: Plan, at: tuple[int, int], value: Text) -> Plan:
    step = plan.steps[at[0]]
    arguments = [*step.arguments[: at[1]], value, *step.arguments[at[1] + 1 :]]
    steps = [*plan.steps[: at[0]], replace(step, arguments=tuple(arguments)), *plan.steps[at[0] + 1 :]]
    return Plan(tuple(steps), plan.new_actions)


def _in_place_of_text(write: Callable[[str], str]) -> Callable[[Plan], Made]:
    """Write something else where the first text stands, quotes and all; the plan is meant as it was."""

    def slip(plan: Plan) -> Made:
        at = _first(plan, Text)
        if at is None:
            return None
        step = plan.steps[at[0]]
        argument = step.arguments[at[1]]
        call = step.call.replace(str(argument), write(argument.value), 1)
        return plan.render().replace(f" = {step.call} : ", f" = {call} : ", 1), plan

    return slip


def _lines(change: Callable[[list[str], int], list[str]]) -> Callable[[Plan], Made]:
    """Change the lines; the second value is where the first step stands."""

    def slip(plan: Plan) -> Made:
        lines = plan.render().split("\n")
        first = next(at for at, line in enumerate(lines) if line.startswith("1. "))
        return "\n".join(change(lines, first)), plan

    return slip


def _on_first_step(change: Callable[[str, Step], str]) -> Callable[[Plan], Made]:
    def slip(plan: Plan) -> Made:
        text = plan.render()
        line = next(line for line in text.split("\n") if line.startswith("1. "))
        return text.replace(line, change(line, plan.steps[0]), 1), plan

    return slip


def assigned_twice(plan: Plan) -> Made:
    if len(plan.steps) < 3:
        return None
    first, second = plan.steps[:2]
    return plan.render().replace(f"2. {second.out} = ", f"2. {first.out} = ", 1), plan


def hides_an_action(plan: Plan) -> Made:
    own = {action.name for action in plan.new_actions}
    action = next((step.action for step in plan.steps if step.action.name not in own), None)
    if action is None:
        return None
    changed = f"- {action.name}({', '.join([*action.parameters[:1], 'A', 'B', 'C', 'D'])}) : Something else."
    lines = [line for line in plan.render().split("\n") if line != "- None"]
    return "\n".join([lines[0], changed, *lines[1:]]), plan


def none_in_a_new_action(plan: Plan) -> Made:
    lines = [line for line in plan.render().split("\n") if line != "- None"]
    new = "- FIND_NOBODY(CTX, X) : Say that none is there, where none is X."
    text = "\n".join([lines[0], new, *lines[1:]])
    action = Action("FIND_NOBODY", ("CTX", "X"), "Say that none is there, where none is X.")
    return text, Plan(plan.steps, (action, *plan.new_actions))


def nested_call(plan: Plan) -> Made:
    """Write the first step into the one reader of its value."""
    first = plan.steps[0]
    readers = [place for place, step in enumerate(plan.steps) if first.out in step.reads]
    if len(readers) != 1 or readers[0] != 1:
        return None
    outer = plan.steps[1]
    if sum(argument == Variable(first.out) for argument in outer.arguments) != 1:
        return None
    call = ", ".join(first.call if a == Variable(first.out) else str(a) for a in outer.arguments)
    lines = [f"1. {outer.out} = {outer.action.name}({call}) : {outer.note}"]
    lines += [f"{n}. {s.out} = {s.call} : {s.note}" for n, s in enumerate(plan.steps[2:], 2)]
    head = plan.render().split("\n\n")[0]
    name = f"{outer.out}_part1"
    inner = replace(first, out=name, note=first.action.text)
    arguments = tuple(Variable(name) if a == Variable(first.out) else a for a in outer.arguments)
    steps = (inner, replace(outer, arguments=arguments), *plan.steps[2:])
    return head + "\n\n" + "\n".join(lines), Plan(steps, plan.new_actions)


def keyword(plan: Plan) -> Made:
    at = _first(plan, Text)
    if at is None:
        return None
    name = plan.steps[at[0]].action.parameter(at[1])
    return _in_place_of_text(lambda value: f'{name}="{value}"')(plan)


def no_note(plan: Plan) -> Made:
    step = plan.steps[0]
    steps = (replace(step, note=step.action.text), *plan.steps[1:])
    text = plan.render().replace(f" : {step.note}", "", 1)
    return text, Plan(steps, plan.new_actions)


def undefined(plan: Plan) -> Made:
    at = _first(plan, Variable)
    if at is None:
        return None
    step = plan.steps[at[0]]
    call = step.call.replace(str(step.arguments[at[1]]), "never_made", 1)
    return plan.render().replace(f" = {step.call} : ", f" = {call} : ", 1), plan


def used_too_early(plan: Plan) -> Made:
    if len(plan.steps) < 2 or _first(plan, Text) is None or _first(plan, Text)[0] == len(plan.steps) - 1:
        return None
    return _in_place_of_text(lambda _: plan.steps[-1].out)(plan)


def quoted_variable(plan: Plan) -> Made:
    for place, step in enumerate(plan.steps):
        for at, argument in enumerate(step.arguments):
            if isinstance(argument, Variable) and at:
                meant = _replaced(plan, (place, at), Text(argument.name))
                return meant.render(), meant
    return None


def no_header(plan: Plan) -> Made:
    return "\n".join(line for line in plan.render().split("\n") if line[:1].isdigit()), plan


def _insert(at_end: bool, lines: list[str]) -> Callable[[list[str], int], list[str]]:
    return lambda old, _: [*old, *lines] if at_end else [*lines, *old]


# name: slip, what becomes of it strictly, what becomes of it with repair
SLIPS: dict[str, tuple[Callable[[Plan], Made], str, str]] = {
    "colon in a text": (_with_text(lambda t: f"{t}: at noon"), RIGHT, RIGHT),
    "brackets in a text": (_with_text(lambda t: f"{t} (at noon)"), RIGHT, RIGHT),
    "comma in a text": (_with_text(lambda t: f"{t}, at noon"), RIGHT, RIGHT),
    "equals sign in a text": (_with_text(lambda t: f"{t} = noon"), RIGHT, RIGHT),
    "list as a value": (_in_place_of_text(lambda t: f'["{t}", "noon"]'), REJECTED, REJECTED),
    "computed text": (_in_place_of_text(lambda t: f'"{t}".join(["noon"])'), REJECTED, REJECTED),
    "variable assigned twice": (assigned_twice, REJECTED, REJECTED),
    "new action hides a known one": (hides_an_action, REJECTED, REJECTED),
    "blank line between steps": (_lines(lambda ls, at: [*ls[: at + 1], "", *ls[at + 1 :]]), RIGHT, RIGHT),
    "none in a new action": (none_in_a_new_action, RIGHT, RIGHT),
    "curly quotes": (_in_place_of_text(lambda t: f"“{t}”"), REJECTED, REPAIRED),
    "nested call": (nested_call, REJECTED, REPAIRED),
    "keyword": (keyword, REJECTED, REPAIRED),
    "bracket after the number": (_on_first_step(lambda line, _: line.replace("1.", "1)", 1)), REJECTED, REPAIRED),
    "no number": (_on_first_step(lambda line, _: line[3:]), REJECTED, REPAIRED),
    "no note": (no_note, REJECTED, REPAIRED),
    "code fence": (_lines(lambda ls, _: ["```text", *ls, "```"]), REJECTED, REPAIRED),
    "preamble": (_lines(_insert(False, ["Sure! Here is the plan:", ""])), REJECTED, REPAIRED),
    "single quotes": (_in_place_of_text(lambda t: f"'{t}'"), REJECTED, REJECTED),
    "unquoted text": (_in_place_of_text(lambda t: f"{t} thing"), REJECTED, REJECTED),
    "value too many": (_in_place_of_text(lambda t: f'"{t}", "a", "b", "c"'), REJECTED, REJECTED),
    "value too few": (_on_first_step(lambda line, step: line.replace(step.call, f"{step.action.name}()")), REJECTED, REJECTED),
    "unknown action": (_on_first_step(lambda line, step: line.replace(step.action.name, "DO_MAGIC", 1)), REJECTED, REJECTED),
    "undefined variable": (undefined, REJECTED, REJECTED),
    "used before it is made": (used_too_early, REJECTED, REJECTED),
    "missing bracket": (_on_first_step(lambda line, step: line.replace(f"{step.call} :", f"{step.call[:-1]} :")), REJECTED, REJECTED),
    "variable's name in quotes": (quoted_variable, RIGHT, RIGHT),
    "no block of new actions": (no_header, REJECTED, REPAIRED),
    "prose after the plan": (_lines(_insert(True, ["", "With answer = ans, this plan finds it."])), REJECTED, REJECTED),
}  # fmt: skip
