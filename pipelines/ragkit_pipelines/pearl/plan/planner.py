"""Planners, which write plans: with a model, or a fixed plan of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from ragkit._text import words
from ragkit.errors import InvalidInputError, PlanError, RagkitError
from ragkit.records import Diagnostic, Prompt
from ragkit_pipelines.pearl.plan.action import DIRECT, DOCUMENT, Action
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.grammar import PlanGrammar
from ragkit_pipelines.pearl.plan.library import ActionLibrary, Demonstration
from ragkit_pipelines.pearl.plan.plan import Ctx, Limits, Plan, Step
from ragkit_pipelines.pearl.plan.questions import question_features, similarity
from ragkit_pipelines.pearl.prompts import plan_prefix, plan_suffix, short_plan_prefix, short_plan_prompt
from ragkit_pipelines.pearl.run.calls import Caller, ModelCall, Response
from ragkit_pipelines.pearl.run.early_stop import no_plan_in

_STOP = ("\n\n\n", "\nQuestion:")
_STEPS = 3  # of a plan that a constrained model writes, which would otherwise rarely end it by itself
_DEMONSTRATIONS = 4  # for such a model, which imitates the last one, so that must be the most similar one
_FLAWS = {"same-call-twice", "same-value-twice", "quoted-variable"}

Rejected = tuple[tuple[str, tuple[Diagnostic, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The result of planning.

    Attributes:
        plan: The plan, or None.
        reason: Why there is no plan.
        rejected: The rejected texts, each with its diagnostics.
    """

    plan: Plan | None
    reason: str = ""
    rejected: Rejected = ()


@runtime_checkable
class Planner(Protocol):
    """Writes a plan for a question, without the document."""

    def plan(
        self,
        question: str,
        library: ActionLibrary,
        caller: Caller,
        *,
        rejected: Plan | None = None,
        remarks: Sequence[str] = (),
    ) -> Planned:
        """Write a plan; ``remarks`` state what is wrong with a rejected one."""
        ...

    def warm(self, library: ActionLibrary, caller: Caller) -> None:
        """Prepare for several questions."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPlanner(Planner):
    """Prompts a model with the actions and some demonstrations to write a plan.

    A model that can be constrained to a grammar is constrained to `PlanGrammar`, so that its plans can be read. Any
    other model writes freely, and its answer is abandoned as soon as it can no longer become a plan. A plan that is
    rejected is sent back to the model with its mistakes and their positions. The rules, actions and demonstrations are
    at the beginning of the prompt and are the same for every question, so a prompt cache can reuse them.

    Attributes:
        demonstrations: Questions with plans; the library's demonstrations if None.
        max_corrections: How many times a rejected plan is sent back.
        repair: Whether mistakes that have only one possible correction are repaired instead. The plan lists the
            repairs.
        dangling: How to treat values that no step uses: ``"prune"`` removes their steps, ``"keep"`` includes them in
            the answer. If None, ``"keep"`` for plans that follow the grammar, otherwise ``"prune"``.
        max_tokens: Maximum length of a plan in tokens.
        total_tokens: Maximum number of tokens that planning one question generates; None for no limit.
        seconds: Maximum duration of the model calls that plan one question; None for no limit. A call of a local model
            is then stopped, any other call is abandoned.
        max_steps: Maximum number of steps; if None, 3 with a grammar and 32 without.
        max_depth: Maximum number of model calls that must run sequentially; None for no limit.
        new_actions: Whether plans may define actions of their own; if None, only without a grammar.
        quotes_question: Whether, with a grammar, the strings of a plan must be parts of the question. A small model
            otherwise copies them from the demonstrations.
        constrain: Whether the model is constrained to a grammar; if None, if it can be.
        temperature: Sampling temperature; 0 for greedy decoding.
        seed: Seed of the sampling.
    """

    demonstrations: tuple[Demonstration, ...] | None = None
    max_corrections: int = 3
    repair: bool = False
    dangling: Literal["keep", "prune"] | None = None
    max_tokens: int = 768
    total_tokens: int | None = 2048
    seconds: float | None = 300.0
    max_steps: int | None = None
    max_depth: int | None = None
    new_actions: bool | None = None
    quotes_question: bool = True
    constrain: bool | None = None
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_corrections < 0:
            raise InvalidInputError(f"`max_corrections` must be 0 or more, got {self.max_corrections}")
        if self.dangling not in {"keep", "prune", None}:
            raise InvalidInputError(f"`dangling` must be 'keep', 'prune' or None, got {self.dangling!r}")
        for name in ("max_tokens", "total_tokens", "max_steps", "max_depth"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InvalidInputError(f"`{name}` must be an integer of at least 1, got {value!r}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise InvalidInputError(f"`seconds` must be a positive number or None, got {self.seconds!r}")

    def warm(self, library: ActionLibrary, caller: Caller) -> None:
        """Send the shared prefix once, so that the first questions already find it in the prompt cache."""
        caller.warm(self._form(library, caller, "").prefix)

    def plan(
        self,
        question: str,
        library: ActionLibrary,
        caller: Caller,
        *,
        rejected: Plan | None = None,
        remarks: Sequence[str] = (),
    ) -> Planned:
        """Prompt the model until it writes a plan that can be parsed; see `Planner.plan`."""
        form = self._form(library, caller, question)
        prompt = form.prompt(question, "" if rejected is None else form.write(rejected), remarks)
        tried: list[tuple[str, tuple[Diagnostic, ...]]] = []
        tokens, seconds = self.total_tokens, self.seconds
        second_best: Plan | None = None
        for _ in range(1 + self.max_corrections):
            if (tokens is not None and tokens < 1) or (seconds is not None and seconds <= 0):
                break
            call = ModelCall(
                prompt=prompt,
                purpose="plan",
                max_tokens=self.max_tokens if tokens is None else min(self.max_tokens, tokens),
                stop=_STOP,
                temperature=self.temperature,
                seed=self.seed + len(tried),
                grammar=None if form.grammar is None else form.grammar.lark,
                hopeless=no_plan_in if form.grammar is None else None,
            )
            outcome = caller.complete([call], seconds=seconds)[0]
            if isinstance(outcome, RagkitError):
                return Planned(plan=second_best, reason=f"No plan: {outcome}", rejected=tuple(tried))
            tokens = None if tokens is None else tokens - outcome.completion.usage.completion_tokens
            seconds = None if seconds is None else seconds - outcome.completion.seconds
            text = outcome.text.strip()
            try:
                plan = form.read(outcome, call.max_tokens)
                found = form.flaws(plan)
            except PlanError as error:
                plan, found = None, error.diagnostics
            if plan is not None and not found:
                return Planned(plan=plan.normalised(form.dangling), rejected=tuple(tried))
            if second_best is not None:  # one correction is enough for a plan that can be run
                break
            if plan is not None:
                second_best = plan.distinct().normalised(form.dangling)
            tried.append((text, found))
            problems = [str(each) for each in found if each.level == "error"][:8]
            before, prompt = prompt, form.prompt(question, text[:4000], problems)
            if prompt == before and not self.temperature:
                break  # the model repeated the plan, and the next prompt would be the same
        if second_best is not None:
            return Planned(plan=second_best, rejected=tuple(tried))
        last = next((str(each) for each in tried[-1][1] if each.level == "error"), "")
        reason = f"{len(tried)} plan{'s were' if len(tried) > 1 else ' was'} rejected. The last one: {last}"
        return Planned(plan=None, reason=reason, rejected=tuple(tried))

    def _form(self, library: ActionLibrary, caller: Caller, question: str) -> _Form:
        """Choose between plans that follow a grammar and plans that are written freely."""
        shown = library.demonstrations if self.demonstrations is None else self.demonstrations
        able = caller.model.capabilities.grammar if self.constrain is None else self.constrain
        if not able:
            text = plan_prefix(library.to_text(), [(each.question, each.plan.render()) for each in shown])
            return _Form(planner=self, library=library, prefix=text, dangling=self.dangling or "prune")
        dangling = self.dangling or "keep"
        room = self._room(caller)
        library = _fitting(library, question, caller, room)
        left_out = _not_needed(question) | ({"CONCAT"} if dangling == "keep" else set())
        kept = {action.name for action in library if action.name not in left_out or not is_local(action)}
        library = library.only(kept) if kept else library
        grammar = PlanGrammar(
            tuple(library),
            max_steps=self.max_steps or _STEPS,
            max_depth=self.max_depth,
            new_actions=bool(self.new_actions),
            phrases=question if self.quotes_question else "",
        )
        short = [(each.question, _without_join(each.plan, dangling)) for each in shown]
        fitting = [(asked, grammar.write(plan)) for asked, plan in short if grammar.fits(plan)]
        turns = sorted(fitting, key=lambda turn: similarity(question, turn[0]))[-_DEMONSTRATIONS:]
        while turns and room is not None and sum(caller.model.count_tokens("".join(t)) for t in turns) > room // 2:
            turns = turns[1:]
        return _Form(
            planner=self,
            library=library,
            prefix=short_plan_prefix(library.to_text(), grammar.max_steps),
            dangling=dangling,
            turns=tuple(turns),
            grammar=grammar,
        )

    def _room(self, caller: Caller) -> int | None:
        """Return the tokens for the actions: half of the window without the answer; None if there is no limit."""
        window = caller.model.capabilities.window
        return None if window is None else max(0, window - self.max_tokens) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The form in which the model writes plans.

    Attributes:
        planner: The settings.
        library: The actions that the prompt lists.
        prefix: The part of the prompt that all questions share.
        dangling: How values are treated that no step uses.
        turns: The demonstrations, if they are turns of a conversation.
        grammar: The grammar; None for plans that are written freely.
    """

    planner: PromptPlanner
    library: ActionLibrary
    prefix: str
    dangling: Literal["keep", "prune"]
    turns: tuple[tuple[str, str], ...] = ()
    grammar: PlanGrammar | None = None

    def prompt(self, question: str, rejected: str, problems: Sequence[str]) -> Prompt:
        """Build the prompt, as a conversation for a chat model that follows a grammar."""
        if self.grammar is None:
            return Prompt(self.prefix, plan_suffix(question, rejected, problems))
        return short_plan_prompt(self.prefix, self.turns, question, rejected, problems)

    def write(self, plan: Plan) -> str:
        return plan.render() if self.grammar is None else self.grammar.write(plan)

    def flaws(self, plan: Plan) -> tuple[Diagnostic, ...]:
        """Return what a constrained model should improve once, although the plan can be run."""
        if self.grammar is None:
            return ()
        return tuple(replace(each, level="error") for each in plan.diagnostics if each.code in _FLAWS)

    def read(self, response: Response, max_tokens: int) -> Plan:
        """Read a plan, or raise `PlanError`."""
        text, truncated = response.text.strip(), response.completion.finish_reason == "length"
        settings = self.planner
        if self.grammar is not None:
            return self.grammar.read(text, truncated=truncated)  # its complete lines are steps in any case
        if truncated:  # the beginning may parse, but the rest is missing
            message = f"the plan was truncated at {max_tokens} tokens; write fewer steps, and no text after them"
            raise PlanError("the plan", [Diagnostic("error", "cut-off", message)])
        try:
            plan = Plan.parse(text, self.library, repair=settings.repair, limits=Limits(steps=settings.max_steps or 32))
        except PlanError as error:
            if not (reason := no_plan_in(text)):
                raise
            raise PlanError("the plan", [Diagnostic("error", "no-plan", reason)]) from error
        found = _beyond(plan, settings)
        if found:
            raise PlanError("the plan", [*plan.diagnostics, *found])
        return plan


def _not_needed(question: str) -> set[str]:
    """Return the actions on lists, unless a question may need them.

    A small model would list, sort and count something for every question.
    """
    features = question_features(question)
    english = any(features[name] for name in features if name.startswith("has "))
    return {"COUNT", "SORT", "DEDUP", "TAKE"} if english and not features["counts"] else set()


def _without_join(plan: Plan, dangling: Literal["keep", "prune"]) -> Plan:
    """Omit a last step that only joins values, if values that no step uses are part of the answer anyway."""
    if dangling == "prune" or plan.steps[-1].action.name != "CONCAT" or len(plan.steps) < 2:
        return plan
    return replace(plan, steps=plan.steps[:-1])


def _beyond(plan: Plan, settings: PromptPlanner) -> Sequence[Diagnostic]:
    """Report the limits that a plan exceeds."""
    found = []
    if settings.max_depth is not None and plan.critical_path > settings.max_depth:
        message = f"{plan.critical_path} steps need each other's values in turn; the limit is {settings.max_depth}"
        found.append(Diagnostic("error", "too-deep", message))
    if settings.new_actions is False and plan.new_actions:
        message = f"{plan.new_actions[0].name} is not in the list; use only listed actions"
        found.append(Diagnostic("error", "new-action", message))
    return found


def _fitting(library: ActionLibrary, question: str, caller: Caller, room: int | None) -> ActionLibrary:
    """Return a library whose text has at most ``room`` tokens: the actions that share most words with a question.

    A model cannot use an action well that it does not see. The library is returned unchanged if it fits.
    """
    if room is None or caller.model.count_tokens(library.to_text()) <= room:
        return library
    asked = set(words(question))

    def shared(action: Action) -> tuple[bool, int, int]:
        own = {*words(action.name.replace("_", " ")), *words(action.text)}
        return not action.reads_document, -len(own & asked), -action.uses

    kept: set[str] = set()
    for action in sorted(library, key=shared):
        room -= caller.model.count_tokens(f"{action.signature} # {action.text}\n") + 1
        if room < 0 and kept:
            break
        kept.add(action.name)
    return library.only(kept)


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Answers a question directly from the document, by a plan of one step whose prompt contains the question."""

    def plan(self) -> Plan:
        """Return the plan of one step."""
        action = Action(DIRECT, (DOCUMENT,), "Answer the question from the text, and say why.")
        return Plan((Step("answer", action, (Ctx(),), "Answer the question"),), (action,))
