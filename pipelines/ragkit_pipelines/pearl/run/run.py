"""What came of a question: the answer, each step with what it read, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ragkit.records import Diagnostic, Usage
from ragkit_pipelines.pearl.plan.plan import Plan, Step
from ragkit_pipelines.pearl.run.passages import Passage

Form = Literal["text", "mermaid", "html"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """One step of a run.

    Attributes:
        step: The step.
        status: ``"done"``; ``"failed"``; or ``"skipped"``, where a value that it needs is missing.
        value: What it gave, exactly as the model wrote it; empty unless it is done.
        reason: Why it is not done; or that its value was cut off at the most tokens it may take.
        passages: Passages of the document that it was shown beside what all steps are shown.
        local: Whether it was computed without a model.
        usage: Tokens of its calls.
        seconds: Time of its calls, one after the other.
        reused: Whether all its calls had been made earlier.
        keys: Names of its calls in the trace.
    """

    step: Step
    status: Literal["done", "failed", "skipped"]
    value: str = ""
    reason: str = ""
    passages: tuple[Passage, ...] = ()
    local: bool = False
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    reused: bool = False
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Where a plan comes from.

    Attributes:
        source: ``"planner"``, ``"given"``, ``"fallback"`` where no plan was accepted, or ``"router"`` where the router
            chose to answer directly.
        reason: Why it is not the planner's.
        rejected: Texts that were no plans, each with what was wrong with it.
    """

    source: Literal["planner", "given", "fallback", "router"] = "given"
    reason: str = ""
    rejected: tuple[tuple[str, tuple[Diagnostic, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A question, answered as far as it could be.

    Attributes:
        question: The question.
        answer: The answer, exactly as the steps gave it; what there is of it where the run is not done.
        status: ``"done"``; ``"partial"`` where a step failed; ``"failed"`` where there is no answer; ``"cancelled"``.
        plan: The plan, None where there is none.
        planning: Where the plan comes from.
        steps: The steps in the order of the plan.
        reasons: What went wrong, in words.
        usage: Tokens of all calls, those that a trace had already among them.
        cost: US dollars; None where a price is not known.
        seconds: Time from the beginning to the end.
        model_seconds: Time of all calls, one after the other, those that a trace had already among them.
        calls: Calls of the model that were made, failed ones and the warming of the cache among them.
        reused: Calls that were not made, as a trace had their answers.
        by_purpose: Calls that were made, by purpose.
    """

    question: str
    answer: str
    status: Literal["done", "partial", "failed", "cancelled"]
    plan: Plan | None
    planning: Planning = field(default_factory=Planning)
    steps: tuple[StepRun, ...] = ()
    reasons: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    seconds: float = 0.0
    model_seconds: float = 0.0
    calls: int = 0
    reused: int = 0
    by_purpose: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The answer without empty lines around it."""
        return self.answer.strip()

    @property
    def values(self) -> dict[str, str]:
        """The values of the steps that are done, by name."""
        return {each.step.out: each.value for each in self.steps if each.status == "done"}

    def explain(self, form: Form = "text") -> str:
        """Show what was done, what each value read, and what it took.

        Args:
            form: ``"text"``, ``"mermaid"`` or ``"html"`` (a whole page).

        Returns:
            Text in that form.
        """
        from ragkit_pipelines.pearl.run.explain import explain

        return explain(self, form)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a plan will take, before it runs. Retries are not counted.

    Attributes:
        calls: Calls of the model, those that warm the cache among them.
        critical_path: Calls that have to wait for each other.
        prompt_tokens: Tokens read, taking values as long as steps gave on average.
        cached_tokens: Those of them that a prompt cache has already, where the model keeps one.
        completion_tokens: Tokens written, as on average.
        most_tokens: Tokens read and written at the most, if every value is as long as it may be.
        cost: US dollars for the average case; None where the price is not known.
    """

    calls: int
    critical_path: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    most_tokens: int
    cost: float | None
