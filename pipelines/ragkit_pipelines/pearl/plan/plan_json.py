"""The JSON of a plan: its records, how they are written, and how they are read.

The records limit the size of a plan, because anyone may have written the JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.errors import InvalidInputError
from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.nodes import Argument, Ctx, Step, Text, TextList, Variable


class Record(BaseModel):
    """A JSON object without unknown members."""

    model_config = ConfigDict(extra="forbid")


class _Ctx(Record):
    kind: Literal["document"] = "document"

    def value(self) -> Ctx:
        return Ctx()


class _Text(Record):
    kind: Literal["text"] = "text"
    text: Annotated[str, Field(max_length=10_000)]

    def value(self) -> Text:
        return Text(self.text)


class _Variable(Record):
    kind: Literal["variable"] = "variable"
    name: str

    def value(self) -> Variable:
        return Variable(self.name)


class _List(Record):
    kind: Literal["list"] = "list"
    items: Annotated[list[_Text | _Variable], Field(max_length=200)]

    def value(self) -> TextList:
        return TextList(tuple(item.value() for item in self.items))


class ActionRecord(Record):
    """The JSON of an action."""

    name: str
    parameters: tuple[str, ...]
    text: str


class _Step(Record):
    out: str
    action: str
    arguments: Annotated[list[_Ctx | _Text | _Variable | _List], Field(max_length=200)] = []
    note: str


class _Plan(Record):
    version: Literal[1] = 1
    actions: Annotated[list[ActionRecord], Field(max_length=400)]
    new_actions: Annotated[list[str], Field(max_length=400)]
    steps: Annotated[list[_Step], Field(max_length=200)]


def _as_record(argument: Argument) -> _Ctx | _Text | _Variable | _List:
    if isinstance(argument, Text):
        return _Text(text=argument.value)
    if isinstance(argument, Variable):
        return _Variable(name=argument.name)
    if isinstance(argument, Ctx):
        return _Ctx()
    parts = [_Text(text=item.value) if isinstance(item, Text) else _Variable(name=item.name) for item in argument.items]
    return _List(items=parts)


def write_steps(steps: Sequence[Step], new_actions: Sequence[Action]) -> str:
    """Write the steps of a plan and the actions that they use as JSON."""
    used = {action.name: action for action in (*new_actions, *(step.action for step in steps))}
    return _Plan(
        actions=[ActionRecord(name=a.name, parameters=a.parameters, text=a.text) for a in used.values()],
        new_actions=[action.name for action in new_actions],
        steps=[
            _Step(
                out=step.out, action=step.action.name, arguments=list(map(_as_record, step.arguments)), note=step.note
            )
            for step in steps
        ],
    ).model_dump_json()


def read_steps(text: str) -> tuple[tuple[Step, ...], tuple[Action, ...]]:
    """Read JSON that `write_steps` wrote."""
    try:
        read = _Plan.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInputError(
            f"the plan is not valid JSON of a plan: {first['loc']}: {first['msg']}; pass what Plan.to_json() returned"
        ) from error
    actions = {row.name: Action(row.name, row.parameters, row.text) for row in read.actions}
    missing = {*read.new_actions, *(step.action for step in read.steps)} - set(actions)
    if missing:
        raise InvalidInputError(
            f"the JSON of the plan does not define {', '.join(sorted(missing))}; add the missing actions to `actions`"
        )
    steps = (
        Step(row.out, actions[row.action], tuple(argument.value() for argument in row.arguments), row.note)
        for row in read.steps
    )
    return tuple(steps), tuple(actions[name] for name in read.new_actions)
