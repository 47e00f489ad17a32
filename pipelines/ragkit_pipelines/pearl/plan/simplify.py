"""Removing steps of a plan that do not change its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.nodes import Argument, Step, TextList, Variable, sinks_of

Dangling = Literal["keep", "prune"]
Steps = Sequence[Step]
Change = tuple[Steps, Diagnostic]


def simplified(steps: Steps, dangling: Dangling) -> tuple[Steps, list[Diagnostic]]:
    """Remove unnecessary steps; see `Plan.normalised`."""
    repairs: list[Diagnostic] = []
    rules: list[Callable[[Steps], Change | None]] = [*([_prune] if dangling == "prune" else []), _merge, _drop_concat]
    for rule in rules:
        while (changed := rule(steps)) is not None:
            steps, repair = changed
            repairs.append(repair)
    return steps, repairs


def distinct(steps: Steps) -> tuple[Steps, list[Diagnostic]]:
    """Remove repeated calls, also of values that are part of the answer."""
    repairs: list[Diagnostic] = []
    while (changed := _merge(steps, also_sinks=True)) is not None:
        steps, repair = changed
        repairs.append(repair)
    return steps, repairs


def _without(steps: Steps, index: int, code: str, message: str, renamed: Mapping[str, str]) -> Change:
    """Remove one step; the steps that used its value use another one."""
    left = [_renamed(step, renamed) for at, step in enumerate(steps) if at != index]
    return left, Diagnostic("repair", code, message)


def _renamed(step: Step, renamed: Mapping[str, str]) -> Step:
    def change(argument: Argument) -> Argument:
        if isinstance(argument, TextList):
            items = (Variable(renamed.get(i.name, i.name)) if isinstance(i, Variable) else i for i in argument.items)
            return TextList(tuple(items))
        return Variable(renamed.get(argument.name, argument.name)) if isinstance(argument, Variable) else argument

    return replace(step, arguments=tuple(map(change, step.arguments)))


def _prune(steps: Steps) -> Change | None:
    """Remove a value that no step uses, except the last one."""
    sinks = {step.out for step in sinks_of(steps)}
    for index, step in enumerate(steps[:-1]):
        if step.out in sinks:
            return _without(steps, index, "pruned", f"removed {step.out}, which no step uses", {})
    return None


def _merge(steps: Steps, *, also_sinks: bool = False) -> Change | None:
    """Remove a repeated call. A value that is itself part of the answer stays, because the answer must not change."""
    sinks = set() if also_sinks else {step.out for step in sinks_of(steps)}
    first: dict[tuple[str, tuple[Argument, ...]], str] = {}
    for index, step in enumerate(steps):
        if step.out in sinks:
            continue
        kept = first.setdefault((step.action.name, step.arguments), step.out)
        if kept != step.out:
            message = f"replaced {step.out} by {kept}, which is the same call"
            return _without(steps, index, "merged-call", message, {step.out: kept})
    return None


def _drop_concat(steps: Steps) -> Change | None:
    """Remove a CONCAT of one value, unless the content or the order of the answer would change."""
    sinks = {step.out for step in sinks_of(steps)}
    for index, step in enumerate(steps):
        only = step.arguments[0]
        if step.action.name != "CONCAT" or not is_local(step.action) or len(step.arguments) > 1:
            continue
        if not isinstance(only, Variable):
            continue
        readers = [other.out for other in steps if only.name in other.reads]
        if step.out in sinks and (readers != [step.out] or steps[index - 1].out != only.name):
            continue
        message = f"replaced {step.out} by {only.name}, of which it was a copy"
        return _without(steps, index, "dropped-concat", message, {step.out: only.name})
    return None
