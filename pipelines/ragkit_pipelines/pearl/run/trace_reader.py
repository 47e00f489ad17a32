"""Reading a run from its trace, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ragkit.errors import InvalidInputError
from ragkit.records import Usage
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.nodes import Step
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.run.events import (
    CallMade,
    DocumentSeen,
    Event,
    PlanMade,
    RunBegun,
    RunEnded,
    StepEnded,
    read_events,
)
from ragkit_pipelines.pearl.run.passages import Passage
from ragkit_pipelines.pearl.run.run import Planning, Run, StepRun


def read_run(path: str | Path, number: int | None = None) -> Run:
    """Read a run from a trace, which may be in use.

    Args:
        path: The file.
        number: Number of the question, counted from 1; the last question if None.

    Returns:
        The run. If it has not ended, its status is ``"partial"``. A trace does not contain the usage of failed calls.

    Raises:
        InvalidInputError: If the trace contains no such question.
        DataFileError: If the trace cannot be read.
    """
    events = read_events(Path(path))
    begun = [event for event in events if isinstance(event, RunBegun)]
    chosen = [event for event in begun if number is None or event.run == number]
    if not chosen:
        raise InvalidInputError(
            f"the trace {path} contains {len(begun)} questions, but not number {number or 1}; pass another number"
        )
    return _run_of(chosen[-1], events)


def _run_of(begun: RunBegun, events: Sequence[Event]) -> Run:
    made = [event for event in events if isinstance(event, PlanMade) and event.run == begun.run]
    calls = {event.key: event for event in events if isinstance(event, CallMade)}
    document = next((e.text for e in events if isinstance(e, DocumentSeen) and e.hash == begun.document), "")
    plan = Plan.from_json(made[-1].plan) if made else None
    ended = {event.step: event for event in events if isinstance(event, StepEnded) and event.run == begun.run}
    end = next((e for e in reversed(events) if isinstance(e, RunEnded) and e.run == begun.run), None)
    own = [call for call in calls.values() if call.run == begun.run]
    used = {call.key: call for call in own}
    used |= {key: calls[key] for event in ended.values() for key in event.keys if key in calls}
    costs = [call.cost for call in used.values()]
    return Run(
        question=begun.question,
        answer=end.answer if end else "",
        status=end.status if end else "partial",
        plan=plan,
        planning=Planning(source=made[-1].source, reason=made[-1].reason) if made else Planning(),
        steps=_steps(plan, ended, calls, document, begun.run) if plan else (),
        reasons=tuple(end.reasons) if end else ("the run has not ended; resume it",),
        usage=sum((call.completion().usage for call in used.values()), Usage()),
        cost=None if None in costs else sum(cost for cost in costs if cost is not None),
        seconds=sum(call.seconds for call in own),  # the trace does not contain the elapsed time
        model_seconds=sum(call.seconds for call in used.values()),
        calls=len(own),
        reused=len(used) - len(own),
        by_purpose=Counter(call.purpose for call in own),
    )


def _steps(
    plan: Plan, ended: dict[str, StepEnded], calls: dict[str, CallMade], document: str, run: int
) -> tuple[StepRun, ...]:
    def one(step: Step) -> StepRun:
        event = ended.get(step.out)
        if event is None:
            return StepRun(step=step, status="skipped", reason="not reached", local=is_local(step.action))
        made = [calls[key] for key in event.keys if key in calls]
        return StepRun(
            step=step,
            status=event.status,
            value=event.value,
            reason=event.reason,
            passages=_passages(event, document),
            local=is_local(step.action),
            usage=sum((call.completion().usage for call in made), Usage()),
            seconds=sum(call.seconds for call in made),
            reused=bool(made) and all(call.run != run for call in made),
            keys=tuple(event.keys),
        )

    return tuple(one(step) for step in plan.steps)


def _passages(event: StepEnded, document: str) -> tuple[Passage, ...]:
    if sum(max(0, min(end, len(document)) - start) for start, end in event.spans) > 4 * len(document):
        return ()  # a forged trace, which repeats the document many times
    return tuple(Passage(document[start:end], (start, end)) for start, end in event.spans)
