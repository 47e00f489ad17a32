"""The library of actions that a planner may use, with demonstrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources

from pydantic import ValidationError

from ragkit.errors import InvalidInputError, PlanError
from ragkit.records import Diagnostic
from ragkit_pipelines.pearl.plan.action import Action, read_action
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.plan.plan_json import ActionRecord, Record

_MOST_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A question with a plan that answers it well, used as an in-context example for the planner."""

    question: str
    plan: Plan


@dataclass(frozen=True)
class ActionLibrary:
    """The actions that a planner may use, and demonstrations of their use.

    Attributes:
        actions: The actions, in the order in which they are listed in the planner's prompt.
        demonstrations: Questions with plans that use the actions.
        diagnostics: Warnings about the text that the library was read from.

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
            raise InvalidInputError("an action library needs at least one action, such as FIND(CTX, X) # Find X.")
        twice = [name for name, count in Counter(action.name for action in self.actions).items() if count > 1]
        if twice:
            raise InvalidInputError(f"the library contains two actions named {twice[0]}; give each action its own name")

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
            raise InvalidInputError(f"the library has no action {name!r}; choose one of {', '.join(self._by_name)}")
        return self._by_name[name]

    @classmethod
    def default(cls) -> ActionLibrary:
        """Load the library that ships with ragkit: actions for questions about long texts, and ten demonstrations."""
        folder = resources.files("ragkit_pipelines.pearl") / "resources"
        library = cls.from_text((folder / "actions.txt").read_text(encoding="utf-8"))
        return replace(
            library,
            demonstrations=read_demonstrations((folder / "demonstrations.txt").read_text(encoding="utf-8"), library),
        )

    @classmethod
    def from_text(cls, text: str) -> ActionLibrary:
        """Read actions, one per line: ``NAME(CTX, X) # what it does``.

        Args:
            text: The lines. Empty lines and lines that begin with ``#`` are skipped.

        Returns:
            The library. Its `diagnostics` report definitions that appear to be truncated.

        Raises:
            PlanError: If a line is not a definition, or two actions have the same name.
        """
        _check_length(text)
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
                message = f"the definition of {action.name} ends with {action.text[-30:]!r}; it may be truncated"
                found.append(Diagnostic("warning", "cut-definition", message, number, len(line)))
            actions.setdefault(action.name, action)
        if not actions and not found:
            found.append(
                Diagnostic(
                    "error",
                    "no-action",
                    "the text contains no action; expected lines such as NAME(CTX, X) # what it does",
                )
            )
        if any(each.level == "error" for each in found):
            raise PlanError("the list of actions", found)
        return cls(tuple(actions.values()), diagnostics=tuple(found))

    def to_text(self) -> str:
        """Write the actions in the format of `from_text`. Only `to_json` includes uses and demonstrations."""
        return "".join(f"{action.signature} # {action.text}\n" for action in self.actions)

    @classmethod
    def from_json(cls, text: str) -> ActionLibrary:
        """Read JSON that `to_json` wrote.

        Args:
            text: The JSON.

        Returns:
            The library.

        Raises:
            InvalidInputError: If the text is not such JSON.
            PlanError: If an action or a demonstration is not valid.
        """
        _check_length(text)
        try:
            read = _Library.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidInputError(
                f"the action library is not valid: {first['loc']}: {first['msg']}; pass what ActionLibrary.to_json() "
                "returned"
            ) from error
        library = cls(tuple(Action(row.name, row.parameters, row.text, row.uses) for row in read.actions))
        demonstrations = (Demonstration(row.question, Plan.parse(row.plan, library)) for row in read.demonstrations)
        return replace(library, demonstrations=tuple(demonstrations))

    def to_json(self) -> str:
        """Write the library, without its diagnostics, as JSON."""
        rows = [
            _CountedAction(name=action.name, parameters=action.parameters, text=action.text, uses=action.uses)
            for action in self.actions
        ]
        shown = [_Demonstration(question=each.question, plan=each.plan.render()) for each in self.demonstrations]
        return _Library(actions=rows, demonstrations=tuple(shown)).model_dump_json(indent=1)

    def counted(self, plans: Iterable[Plan]) -> ActionLibrary:
        """Add the uses of the actions in some plans to their counts."""
        uses = Counter(step.action.name for plan in plans for step in plan.steps)
        return replace(self, actions=tuple(replace(a, uses=a.uses + uses[a.name]) for a in self.actions))

    def only(self, names: Collection[str]) -> ActionLibrary:
        """Keep the actions with these names, in the order of the library, and the demonstrations that use only these.

        Args:
            names: Names of actions; at least one of them must be in the library.

        Returns:
            A new library.
        """
        shown = tuple(
            each
            for each in self.demonstrations
            if all(step.action.name in names or step.action in each.plan.new_actions for step in each.plan.steps)
        )
        kept = tuple(action for action in self.actions if action.name in names)
        return replace(self, actions=kept, demonstrations=shown, diagnostics=())

    def subset(self, min_uses: int = 1) -> ActionLibrary:
        """Keep the frequently used actions, and the demonstrations that use only these.

        Args:
            min_uses: Minimum number of uses.

        Returns:
            A new library.

        Raises:
            InvalidInputError: If no action has this many uses.
        """
        kept = {action.name for action in self.actions if action.uses >= min_uses}
        if not kept:
            most = max(action.uses for action in self.actions)
            raise InvalidInputError(
                f"no action has {min_uses} uses; the most frequent one has {most}. Lower `min_uses`"
            )
        return self.only(kept)


def _check_length(text: str) -> None:
    if len(text) > _MOST_CHARACTERS:
        raise InvalidInputError(f"the library has {len(text):,} characters; the limit is {_MOST_CHARACTERS:,}")


class _CountedAction(ActionRecord):
    uses: int = 0


class _Demonstration(Record):
    question: str
    plan: str


class _Library(Record):
    actions: list[_CountedAction]
    demonstrations: tuple[_Demonstration, ...] = ()


def read_demonstrations(text: str, library: ActionLibrary) -> tuple[Demonstration, ...]:
    """Read demonstrations: ``Question: …``, an empty line and a plan, separated by lines of three dashes."""
    shown = []
    for block in text.replace("\r\n", "\n").split("\n---\n"):
        first, _, plan = block.strip().partition("\n")
        if not first.startswith("Question: "):
            raise InvalidInputError(f"a demonstration must begin with 'Question: …', got {first[:60]!r}")
        shown.append(Demonstration(first.removeprefix("Question: ").strip(), Plan.parse(plan.strip(), library)))
    return tuple(shown)
