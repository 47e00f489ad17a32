"""Planners, which write plans: with a model, or a fixed plan of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ragkit.errors import InvalidInputError, PlanError, RagkitError
from ragkit.records import Diagnostic, Prompt
from ragkit_pipelines.pearl.plan.action import DIRECT, DOCUMENT, Action
from ragkit_pipelines.pearl.plan.library import ActionLibrary, Demonstration
from ragkit_pipelines.pearl.plan.plan import Ctx, Plan, Step
from ragkit_pipelines.pearl.prompts import plan_prefix, plan_suffix
from ragkit_pipelines.pearl.run.calls import Caller, ModelCall, Response

_STOP = ("\n\n\n", "\nQuestion:")


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
    rejected: tuple[tuple[str, tuple[Diagnostic, ...]], ...] = ()


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

    A plan that cannot be parsed is sent back to the model with its mistakes and their positions. The rules, actions and
    demonstrations are at the beginning of the prompt and are the same for every question, so a prompt cache can reuse
    them.

    Attributes:
        demonstrations: Questions with plans; the library's demonstrations if None.
        max_corrections: How many times a rejected plan is sent back.
        repair: Whether mistakes that have only one possible correction are repaired instead. The plan lists the
            repairs.
        dangling: How to treat values that no step uses: ``"prune"`` removes their steps, ``"keep"`` includes them in
            the answer.
        max_tokens: Maximum length of a plan in tokens.
        temperature: Sampling temperature; 0 for greedy decoding.
        seed: Seed of the sampling.
    """

    demonstrations: tuple[Demonstration, ...] | None = None
    max_corrections: int = 3
    repair: bool = False
    dangling: Literal["keep", "prune"] = "prune"
    max_tokens: int = 768
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_corrections < 0:
            raise InvalidInputError(f"`max_corrections` must be 0 or more, got {self.max_corrections}")
        if self.dangling not in {"keep", "prune"}:
            raise InvalidInputError(f"`dangling` must be 'keep' or 'prune', got {self.dangling!r}")

    def prefix(self, library: ActionLibrary) -> str:
        """Return the part of the prompt that all questions share."""
        shown = library.demonstrations if self.demonstrations is None else self.demonstrations
        return plan_prefix(library.to_text(), [(each.question, each.plan.render()) for each in shown])

    def warm(self, library: ActionLibrary, caller: Caller) -> None:
        """Send the shared prefix once, so that the first questions already find it in the prompt cache."""
        caller.warm(self.prefix(library))

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
        prefix = self.prefix(library)
        suffix = plan_suffix(question, "" if rejected is None else rejected.render(), remarks)
        tried: list[tuple[str, tuple[Diagnostic, ...]]] = []
        for _ in range(1 + self.max_corrections):
            call = ModelCall(
                prompt=Prompt(prefix, suffix),
                purpose="plan",
                max_tokens=self.max_tokens,
                stop=_STOP,
                temperature=self.temperature,
                seed=self.seed + len(tried),
            )
            outcome = caller.complete([call])[0]
            if isinstance(outcome, RagkitError):
                return Planned(plan=None, reason=f"No plan: {outcome}", rejected=tuple(tried))
            text = outcome.text.strip()
            try:
                plan = self._read(outcome, library)
            except PlanError as error:
                tried.append((text, error.diagnostics))
                problems = [str(each) for each in error.diagnostics if each.level == "error"][:8]
                before, suffix = suffix, plan_suffix(question, text[:4000], problems)
                if suffix == before and not self.temperature:
                    break  # the model repeated the plan, and the next prompt would be the same
            else:
                return Planned(plan=plan.normalised(self.dangling), rejected=tuple(tried))
        last = next(str(each) for each in tried[-1][1] if each.level == "error")
        reason = f"{len(tried)} plans were rejected. The last one: {last}"
        return Planned(plan=None, reason=reason, rejected=tuple(tried))

    def _read(self, response: Response, library: ActionLibrary) -> Plan:
        if response.completion.finish_reason == "length":  # the beginning may parse, but the rest is missing
            message = f"the plan was truncated at {self.max_tokens} tokens; write fewer steps, and no text after them"
            raise PlanError("the plan", [Diagnostic("error", "cut-off", message)])
        return Plan.parse(response.text.strip(), library, repair=self.repair)


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Answers a question directly from the document, by a plan of one step whose prompt contains the question."""

    def plan(self) -> Plan:
        """Return the plan of one step."""
        action = Action(DIRECT, (DOCUMENT,), "Answer the question from the text, with what it rests on.")
        return Plan((Step("answer", action, (Ctx(),), "Answer the question"),), (action,))
