"""The library of actions that a planner may use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import InvalidInputError, PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.definitions import read_action

if TYPE_CHECKING:
    from ragkit_pipelines.pearl.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A question with a plan that answers it well, to show to a planner."""

    question: str
    plan: Plan


@dataclass(frozen=True)
class ActionLibrary:
    """The actions that a planner may use, and demonstrations of their use.

    Attributes:
        actions: The actions, in the order in which a planner is shown them.
        demonstrations: Questions with plans that use them.
        diagnostics: Warnings about the text that it was read from.

    Examples:
        >>> library = ActionLibrary.from_text("FIND(CTX, X) # Find everything about X.")
        >>> library["FIND"].parameters
        ('CTX', 'X')
        >>> len(ActionLibrary.default()) > 30
        True
    """

    actions: tuple[Action, ...]
    demonstrations: tuple[Demonstration, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", tuple(self.actions))
        object.__setattr__(self, "demonstrations", tuple(self.demonstrations))
        if not self.actions:
            raise InvalidInputError("an action library needs an action at least, such as FIND(CTX, X) # Find X.")
        twice = [name for name, count in Counter(action.name for action in self.actions).items() if count > 1]
        if twice:
            raise InvalidInputError(f"the library has two actions called {twice[0]}; give each its own name")

    @cached_property
    def _by_name(self) -> Mapping[str, Action]:
        return {action.name: action for action in self.actions}

    def __len__(self) -> int:
        return len(self.actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Action:
        if name not in self._by_name:
            raise InvalidInputError(f"the library has no action {name!r}; it has {', '.join(self._by_name)}")
        return self._by_name[name]

    @classmethod
    def default(cls) -> ActionLibrary:
        """The library that ships with ragkit: actions for questions about long texts, and ten demonstrations.

        Returns:
            A library.
        """
        folder = resources.files("ragkit_pipelines.pearl") / "resources"
        library = cls.from_text((folder / "actions.txt").read_text(encoding="utf-8"))
        return replace(
            library,
            demonstrations=read_demonstrations((folder / "demonstrations.txt").read_text(encoding="utf-8"), library),
        )

    @classmethod
    def from_text(cls, text: str) -> ActionLibrary:
        """Read actions, one a line: ``NAME(CTX, X) # what it does``.

        Args:
            text: The lines; empty ones, and those that begin with ``#``, are passed over.

        Returns:
            The library. Its `diagnostics` say where a definition looks cut off.

        Raises:
            PlanError: If a line cannot be read, or two have one name.
        """
        actions: dict[str, Action] = {}
        found: list[Diagnostic] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            action = read_action(line.rstrip("\r"), number, found)
            if action is None:
                continue
            if action.name in actions:
                found.append(Diagnostic("error", "duplicate-action", f"{action.name} is defined twice", number, 1))
            elif not action.text.endswith((".", "!", "?", ")", "…")):
                message = f"the definition of {action.name} ends in {action.text[-30:]!r}: is it cut off?"
                found.append(Diagnostic("warning", "cut-definition", message, number, len(line)))
            actions.setdefault(action.name, action)
        if not actions and not found:
            found.append(Diagnostic("error", "no-action", "no line; expected NAME(CTX, X) # what it does"))
        if any(each.level == "error" for each in found):
            raise PlanError("the list of actions", found)
        return cls(tuple(actions.values()), diagnostics=tuple(found))

    def to_text(self) -> str:
        """The actions as `from_text` reads them; uses and demonstrations are kept by `to_json` only.

        Returns:
            A line for each action.
        """
        return "".join(f"{action.signature} # {action.text}\n" for action in self.actions)

    @classmethod
    def from_json(cls, text: str) -> ActionLibrary:
        """Read what `to_json` wrote.

        Args:
            text: JSON.

        Returns:
            The library.

        Raises:
            InvalidInputError: If it is something else.
            PlanError: If an action or a demonstration in it is wrong.
        """
        try:
            read = _Library.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidInputError(f"an action library as JSON: {first['loc']}: {first['msg']}") from error
        library = cls(tuple(Action(row.name, row.parameters, row.text, row.uses) for row in read.actions))
        from ragkit_pipelines.pearl.plan.plan import Plan

        demonstrations = (Demonstration(row.question, Plan.parse(row.plan, library)) for row in read.demonstrations)
        return replace(library, demonstrations=tuple(demonstrations))

    def to_json(self) -> str:
        """Everything but the diagnostics, as JSON.

        Returns:
            JSON, indented.
        """
        rows = [
            _Action(name=action.name, parameters=action.parameters, text=action.text, uses=action.uses)
            for action in self.actions
        ]
        shown = [_Demonstration(question=each.question, plan=each.plan.render()) for each in self.demonstrations]
        return _Library(actions=rows, demonstrations=shown).model_dump_json(indent=1)

    def counted(self, plans: Iterable[Plan]) -> ActionLibrary:
        """The same library with the uses in these plans added to those it has.

        Returns:
            A library.
        """
        uses = Counter(step.action.name for plan in plans for step in plan.steps)
        return replace(self, actions=tuple(replace(a, uses=a.uses + uses[a.name]) for a in self.actions))

    def subset(self, min_uses: int = 1) -> ActionLibrary:
        """The actions that were used often, and the demonstrations that need no other.

        Args:
            min_uses: Uses at the least.

        Returns:
            A library.

        Raises:
            InvalidInputError: If no action was used so often.
        """
        kept = {action.name for action in self.actions if action.uses >= min_uses}
        if not kept:
            most = max(action.uses for action in self.actions)
            raise InvalidInputError(f"no action has {min_uses} uses, the most used one has {most}; lower `min_uses`")
        shown = (
            each
            for each in self.demonstrations
            if all(step.action.name in kept or step.action in each.plan.new_actions for step in each.plan.steps)
        )
        return replace(
            self, actions=tuple(a for a in self.actions if a.name in kept), demonstrations=tuple(shown), diagnostics=()
        )


class _Action(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    parameters: tuple[str, ...]
    text: str
    uses: int = 0


class _Demonstration(BaseModel):
    model_config = ConfigDict(extra="forbid")

    question: str
    plan: str


class _Library(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actions: list[_Action]
    demonstrations: list[_Demonstration] = []


def read_demonstrations(text: str, library: ActionLibrary) -> tuple[Demonstration, ...]:
    """Read questions with plans: ``Question: …``, an empty line, the plan; a line of dashes between two of them.

    Args:
        text: The text.
        library: The actions that the plans use.

    Returns:
        The demonstrations.

    Raises:
        InvalidInputError: If one does not begin with its question.
        PlanError: If a plan cannot be read.
    """
    from ragkit_pipelines.pearl.plan.plan import Plan

    shown = []
    for block in text.replace("\r\n", "\n").split("\n---\n"):
        first, _, plan = block.strip().partition("\n")
        if not first.startswith("Question: "):
            raise InvalidInputError(f"a demonstration begins with 'Question: …', got {first[:60]!r}")
        shown.append(Demonstration(first.removeprefix("Question: ").strip(), Plan.parse(plan.strip(), library)))
    return tuple(shown)
