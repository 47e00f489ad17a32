"""A plan: typed steps over a document, and the graph that they form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from ragkit.errors import InvalidInputError, PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.mermaid import mermaid
from ragkit_pipelines.pearl.plan.nodes import Argument, Ctx, Limits, Step, Text, TextList, Variable, sinks_of
from ragkit_pipelines.pearl.plan.parser import parse_steps
from ragkit_pipelines.pearl.plan.plan_json import read_steps, write_steps
from ragkit_pipelines.pearl.plan.simplify import distinct, simplified
from ragkit_pipelines.pearl.plan.validation import check_plan
from ragkit_pipelines.printable import printable

__all__ = ["Argument", "Ctx", "Limits", "Plan", "Step", "Text", "TextList", "Variable"]


@dataclass(frozen=True)
class Plan:
    r"""A sequence of steps, each of which may use the values of earlier ones; ``print`` shows it as text.

    A plan is validated when it is created: every value is defined once and before it is used, and every call matches
    the parameters of its action.

    Attributes:
        steps: The steps, in order.
        new_actions: Actions that the plan itself defines.
        diagnostics: Warnings about the text that the plan was parsed from, and repairs made to it.

    Examples:
        >>> from ragkit import ActionLibrary
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
        for name in ("steps", "new_actions", "diagnostics"):  # a serializer may have turned them into lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        found = check_plan(self.steps, self.new_actions)
        if any(each.level == "error" for each in found):
            raise PlanError("the plan", found)

    @classmethod
    def parse(cls, text: str, library: Iterable[Action], *, repair: bool = False, limits: Limits | None = None) -> Plan:
        """Parse a plan.

        Args:
            text: ``New actions:``, then ``- None`` or definitions, then the steps
                ``1. name = ACTION(CTX, "text") : note``.
            library: The actions that the plan may use in addition to those it defines, such as an `ActionLibrary`.
            repair: Whether mistakes that have only one possible correction are repaired. Every repair is listed in
                `diagnostics`.
            limits: Limits on the size of the plan.

        Returns:
            The plan, with warnings and repairs in `diagnostics`.

        Raises:
            PlanError: If the plan cannot be parsed. The error lists every mistake with its line and column.
        """
        return cls(*parse_steps(text, library, repair=repair, limits=limits or Limits()))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read JSON that `to_json` wrote. No library is needed, because the JSON contains the actions."""
        return cls(*read_steps(text))

    def to_json(self) -> str:
        """Write the plan and its actions as JSON."""
        return write_steps(self.steps, self.new_actions)

    def render(self) -> str:
        """Write the plan as text that `parse` can read.

        Returns:
            Text, without a line break at its end.
        """
        new = [f"- {action.signature} : {action.text}" for action in self.new_actions] or ["- None"]
        steps = [f"{number}. {step.out} = {step.call} : {step.note}" for number, step in enumerate(self.steps, 1)]
        return "\n".join(["New actions:", *new, "", *steps])

    def __str__(self) -> str:
        return printable(self.render())

    def normalised(self, dangling: Literal["keep", "prune"] = "keep") -> Plan:
        """Remove repeated calls and copies (CONCAT of one value).

        Args:
            dangling: How to treat values that no step uses, other than the last one. ``"keep"`` leaves them in the
                answer; ``"prune"`` removes their steps.

        Returns:
            A plan. The removed steps are listed in its `diagnostics` as repairs.
        """
        steps, repairs = simplified(self.steps, dangling)
        if not repairs:
            return self
        used = {step.action.name for step in steps}
        new_actions = tuple(action for action in self.new_actions if action.name in used)
        return replace(self, steps=tuple(steps), new_actions=new_actions, diagnostics=(*self.diagnostics, *repairs))

    def distinct(self) -> Plan:
        """Remove repeated calls, also if their values are part of the answer, which then contains them once."""
        steps, repairs = distinct(self.steps)
        return replace(self, steps=tuple(steps), diagnostics=(*self.diagnostics, *repairs)) if repairs else self

    def mermaid(self) -> str:
        """Draw the graph of the plan with Mermaid."""
        return mermaid(self.steps)

    def __getitem__(self, out: str) -> Step:
        if out not in self._by_name:
            raise InvalidInputError(f"the plan has no step {out!r}; it has {', '.join(self._by_name)}")
        return self._by_name[out]

    @cached_property
    def _by_name(self) -> Mapping[str, Step]:
        return {step.out: step for step in self.steps}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the steps and actions. Diagnostics do not affect it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @cached_property
    def sinks(self) -> tuple[Step, ...]:
        """The steps whose value no other step uses, in order."""
        return sinks_of(self.steps)

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """For each step, the number of sequential model calls up to and including it."""
        depths: dict[str, int] = {}
        for step in self.steps:
            before = max((depths[name] for name in step.reads), default=0)
            depths[step.out] = before + (not is_local(step.action))
        return depths

    @property
    def critical_path(self) -> int:
        """Number of model calls that must run sequentially."""
        return max(self.depths.values())

    @cached_property
    def waves(self) -> tuple[tuple[Step, ...], ...]:
        """Groups of steps that can run in parallel. A step without a model belongs to the earliest possible group."""
        first = min(self.depths.values())
        waves: list[list[Step]] = [[] for _ in range(first, self.critical_path + 1)]
        for step in self.steps:
            waves[self.depths[step.out] - first].append(step)
        return tuple(tuple(wave) for wave in waves)

    def readers_of(self, out: str) -> frozenset[str]:
        """Find all steps that depend on a value, directly or through other steps.

        Returns:
            Names of steps, without ``out``.
        """
        found: set[str] = set()
        for step in self.steps:
            if out in step.reads or found.intersection(step.reads):
                found.add(step.out)
        return frozenset(found)
