"""Mining actions: collecting those that a model defines when it plans for many questions of a domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ragkit._progress import progress
from ragkit._text import refuse_bare_string
from ragkit.errors import InvalidInputError, PlanError, RagkitError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.records import Diagnostic, Prompt
from ragkit_pipelines.pearl.plan.action import Action, read_action
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.prompts import plan_prefix, plan_suffix
from ragkit_pipelines.pearl.run.calls import Caller, ModelCall, Outcome
from ragkit_pipelines.pearl.run.executor import PlanExecutor
from ragkit_pipelines.pearl.run.trace import Trace

_STOP_WORDS = frozenset({"a", "an", "and", "for", "from", "in", "of", "on", "the", "to", "x", "y", "z"})
_SHARD = 80  # maximum number of actions in one prompt for merging
_TOGETHER = 64  # questions between two updates of the progress bar
_ARROW = "<="


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """The result of mining.

    Attributes:
        library: The actions with their numbers of uses, the most frequent first.
        merged: Names that were merged, each with the name that replaces it.
        pruned: Names that had too few uses.
        rejected: Questions without a valid plan, each with its diagnostics.
        plans: Number of valid plans.
    """

    library: ActionLibrary
    merged: Mapping[str, str]
    pruned: tuple[str, ...]
    rejected: tuple[tuple[str, tuple[Diagnostic, ...]], ...]
    plans: int


def mine(
    model: str | LanguageModel,
    questions: Sequence[str],
    seeds: ActionLibrary | None = None,
    *,
    rounds: int = 1,
    min_uses: int = 2,
    executor: PlanExecutor | None = None,
    trace: Trace | None = None,
) -> Mined:
    """Collect the actions that a model defines in its plans for some questions.

    Actions whose names consist of the same words and that have the same number of parameters are merged first; then
    the model merges actions with the same purpose. An invalid response loses nothing: actions that the model does not
    mention are kept.

    Args:
        model: A model or its spec.
        questions: Questions of the domain, without those used for evaluation.
        seeds: The initial actions; `ActionLibrary.default()` if None. The prompt contains their demonstrations.
        rounds: Number of times that the model merges actions; 0 for none.
        min_uses: Actions with fewer uses are removed, except built-in ones.
        executor: Makes the calls; `PlanExecutor()` if None.
        trace: Records the responses; interrupted mining resumes from it.

    Returns:
        The library, and the actions that were merged or removed.

    Raises:
        InvalidInputError: If there are no questions, or a number is negative.
    """
    refuse_bare_string("questions", questions)
    if not questions or rounds < 0 or min_uses < 0:
        raise InvalidInputError("mining needs at least one question, and `rounds` and `min_uses` of at least 0")
    seeds = seeds or ActionLibrary.default()
    model = load_model(model)
    recorded = None if trace is None else trace.begin("", "", model, context="mining", answer="")
    caller = (executor or PlanExecutor()).caller(model, trace=recorded)
    plans, rejected = _plans(caller, questions, seeds)
    collected = _Collected(seeds)
    for plan in plans:
        collected.add(plan)
    actions, merged = collected.actions(), dict(collected.merged)
    for _ in range(rounds):
        actions, more = _merged_by_model(caller, actions)
        merged = {old: more.get(new, new) for old, new in merged.items()} | more
    kept = [action for action in actions if action.uses >= min_uses or is_local(action)]
    if not kept:
        raise InvalidInputError(f"no action has {min_uses} uses in {len(plans)} plans; lower `min_uses`")
    kept.sort(key=lambda action: -action.uses)
    names = {action.name for action in kept}
    return Mined(
        library=ActionLibrary(tuple(kept)),
        merged=merged,
        pruned=tuple(action.name for action in actions if action.name not in names),
        rejected=tuple(rejected),
        plans=len(plans),
    )


def _plans(
    caller: Caller, questions: Sequence[str], seeds: ActionLibrary
) -> tuple[list[Plan], list[tuple[str, tuple[Diagnostic, ...]]]]:
    prefix = plan_prefix(seeds.to_text(), [(each.question, each.plan.render()) for each in seeds.demonstrations])
    prefix += (
        "For the next question, define new actions where those above do not fit well: small, of one purpose, and named "
        "and described so that they serve other questions too.\n\n"
    )
    calls = [
        ModelCall(prompt=Prompt(prefix, plan_suffix(question)), purpose="mine", max_tokens=768, stop=("\n\n\n",))
        for question in questions
    ]
    plans: list[Plan] = []
    rejected: list[tuple[str, tuple[Diagnostic, ...]]] = []
    outcomes: list[Outcome] = []
    with progress("Mining actions", len(calls)) as advance:
        for start in range(0, len(calls), _TOGETHER):
            outcomes += caller.complete(calls[start : start + _TOGETHER])
            advance(min(_TOGETHER, len(calls) - start))
    for question, outcome in zip(questions, outcomes, strict=True):
        if isinstance(outcome, RagkitError):
            rejected.append((question, (Diagnostic("error", "no-answer", str(outcome)),)))
            continue
        try:
            plans.append(Plan.parse(outcome.text.strip(), seeds, repair=True))
        except PlanError as error:
            rejected.append((question, error.diagnostics))
    return plans, rejected


def normalised_signature(action: Action) -> tuple[frozenset[str], int]:
    """Normalise the signature of an action, which identifies actions that differ only in spelling.

    Returns:
        The words of its name, without stop words and plural endings, and the number of its parameters.

    Examples:
        >>> from ragkit.pearl import Action
        >>> one = Action("FIND_EMOTIONS_OF", ("CTX", "X"), "Find emotions.")
        >>> normalised_signature(one) == normalised_signature(Action("EMOTION_FIND", ("CTX", "WHO"), "Find feelings."))
        True
    """
    parts = [word for word in action.name.lower().split("_") if word and word not in _STOP_WORDS]
    return frozenset(_singular(word) for word in parts or [action.name.lower()]), len(action.parameters)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


class _Collected:
    """Groups actions by normalised signature; each group is represented by its most frequent action."""

    def __init__(self, seeds: ActionLibrary) -> None:
        self._groups: dict[tuple[frozenset[str], int], Counter[Action]] = {}
        self._seeds = {action.name: action for action in seeds}
        self.merged: dict[str, str] = {}
        for action in seeds:
            self._groups.setdefault(normalised_signature(action), Counter())[replace(action, uses=0)] += 0

    def add(self, plan: Plan) -> None:
        for step in plan.steps:
            self._groups.setdefault(normalised_signature(step.action), Counter())[step.action] += 1

    def actions(self) -> list[Action]:
        found: dict[str, Action] = {}
        for group in self._groups.values():
            ranked = sorted(group, key=lambda action: (action.name not in self._seeds, -group[action]))
            head = replace(ranked[0], uses=sum(group.values()))
            if head.name in found:  # the same name with another number of parameters
                head = replace(head, name=f"{head.name}_{len(head.parameters)}")
            found[head.name] = head
            self.merged |= {action.name: head.name for action in ranked[1:] if action.name != head.name}
        return list(found.values())


def _merged_by_model(caller: Caller, actions: Sequence[Action]) -> tuple[list[Action], dict[str, str]]:
    """Merge the actions that, according to the model, have the same purpose."""
    local = [action for action in actions if is_local(action)]
    rest = sorted((action for action in actions if not is_local(action)), key=lambda action: action.name)
    shards = [rest[start : start + _SHARD] for start in range(0, len(rest), _SHARD)]
    outcomes = caller.complete([_merge_call(shard) for shard in shards if len(shard) > 1])
    result, merged = list(local), dict[str, str]()
    remaining = iter(outcomes)
    for shard in shards:
        outcome = next(remaining) if len(shard) > 1 else None
        reply = "" if outcome is None or isinstance(outcome, RagkitError) else outcome.text
        taken = {action.name for action in result}
        kept, more = _read_merges(reply, {action.name: action for action in shard}, taken)
        result += kept
        merged |= more
    return result, merged


def _merge_call(shard: Sequence[Action]) -> ModelCall:
    listed = "".join(f"{action.signature} # {action.text}\n" for action in shard)
    head = (
        "These actions were collected from plans for questions about texts. Some have the same purpose. Name groups "
        "that one action can serve, a line for each group: the action that takes their place, the arrow, the old "
        "names:\n"
        f"NAME(CTX, X) # What it does. {_ARROW} OLD_NAME, OTHER_OLD_NAME\n"
        "Leave out actions that stay as they are.\n\n"
    )
    return ModelCall(prompt=Prompt(head, f"{listed}\nGroups:\n"), purpose="merge", max_tokens=2048)


def _read_merges(reply: str, known: dict[str, Action], taken: set[str]) -> tuple[list[Action], dict[str, str]]:
    """Apply the merges in a response; lines that are not valid or name unknown actions are ignored."""
    left = dict(known)
    made: list[Action] = []
    merged: dict[str, str] = {}
    for line in reply.splitlines():
        definition, arrow, names = line.partition(_ARROW)
        old = list(dict.fromkeys(name.strip() for name in names.split(",")))
        action = read_action(definition.strip().removeprefix("- "), 0, []) if arrow else None
        if action is None or len(old) < 2 or not all(name in left for name in old):
            continue
        if action.name in taken or (action.name in left and action.name not in old):
            continue
        uses = sum(left.pop(name).uses for name in old)
        made.append(replace(action, uses=uses))
        taken.add(action.name)
        merged |= {name: action.name for name in old if name != action.name}
    return [*left.values(), *made], merged
