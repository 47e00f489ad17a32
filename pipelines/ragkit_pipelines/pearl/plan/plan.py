"""A plan: typed steps over a document, and the graph that they make."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ragkit.errors import InvalidInputError, PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import DOCUMENT, Action
from ragkit_pipelines.pearl.plan.lexer import quoted
from ragkit_pipelines.pearl.plan.library import ActionLibrary


@dataclass(frozen=True, slots=True)
class Ctx:
    """The document as a value."""

    def __str__(self) -> str:
        return DOCUMENT


@dataclass(frozen=True, slots=True)
class Text:
    """A text as a value; it is never anything else, whatever it looks like."""

    value: str

    def __str__(self) -> str:
        return quoted(self.value)


@dataclass(frozen=True, slots=True)
class Variable:
    """What an earlier step gave, as a value."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class TextList:
    """Several texts or variables as one value, for a parameter called LIST."""

    items: tuple[Text | Variable, ...]

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.items))}]"


Argument = Ctx | Text | Variable | TextList


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an action.

    Attributes:
        out: Name of the value that it gives.
        action: The action.
        arguments: A value for each parameter.
        note: What the step is for, in one line.
    """

    out: str
    action: Action
    arguments: tuple[Argument, ...]
    note: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it takes, each once, in order."""
        names: dict[str, None] = {}
        for argument in self.arguments:
            for part in argument.items if isinstance(argument, TextList) else (argument,):
                if isinstance(part, Variable):
                    names[part.name] = None
        return tuple(names)

    @property
    def reads_document(self) -> bool:
        """Whether the document itself is among its values."""
        return any(isinstance(argument, Ctx) for argument in self.arguments)

    @property
    def call(self) -> str:
        """The call as it stands in the plan."""
        return f"{self.action.name}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a plan may be.

    Attributes:
        characters: Characters of its text.
        steps: Steps.
        arguments: Values of one call.
        literal: Characters of one text in quotes.
        depth: Brackets in brackets, where nested calls are repaired.
    """

    characters: int = 16_000
    steps: int = 32
    arguments: int = 12
    literal: int = 600
    depth: int = 4


@dataclass(frozen=True)
class Plan:
    r"""Steps, each of which may use what earlier ones gave.

    A plan that exists is sound: every value is made before it is used and only once, and every call fits its action.

    Attributes:
        steps: The steps, in order.
        new_actions: Actions that only this plan has.
        diagnostics: Warnings and repairs of the text that it was read from.

    Examples:
        >>> library = ActionLibrary.from_text("FIND(CTX, X) # Find X.\nCONCAT(S1, S2, ...) # Join texts.")
        >>> plan = Plan.parse(
        ...     "New actions:\n- None\n\n"
        ...     '1. ship = FIND(CTX, "the ship: its name") : Find the ship\n'
        ...     '2. crew = FIND(CTX, "crew") : Find the crew\n'
        ...     "3. ans = CONCAT(ship, crew) : Combine both",
        ...     library,
        ... )
        >>> [[step.out for step in wave] for wave in plan.waves]
        [['ship', 'crew', 'ans']]
        >>> plan.critical_path
        1
    """

    steps: tuple[Step, ...]
    new_actions: tuple[Action, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        from ragkit_pipelines.pearl.plan.validation import check_plan

        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "new_actions", tuple(self.new_actions))
        found = check_plan(self)
        if any(each.level == "error" for each in found):
            raise PlanError("the plan", found)

    @classmethod
    def parse(cls, text: str, library: ActionLibrary, *, repair: bool = False, limits: Limits | None = None) -> Plan:
        """Read a plan from text.

        Args:
            text: ``New actions:``, ``- None`` or definitions, then the steps ``1. name = ACTION(CTX, "text") : note``.
            library: The actions it may use beside its own.
            repair: Whether slips that can be read in one way only are mended; each is listed in `diagnostics`.
            limits: How large it may be.

        Returns:
            The plan, with warnings and repairs in `diagnostics`.

        Raises:
            PlanError: If it cannot be read; the error carries every place and words for whoever corrects it.
        """
        from ragkit_pipelines.pearl.plan.parser import parse_plan

        return parse_plan(text, library, repair=repair, limits=limits or Limits())

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote; no library is needed, as a plan carries its actions.

        Returns:
            The plan.
        """
        from ragkit_pipelines.pearl.plan.plan_json import read_plan

        return read_plan(text)

    def to_json(self) -> str:
        """The plan and its actions as JSON.

        Returns:
            JSON on one line.
        """
        from ragkit_pipelines.pearl.plan.plan_json import write_plan

        return write_plan(self)

    def render(self) -> str:
        """The plan as text; `parse` reads it back.

        Returns:
            Text, without a line break at its end.
        """
        new = [f"- {action.signature} : {action.text}" for action in self.new_actions] or ["- None"]
        steps = [f"{number}. {step.out} = {step.call} : {step.note}" for number, step in enumerate(self.steps, 1)]
        return "\n".join(["New actions:", *new, "", *steps])

    def normalised(self, dangling: Literal["keep", "prune"] = "keep") -> Plan:
        """The same plan with fewer steps: equal calls are made once, and copies (CONCAT of one value) are left out.

        Args:
            dangling: What becomes of values that no step uses, the last one apart: ``"keep"`` leaves them in the
                answer, ``"prune"`` does not compute them.

        Returns:
            A plan; what was left out stands in its `diagnostics` as repairs.
        """
        from ragkit_pipelines.pearl.plan.simplify import normalised

        return normalised(self, dangling)

    def mermaid(self) -> str:
        """The graph for Mermaid.

        Returns:
            A flowchart.
        """
        from ragkit_pipelines.pearl.plan.mermaid import mermaid

        return mermaid(self)

    def __getitem__(self, out: str) -> Step:
        if out not in self._by_name:
            raise InvalidInputError(f"the plan has no step {out!r}; it has {', '.join(self._by_name)}")
        return self._by_name[out]

    @cached_property
    def _by_name(self) -> Mapping[str, Step]:
        return {step.out: step for step in self.steps}

    @cached_property
    def fingerprint(self) -> str:
        """Equal for two plans only where they are the same; what was said about their texts does not count."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @cached_property
    def sinks(self) -> tuple[Step, ...]:
        """The steps whose value no other step uses, in order."""
        used = {name for step in self.steps for name in step.reads}
        return tuple(step for step in self.steps if step.out not in used)

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """For each step the calls of a model, one after the other, that are done once it is."""
        from ragkit_pipelines.pearl.plan.builtins import is_local

        depths: dict[str, int] = {}
        for step in self.steps:
            before = max((depths[name] for name in step.reads), default=0)
            depths[step.out] = before + (not is_local(step.action))
        return depths

    @property
    def critical_path(self) -> int:
        """Calls of a model that have to wait for each other."""
        return max(self.depths.values())

    @cached_property
    def waves(self) -> tuple[tuple[Step, ...], ...]:
        """Steps that may run at the same time, wave after wave; a step without a model runs as soon as it can."""
        first = min(self.depths.values())
        waves: list[list[Step]] = [[] for _ in range(first, self.critical_path + 1)]
        for step in self.steps:
            waves[self.depths[step.out] - first].append(step)
        return tuple(tuple(wave) for wave in waves)

    def readers_of(self, out: str) -> frozenset[str]:
        """Every step that needs a value, directly or through others.

        Returns:
            Names of steps, without ``out``.
        """
        found: set[str] = set()
        for step in self.steps:
            if out in step.reads or found.intersection(step.reads):
                found.add(step.out)
        return frozenset(found)
