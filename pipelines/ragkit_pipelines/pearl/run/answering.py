"""Answering one question: from its plan to its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from ragkit._progress import progress
from ragkit_pipelines.pearl.plan.action import DIRECT, DOCUMENT, MORE, Action
from ragkit_pipelines.pearl.plan.nodes import Argument, Ctx, Step, Variable
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.plan.planner import ZeroShot
from ragkit_pipelines.pearl.run.calls import Caller
from ragkit_pipelines.pearl.run.context import View
from ragkit_pipelines.pearl.run.run import Planning, Run, StepRun
from ragkit_pipelines.pearl.run.trace import RunTrace

if TYPE_CHECKING:
    from ragkit_pipelines.pearl.pipeline import Pearl

Answer = Literal["sinks", "last", "synthesize"]
Stage = Plan | StepRun | Run


@dataclass(slots=True, kw_only=True)
class Answering:
    """The state of one question while it is being answered.

    Attributes:
        pearl: The pipeline that answers it.
        question: The question.
        view: The document, as the steps read it.
        caller: Makes the model calls.
        trace: Records the question, if there is a trace.
    """

    pearl: Pearl
    question: str
    view: View | None
    caller: Caller
    trace: RunTrace | None

    def run(self, plan: Plan | None = None, planning: Planning | None = None) -> Iterator[Stage]:
        """Run a plan."""
        started = perf_counter()
        if plan is None:
            plan, planning = self.plan()
        planning = planning or Planning()
        if plan is None:
            yield self._ended(None, planning, [], started)
            return
        plan = self._with_answer(plan)
        if self.trace is not None:
            self.trace.write_plan(plan, planning)
        yield plan
        steps: list[StepRun] = []
        for step in self.pearl.executor.run(plan, self.view, self.caller, question=self.question):
            steps.append(step)
            if self.trace is not None:
                self.trace.write_step(step)
            yield step
        yield self._ended(plan, planning, steps, started)

    def plan(self) -> tuple[Plan | None, Planning]:
        """Write a plan, or choose a direct answer."""
        if reason := self._reason_against(None):
            return ZeroShot().plan(), Planning(source="router", reason=reason)
        with progress("planning", None):
            planned = self.pearl.planner.plan(self.question, self.pearl.library, self.caller)
        if planned.plan is None:
            source = Planning(source="fallback", reason=planned.reason, rejected=planned.rejected)
            cannot = self.pearl.fallback is None or self.caller.cancellation.cancelled
            return None if cannot else ZeroShot().plan(), source
        if reason := self._reason_against(planned.plan):
            return ZeroShot().plan(), Planning(source="router", reason=reason, rejected=planned.rejected)
        return planned.plan, Planning(source="planner", rejected=planned.rejected)

    def _reason_against(self, plan: Plan | None) -> str:
        """Return why the router prefers a direct answer; empty if it prefers a plan or does not decide now."""
        router = self.pearl.router
        if router is None or router.reads_plan != (plan is not None):
            return ""
        route = router.route(self.question, plan)
        return route.reason if route.strategy == "direct" else ""

    def _with_answer(self, plan: Plan) -> Plan:
        """Append a step that answers the question from the values, if `answer` is ``"synthesize"``."""
        if self.pearl.answer != "synthesize" or any(step.action.name == DIRECT for step in plan.steps):
            return plan
        first = (DOCUMENT,) if self.pearl.answer_reads_document else ()
        action = Action(DIRECT, (*first, "S1", MORE), "Answer the question, and say why.")
        name = "final_answer"
        while any(step.out == name for step in plan.steps):
            name += "_"
        values: list[Argument] = [Variable(step.out) for step in plan.sinks]
        arguments = (*([Ctx()] if first else []), *values)
        step = Step(name, action, tuple(arguments), "Answer the question")
        return replace(plan, steps=(*plan.steps, step), new_actions=(*plan.new_actions, action))

    def _ended(self, plan: Plan | None, planning: Planning, steps: list[StepRun], started: float) -> Run:
        if plan is not None:
            order = {step.out: number for number, step in enumerate(plan.steps)}
            steps = sorted(steps, key=lambda each: order[each.step.out])
        answer = _answer(plan, steps, self.pearl.answer)
        problems = [f"{each.step.out}: {each.reason}" for each in steps if each.status != "skipped" and each.reason]
        reasons = ([planning.reason] if plan is None else []) + problems
        failed = any(each.status == "failed" for each in steps)
        status: Literal["done", "partial", "failed", "cancelled"] = "partial" if failed else "done"
        if not answer.strip():
            status = "failed"
        if status != "done" and self.caller.cancellation.cancelled:
            status = "cancelled"
        totals = self.caller.totals
        run = Run(
            question=self.question,
            answer=answer,
            status=status,
            plan=plan,
            planning=planning,
            steps=tuple(steps),
            reasons=tuple(reasons),
            usage=totals.usage,
            cost=totals.cost,
            seconds=perf_counter() - started,
            model_seconds=totals.seconds,
            calls=totals.calls,
            failed_calls=totals.failed,
            reused=totals.reused,
            by_purpose=dict(totals.by_purpose),
        )
        if self.trace is not None:
            self.trace.write_end(run)
        return run


def _answer(plan: Plan | None, steps: Sequence[StepRun], form: Answer) -> str:
    """Return the values that no finished step uses, in the order of the plan; or only the last value."""
    if plan is None:
        return ""
    values = {each.step.out: each.value for each in steps if each.status == "done"}
    if form != "sinks" and plan.steps[-1].out in values:
        return values[plan.steps[-1].out]
    used = {name for step in plan.steps if step.out in values for name in step.reads}
    return "".join(f"{value}\n\n" for name, value in values.items() if name not in used)  # steps are in plan order
