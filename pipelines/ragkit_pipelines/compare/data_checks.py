"""What is wrong with the data of a comparison, said before anything is run on it, and left out where that is asked."""

from __future__ import annotations

from typing import Literal
from warnings import warn

from pydantic import BaseModel, ConfigDict

from ragkit.errors import InvalidInputError, LeakageWarning, UnknownSpecError
from ragkit.tasks import Task
from ragkit_pipelines.data_quality.data_check import check_data, clean_data, rows_to_remove

Checks = Literal["report", "clean", "off"]


class DataReport(BaseModel):
    """What was found in the data, and what was left out of it.

    Attributes:
        findings: What is wrong, a sentence each.
        removed: Number of rows that were left out, by the reason; empty where nothing was to be cleaned.
        before: Hash of the task as it was given.
        after: Hash of the task as it was compared on.
    """

    model_config = ConfigDict(extra="forbid")

    findings: list[str] = []
    removed: dict[str, int] = {}
    before: str
    after: str


def checked(task: Task, checks: Checks) -> tuple[Task, int, DataReport]:
    """Look at the data and take out what must not, or should not, be compared on.

    Test rows that stand in the pool are taken out whatever is asked: no score on them means anything.

    Args:
        task: The task.
        checks: ``"report"`` says what is wrong, ``"clean"`` leaves it out as `clean_data` does, ``"off"`` looks at
            nothing else.

    Returns:
        The task to compare on, the number of test rows that stood in the pool, and the report.

    Raises:
        UnknownSpecError: If ``checks`` is none of the three.
        InvalidInputError: If no test row, or no example, is left.
    """
    if checks not in {"report", "clean", "off"}:
        raise UnknownSpecError("kind of checks", str(checks), ("report", "clean", "off"))
    leaks = task.leaks()
    if leaks:
        first = task.test[leaks[0].test].text()
        said = f"{len(leaks)} of {len(task.test)} test rows stand in the pool and are removed, such as {first[:60]!r}"
        warn(LeakageWarning(said), stacklevel=3)
    left = task.without_leaks()
    if not left.test:
        raise InvalidInputError('the task has no test row to compare on; give rows with "split": "test"')
    report = DataReport(before=task.fingerprint, after=left.fingerprint)
    if checks == "off":
        return left, len(leaks), report
    found = check_data(left, quick=True)
    report = report.model_copy(update={"findings": list(found.findings)})
    if checks == "report":
        return left, len(leaks), report
    gone = rows_to_remove(found)
    removed = {kind: len(rows) for kind, rows in gone.items() if rows}
    pool = sum(map(len, gone.values())) - len(gone["leaked"]) - len(gone["nearly leaked"])
    for what, rows, lost in (("example", left.examples, pool), ("test row", left.test, len(gone["nearly leaked"]))):
        if lost == len(rows):
            raise InvalidInputError(
                f"cleaning leaves no {what} of {lost} ({removed}); look at the data, or use checks='report'"
            )
    clean = clean_data(left, found)
    return clean, len(leaks), report.model_copy(update={"removed": removed, "after": clean.fingerprint})
