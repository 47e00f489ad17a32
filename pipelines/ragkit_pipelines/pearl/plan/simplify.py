"""The same plan with fewer steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.plan import Argument, Plan, Step, TextList, Variable

Dangling = Literal["keep", "prune"]


def normalised(plan: Plan, dangling: Dangling = "keep") -> Plan:
    """Leave out steps that change nothing; see `Plan.normalised`.

    Returns:
        A plan; what was done is added to its diagnostics, as repairs.
    """
    for work in ([_prune] if dangling == "prune" else []) + [_merge, _drop_concat]:
        plan = _until_done(plan, work)
    return plan


def _until_done(plan: Plan, work: Callable[[Plan], Plan | None]) -> Plan:
    while (changed := work(plan)) is not None:
        plan = changed
    return plan


def _without(plan: Plan, place: int, code: str, message: str, renamed: Mapping[str, str]) -> Plan:
    """A plan without one step; its readers take another value."""
    note = Diagnostic("repair", code, message)
    steps = tuple(_renamed(step, renamed) for at, step in enumerate(plan.steps) if at != place)
    used = {step.action.name for step in steps}
    new = tuple(action for action in plan.new_actions if action.name in used)
    return Plan(steps, new, (*plan.diagnostics, note))


def _renamed(step: Step, renamed: Mapping[str, str]) -> Step:
    def change(argument: Argument) -> Argument:
        if isinstance(argument, TextList):
            items = (Variable(renamed.get(i.name, i.name)) if isinstance(i, Variable) else i for i in argument.items)
            return TextList(tuple(items))
        return Variable(renamed.get(argument.name, argument.name)) if isinstance(argument, Variable) else argument

    return replace(step, arguments=tuple(map(change, step.arguments)))


def _prune(plan: Plan) -> Plan | None:
    """Leave out a value that no step uses, the last one apart."""
    for place, step in enumerate(plan.steps[:-1]):
        if step in plan.sinks:
            return _without(plan, place, "pruned", f"{step.out} left out, as no step uses it", {})
    return None


def _merge(plan: Plan) -> Plan | None:
    """Make a call once. A value that stands in the answer by itself stays, or the answer would change."""
    sinks = {step.out for step in plan.sinks}
    first: dict[tuple[str, tuple[Argument, ...]], str] = {}
    for place, step in enumerate(plan.steps):
        if step.out in sinks:
            continue
        kept = first.setdefault((step.action.name, step.arguments), step.out)
        if kept != step.out:
            message = f"{step.out} is the same call as {kept}, which takes its place"
            return _without(plan, place, "merged-call", message, {step.out: kept})
    return None


def _drop_concat(plan: Plan) -> Plan | None:
    """Leave out a CONCAT of one value, unless the order of the answer or what is in it would change."""
    sinks = {step.out for step in plan.sinks}
    for place, step in enumerate(plan.steps):
        only = step.arguments[0]
        if step.action.name != "CONCAT" or not is_local(step.action) or len(step.arguments) > 1:
            continue
        if not isinstance(only, Variable):
            continue
        readers = [other.out for other in plan.steps if only.name in other.reads]
        if step.out in sinks and (readers != [step.out] or plan.steps[place - 1].out != only.name):
            continue
        message = f"{step.out} was a copy of {only.name}, which takes its place"
        return _without(plan, place, "dropped-concat", message, {step.out: only.name})
    return None
