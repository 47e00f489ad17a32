"""A grammar of plans, built from a library of actions, to which a model can be constrained.

The grammar makes most mistakes impossible: unknown actions, a wrong number of arguments, arguments of the wrong kind,
and values that no earlier step gives. For this, steps are named ``s1``, ``s2`` … in their order. It is written in the
dialect of Lark that llguidance reads, and its size grows with the number of actions plus the cube of the number of
steps. What a grammar of this size cannot express, such as repeated calls, is checked by `read`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ragkit.errors import InvalidInputError, PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import DOCUMENT, MORE, Action
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.instructions import instruction_of, subjects_of
from ragkit_pipelines.pearl.plan.nodes import Argument, Limits, Step, TextList, Variable
from ragkit_pipelines.pearl.plan.plan import Plan

_MOST_STEPS = 12
_EXTRA = 3  # further arguments of an action that accepts any number
_ITEMS = 6  # items of a list
_OWN = "NEW_ACTION"
_CONTROLS = r"\x00-\x1f\x7f-\x9f"
_SEPARATOR = re.compile("[,;:、，；：/]")
_OWN_LINE = re.compile(rf"- ({_OWN}_*\({DOCUMENT}, X\)) : (.+)")


@dataclass(frozen=True)
class PlanGrammar:
    r"""The plans that can be made of some actions.

    Attributes:
        actions: The actions.
        max_steps: Maximum number of steps.
        max_depth: Maximum number of model calls that must run sequentially; None for no limit.
        new_actions: Whether a plan may define an action of its own.
        phrases: A text, such as the question, of which every string must be a part; empty for any strings. A small
            model otherwise copies strings from the demonstrations, or invents facts.

    Examples:
        >>> from ragkit import ActionLibrary
        >>> grammar = PlanGrammar(tuple(ActionLibrary.default()))
        >>> plan = grammar.read('s1 = WHO_IS(CTX, "the keeper")\ns2 = CAUSE_OF(CTX, s1)')
        >>> print(plan.steps[0].note)
        Say who or what the keeper is, according to the text.
    """

    actions: tuple[Action, ...]
    max_steps: int = 4
    max_depth: int | None = None
    new_actions: bool = False
    phrases: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.max_steps <= _MOST_STEPS:
            raise InvalidInputError(f"`max_steps` must be from 1 to {_MOST_STEPS}, got {self.max_steps}")
        if self.max_depth is not None and self.max_depth < 1:
            raise InvalidInputError(f"`max_depth` must be at least 1, or None; got {self.max_depth}")

    @cached_property
    def lark(self) -> str:
        """The grammar in Lark's notation."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        shapes = _by_shape(self.actions)
        own = self._own_name
        yield f'start: t1 | "- {own}(CTX, X) : " NOTE "\\n\\n" u1' if self.new_actions else "start: t1"
        yield from self._strings()
        yield 'NUMBER: /"[1-9][0-9]?"/'
        if self.new_actions:
            yield r"NOTE: /[A-Z][^\x00-\x1f\x7f-\x9f]{8,120}\./"
        for number, shape in enumerate(shapes):
            names = " | ".join(f'"{name}("' for name in shapes[shape])
            yield f"N{number}: {names}"
        for step in range(1, self.max_steps + 1):
            calls = [
                f'N{number} {form} ")"'
                for number, shape in enumerate(shapes)
                for form in shape.forms(step, lists=self._enumerates)
            ]
            if not calls:
                raise InvalidInputError("no action of the library can be the first step; add one that takes CTX")
            yield f"c{step}: " + "\n  | ".join(calls)
            for prefix in "tu" if self.new_actions else "t":
                call = f'(c{step} | "{own}(CTX, " v{step} ")")' if prefix == "u" else f"c{step}"
                more = "" if step == self.max_steps else f' ("\\n" {prefix}{step + 1})?'
                yield f'{prefix}{step}: "s{step} = " {call}{more}'
            yield from _values(step, lists=self._enumerates)

    def _strings(self) -> Iterator[str]:
        """Yield the rules of strings and lists of strings."""
        text = _without_quotes(self.phrases)
        if not text:
            yield "string: STRING"
            yield rf'STRING: /"[^"\\\s{_CONTROLS}][^"\\{_CONTROLS}]{{0,79}}"/ & ~/"(s[0-9]+|CTX|LIST|[XYZ])"/'
        else:
            unit = (
                "words" if " " in text and len(text) < 20 * len(text.split()) else "chars"
            )  # some scripts write no spaces
            yield 'string: "\\"" PHRASE "\\""'
            yield f"PART: %regex {json.dumps({f'substring_{unit}': text})}"
            yield r"PHRASE: PART & /[^ ](.*[^ ])?/"
        if self._enumerates:
            yield f'list: "[" string (", " string){{0,{_ITEMS - 1}}} "]"'

    @property
    def _enumerates(self) -> bool:
        """Whether a plan may contain a list: the question enumerates something, or strings need not be part of it."""
        return not self.phrases or len(_SEPARATOR.findall(self.phrases)) > 1

    @property
    def _own_name(self) -> str:
        known, name = {action.name for action in self.actions}, _OWN
        while name in known:
            name += "_"
        return name

    def write(self, plan: Plan) -> str:
        """Write a plan in the form that the grammar describes, without notes, for demonstrations."""
        names = {step.out: f"s{number}" for number, step in enumerate(plan.steps, 1)}
        return "\n".join(f"{names[step.out]} = {_renamed(step, names).call}" for step in plan.steps)

    def fits(self, plan: Plan) -> bool:
        """Whether a plan has the actions and the size that the grammar allows, whatever its strings."""
        return (
            len(plan.steps) <= self.max_steps
            and (self.max_depth is None or plan.critical_path <= self.max_depth)
            and all(step.action in self.actions for step in plan.steps)
            and (self._enumerates or not any(isinstance(a, TextList) for step in plan.steps for a in step.arguments))
        )

    def read(self, text: str, *, truncated: bool = False) -> Plan:
        """Read a plan that follows the grammar.

        Args:
            text: The plan.
            truncated: Whether the text ends in the middle; its last line is then ignored.

        Returns:
            The plan. The note of each step is its instruction. `plan.diagnostics` contains what a grammar of this size
            cannot rule out, as warnings.

        Raises:
            PlanError: If the text does not follow the grammar, or if the plan is too deep.
        """
        lines = [line for line in text.strip().split("\n") if line.strip()]
        if truncated:
            lines = lines[:-1]
        own = _OWN_LINE.fullmatch(lines[0]) if lines else None
        new = f"- {own[1]} : {own[2]}" if own else "- None"
        steps = lines[bool(own) :]
        numbered = "".join(f"{number}. {line} : Step\n" for number, line in enumerate(steps, 1))
        limits = Limits(steps=self.max_steps)
        plan = Plan.parse(f"New actions:\n{new}\n\n{numbered}", self.actions, limits=limits)
        if self.max_depth is not None and plan.critical_path > self.max_depth:
            message = f"{plan.critical_path} steps need each other's values in turn; the limit is {self.max_depth}"
            raise PlanError("the plan", [*plan.diagnostics, Diagnostic("error", "too-deep", message)])
        return self.with_notes(plan)

    @staticmethod
    def with_notes(plan: Plan) -> Plan:
        """Set the note of each step to its instruction."""
        subjects = subjects_of(plan.steps)
        noted = tuple(replace(step, note=instruction_of(step, subjects)) for step in plan.steps)
        return replace(plan, steps=noted)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The kinds of the arguments of an action: CTX, LIST, N (a number) or a value."""

    kinds: tuple[str, ...]
    more: bool  # further values may follow
    joins: bool  # CONCAT

    @classmethod
    def of(cls, action: Action) -> _Shape:
        kinds = tuple(
            name if name in {DOCUMENT, "LIST"} else "N" if name == "N" and is_local(action) else "V"
            for name in action.parameters
            if name != MORE
        )
        return cls(kinds, action.variadic, action.name == "CONCAT" and is_local(action))

    def forms(self, step: int, *, lists: bool) -> Iterator[str]:
        """Yield the arguments of a call in a step; none if the call has nothing to work on."""
        earlier = step - 1
        if self.joins:
            if earlier >= 2:
                yield f"j{step}_0"
            return
        if not earlier and (DOCUMENT not in self.kinds or ("LIST" in self.kinds and not lists)):  # nothing to work on
            return
        if self.kinds[-2:] == ("V", "V") and self.kinds.count("V") == 2 and earlier >= 2 and not self.more:
            yield " ".join([*(f'{self._one(kind, step)} ", "' for kind in self.kinds[:-2]), f"p{step}"])
            return
        form = ' ", " '.join(self._one(kind, step) for kind in self.kinds)
        yield f'{form} (", " v{step}){{0,{_EXTRA}}}' if self.more else form

    @staticmethod
    def _one(kind: str, step: int) -> str:
        return {DOCUMENT: '"CTX"', "LIST": f"l{step}", "N": "NUMBER", "V": f"v{step}"}[kind]


def _by_shape(actions: Iterable[Action]) -> dict[_Shape, list[str]]:
    shapes: dict[_Shape, list[str]] = {}
    for action in actions:
        shapes.setdefault(_Shape.of(action), []).append(action.name)
    return shapes


def _values(step: int, *, lists: bool) -> Iterator[str]:
    """Yield the rules of the values that a step can use: v any, l a list, p two different ones, j several."""
    names = [f'"s{number}"' for number in range(1, step)]
    yield f"v{step}: " + " | ".join(["string", *names])
    if lists or names:
        yield f"l{step}: " + " | ".join([*(["list"] if lists else []), *names])
    if len(names) < 2:
        return
    pairs = [f'string ", " v{step}']
    for number, name in enumerate(names):
        others = [other for other in names if other != name]
        pairs.append(f'{name} ", " (string | {" | ".join(others)})')
        after = [f'"s{later}" j{step}_{later}' for later in range(number + 2, step)]
        yield f"j{step}_{number + 1}: " + (f'(", " ({" | ".join(after)}))?' if after else '""')
    yield f"p{step}: " + " | ".join(pairs)
    # Two values, or more of them in the order of the steps, so no value is passed twice.
    ordered = [(first, second) for first in range(1, step) for second in range(first + 1, step)]
    starts = [f'"s{first}, s{second}" j{step}_{second} | "s{second}, s{first}"' for first, second in ordered]
    yield f"j{step}_0: " + " | ".join(starts)


def _without_quotes(text: str) -> str:
    """Return a text on one line that can be part of a string of a plan: without quotes, backslashes and its end."""
    said = " ".join(text.replace('"', "'").replace("\\", " ").split())
    return "".join(letter for letter in said if letter.isprintable()).rstrip("?!.。？！ ")


def _renamed(step: Step, names: dict[str, str]) -> Step:
    def argument(given: Argument) -> Argument:
        if isinstance(given, Variable):
            return Variable(names[given.name])
        if isinstance(given, TextList):
            items: Sequence[object] = [argument(item) for item in given.items]
            return TextList(tuple(item for item in items if not isinstance(item, TextList)))  # type: ignore[misc]
        return given

    return replace(step, out=names[step.out], arguments=tuple(map(argument, step.arguments)))
