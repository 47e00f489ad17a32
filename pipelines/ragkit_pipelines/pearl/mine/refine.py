"""Demonstrations that are known to lead to right answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragkit.errors import InvalidInputError, PlanError
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import Demonstration
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.run.inputs import Text
from ragkit_pipelines.pearl.run.run import Run

_SHOWN = 600  # characters of a wrong answer that the planner is shown


@dataclass(frozen=True, slots=True)
class Checked:
    """A question whose right answer is known to whoever checks.

    Attributes:
        question: The question.
        document: Its document.
        expected: What the check compares with.
    """

    question: str
    document: Text
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """What refinement found.

    Attributes:
        demonstrations: Questions with plans whose answers were right.
        failed: Questions for which no plan was, each with its last run.
        tries: Plans that were run.
    """

    demonstrations: tuple[Demonstration, ...]
    failed: tuple[tuple[str, Run], ...]
    tries: int


def refine(
    pearl: Pearl, labelled: Sequence[Checked], *, check: Callable[[Run, Checked], bool], tries: int = 4
) -> Refined:
    """Keep the plans whose answers are right; a plan whose answer is wrong goes back to the planner with that answer.

    Use questions that are not evaluated on: this chooses demonstrations by the right answers.

    Args:
        pearl: What answers.
        labelled: The questions.
        check: Whether a run answers its question rightly.
        tries: Plans for one question at the most.

    Returns:
        The demonstrations and the questions without one.

    Raises:
        InvalidInputError: If ``tries`` is below 1.
    """
    if tries < 1:
        raise InvalidInputError(f"`tries` must be 1 or more, got {tries}")
    found: list[Demonstration] = []
    failed: list[tuple[str, Run]] = []
    run_in_all = 0
    for row in labelled:
        run = pearl.invoke(row.question, row.document)
        run_in_all += 1
        right = _is_right(run, row, check)
        for _ in range(tries - 1):
            plan = None if right else _another(pearl, row.question, run)
            if plan is None:
                break
            run = pearl.invoke(row.question, row.document, plan=plan)
            run_in_all += 1
            right = _is_right(run, row, check)
        if run.plan is not None and right:
            found.append(Demonstration(row.question, run.plan))
        else:
            failed.append((row.question, run))
    return Refined(demonstrations=tuple(found), failed=tuple(failed), tries=run_in_all)


def _is_right(run: Run, row: Checked, check: Callable[[Run, Checked], bool]) -> bool:
    """A direct answer demonstrates nothing, so only plans count."""
    return run.status == "done" and run.planning.source in {"planner", "given"} and check(run, row)


def _another(pearl: Pearl, question: str, run: Run) -> Plan | None:
    if run.plan is None or run.planning.source not in {"planner", "given"}:
        return None
    remark = f"The plan can be read, but it led to a wrong answer: {' '.join(run.text.split())[:_SHOWN]}"
    try:
        plan = pearl.plan(question, rejected=run.plan, remarks=[remark])
    except PlanError:
        return None
    return None if plan == run.plan else plan
