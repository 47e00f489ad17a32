"""Refining demonstrations: keeping the plans that lead to correct answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragkit.errors import InvalidInputError, PlanError
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import Demonstration
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.run.inputs import Text
from ragkit_pipelines.pearl.run.run import Run

_EXCERPT = 600  # characters of a wrong answer in the prompt of the planner


@dataclass(frozen=True, slots=True)
class Checked:
    """A question with a known correct answer.

    Attributes:
        question: The question.
        document: Its document.
        expected: The correct answer, for the check.
    """

    question: str
    document: Text
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """The result of refinement.

    Attributes:
        demonstrations: Questions with plans whose answers are correct.
        failed: Questions without such a plan, each with its last run.
        tries: Number of plans that were run.
    """

    demonstrations: tuple[Demonstration, ...]
    failed: tuple[tuple[str, Run], ...]
    tries: int


def refine(
    pearl: Pearl, labelled: Sequence[Checked], *, check: Callable[[Run, Checked], bool], tries: int = 4
) -> Refined:
    """Keep the plans whose answers are correct, and send the others back to the planner with their wrong answer.

    Do not use questions of the evaluation, because the demonstrations are selected by the correct answers.

    Args:
        pearl: The pipeline.
        labelled: The questions.
        check: Returns whether a run answers its question correctly.
        tries: Maximum number of plans per question.

    Returns:
        The demonstrations, and the questions without one.

    Raises:
        InvalidInputError: If ``tries`` is less than 1.
    """
    if tries < 1:
        raise InvalidInputError(f"`tries` must be at least 1, got {tries}")
    found: list[Demonstration] = []
    failed: list[tuple[str, Run]] = []
    count = 0
    for row in labelled:
        run = pearl.invoke(row.question, row.document)
        count += 1
        correct = _is_correct(run, row, check)
        for _ in range(tries - 1):
            plan = None if correct else _another(pearl, row.question, run)
            if plan is None:
                break
            run = pearl.invoke(row.question, row.document, plan=plan)
            count += 1
            correct = _is_correct(run, row, check)
        if run.plan is not None and correct:
            found.append(Demonstration(row.question, run.plan))
        else:
            failed.append((row.question, run))
    return Refined(demonstrations=tuple(found), failed=tuple(failed), tries=count)


def _is_correct(run: Run, row: Checked, check: Callable[[Run, Checked], bool]) -> bool:
    """Check a run; a direct answer never counts, because it contains no plan to demonstrate."""
    return run.status == "done" and run.planning.source in {"planner", "given"} and check(run, row)


def _another(pearl: Pearl, question: str, run: Run) -> Plan | None:
    if run.plan is None or run.planning.source not in {"planner", "given"}:
        return None
    remark = f"The plan can be read, but it led to a wrong answer: {' '.join(run.text.split())[:_EXCERPT]}"
    try:
        plan = pearl.plan(question, rejected=run.plan, remarks=[remark])
    except PlanError:
        return None
    return None if plan == run.plan else plan
