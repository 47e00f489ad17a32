"""Making plans: by asking a model, or without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ragkit.errors import InvalidInputError, PlanError
from ragkit.records import Completion, Diagnostic, Prompt
from ragkit_pipelines.pearl.plan.action import DOCUMENT, Action
from ragkit_pipelines.pearl.plan.library import ActionLibrary, Demonstration
from ragkit_pipelines.pearl.plan.plan import Ctx, Plan, Step
from ragkit_pipelines.pearl.prompts import plan_prefix, plan_suffix
from ragkit_pipelines.pearl.run.calls import Ask, Caller, Failure
from ragkit_pipelines.pearl.run.executor import DIRECT

_STOP = ("\n\n\n", "\nQuestion:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a planner came to.

    Attributes:
        plan: The plan, or None.
        reason: Why there is none.
        rejected: Texts that were no plans, each with what was wrong with it.
    """

    plan: Plan | None
    reason: str = ""
    rejected: tuple[tuple[str, tuple[Diagnostic, ...]], ...] = ()


@runtime_checkable
class Planner(Protocol):
    """Makes a plan for a question, without the document."""

    def plan(
        self,
        question: str,
        library: ActionLibrary,
        caller: Caller,
        *,
        rejected: Plan | None = None,
        remarks: Sequence[str] = (),
    ) -> Planned:
        """Make a plan; ``remarks`` say what is wrong with an earlier one."""
        ...

    def warm(self, library: ActionLibrary, caller: Caller) -> None:
        """Get ready for several questions."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPlanner(Planner):
    """Shows a model the actions and some demonstrations, and asks for a plan.

    A plan that cannot be read goes back with what is wrong at which place. Rules, actions and demonstrations come first
    in the prompt and are the same for every question, so that a prompt cache holds them.

    Attributes:
        demonstrations: Questions with plans; those of the library if None.
        max_corrections: How often a rejected plan goes back.
        repair: Whether slips that can be read in one way only are mended instead; they are listed in the plan.
        dangling: What becomes of values that no step uses: ``"prune"`` does not compute them, ``"keep"`` has them in
            the answer.
        max_tokens: Tokens of a plan at the most.
        temperature: 0 for the likeliest plan.
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
        """The beginning of every prompt for plans over this library.

        Returns:
            Text.
        """
        shown = library.demonstrations if self.demonstrations is None else self.demonstrations
        return plan_prefix(library.to_text(), [(each.question, each.plan.render()) for each in shown])

    def warm(self, library: ActionLibrary, caller: Caller) -> None:
        """Send what all questions share, so that the first of them find it in the cache."""
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
        """Ask for a plan until one can be read.

        Args:
            question: The question.
            library: The actions.
            caller: What makes the calls.
            rejected: An earlier plan, which could be read but is not wanted.
            remarks: What is wrong with it.

        Returns:
            The plan, or why there is none.
        """
        prefix = self.prefix(library)
        suffix = plan_suffix(question, "" if rejected is None else rejected.render(), remarks)
        tried: list[tuple[str, tuple[Diagnostic, ...]]] = []
        for _ in range(1 + self.max_corrections):
            ask = Ask(
                prompt=Prompt(prefix, suffix),
                purpose="plan",
                max_tokens=self.max_tokens,
                stop=_STOP,
                temperature=self.temperature,
                seed=self.seed + len(tried),
            )
            outcome = caller.ask([ask])[0]
            if isinstance(outcome, Failure):
                return Planned(plan=None, reason=f"no plan was had: {outcome.reason}", rejected=tuple(tried))
            text = outcome.completion.text.strip()
            try:
                plan = self._read(outcome.completion, library)
            except PlanError as error:
                tried.append((text, error.diagnostics))
                problems = [str(each) for each in error.diagnostics if each.level == "error"][:8]
                before, suffix = suffix, plan_suffix(question, text[:4000], problems)
                if suffix == before and not self.temperature:
                    break  # the same plan again, and the same words would be asked again
            else:
                return Planned(plan=plan.normalised(self.dangling), rejected=tuple(tried))
        last = next(str(each) for each in tried[-1][1] if each.level == "error")
        reason = f"{len(tried)} plans were rejected, the last one for {last}"
        return Planned(plan=None, reason=reason, rejected=tuple(tried))

    def _read(self, completion: Completion, library: ActionLibrary) -> Plan:
        if completion.finish_reason == "length":  # what is there may read as a plan, but is not the whole one
            message = f"the plan was cut off at {self.max_tokens} tokens; write fewer steps, and nothing behind them"
            raise PlanError("the plan", [Diagnostic("error", "cut-off", message)])
        return Plan.parse(completion.text.strip(), library, repair=self.repair)


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Answers a question directly over the document: a plan of one step, which is shown the question itself."""

    def plan(self) -> Plan:
        """The plan.

        Returns:
            One step.
        """
        action = Action(DIRECT, (DOCUMENT,), "Answer the question from the text, with what it rests on.")
        return Plan((Step("answer", action, (Ctx(),), "Answer the question"),), (action,))
