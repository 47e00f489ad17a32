"""Check the data of a comparison before anything is run, and remove problematic rows on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args
from warnings import warn

from pydantic import BaseModel, ConfigDict

from ragkit.errors import InvalidInputError, LeakageWarning
from ragkit.metrics._set_level import ClassMetric
from ragkit.tasks import Task
from ragkit_pipelines.compare.statistics.set_metrics import set_metric
from ragkit_pipelines.data_quality.data_check import check_data, clean_data, rows_to_remove

FEW_ROWS = 10  # test rows of a class, below which its F1 says little
_SHOWN, _LONGEST = 5, 40  # names of classes in a finding, and their characters

Checks = Literal["report", "clean", "off"]
CHECKS: tuple[Checks, ...] = get_args(Checks)


class DataReport(BaseModel):
    """Problems found in the data, and the number of removed rows by reason (none unless cleaning was requested).

    ``before`` and ``after`` are the hashes of the task as given and as compared.
    """

    model_config = ConfigDict(extra="forbid")

    findings: list[str] = []
    removed: dict[str, int] = {}
    before: str
    after: str


def check_task(task: Task, checks: Checks) -> tuple[Task, int, DataReport]:
    """Check the data of a task, and remove rows if ``checks`` is ``"clean"``.

    Test rows that also appear in the pool are always removed, because scores on them are meaningless.

    Returns:
        The task for the comparison, the number of leaked test rows, and the report.

    Raises:
        InvalidInputError: If no test row or no example remains.
    """
    leaks = task.leaks()
    if leaks:
        first = task.test[leaks[0].test].text()
        found = f"{len(leaks)} of {len(task.test)} test rows also appear in the pool"
        # The warning is shown at the call of `compare`.
        warn(LeakageWarning(f"{found} and are excluded, such as {first[:60]!r}"), stacklevel=6)
    left = task.without_leaks()
    if not left.test:
        raise InvalidInputError('the task has no test rows to compare on; add rows with "split": "test"')
    report = DataReport(before=task.fingerprint, after=left.fingerprint)
    if checks == "off":
        return left, len(leaks), report
    check = check_data(left, quick=True)
    report = report.model_copy(update={"findings": [*check.findings, *class_findings(left)]})
    if checks == "report":
        return left, len(leaks), report
    gone = rows_to_remove(check)
    removed = {kind: len(rows) for kind, rows in gone.items() if rows}
    pool = sum(map(len, gone.values())) - len(gone["leaked"]) - len(gone["nearly leaked"])
    for what, rows, lost in (("example", left.examples, pool), ("test row", left.test, len(gone["nearly leaked"]))):
        if lost == len(rows):
            raise InvalidInputError(
                f"cleaning would remove all {lost} {what}s ({removed}); inspect the data, or use checks='report'"
            )
    clean = clean_data(left, check)
    return clean, len(leaks), report.model_copy(update={"removed": removed, "after": clean.fingerprint})


def class_findings(task: Task) -> list[str]:
    """Return what makes a set-level metric of classes unreliable: classes with few or no rows in pool or test.

    Returns:
        One finding per problem; none for other metrics.
    """
    metric: object = set_metric(task.metric)
    if not isinstance(metric, ClassMetric):
        return []
    tested, known = (Counter(row.output for row in rows) for rows in (task.test, task.examples))
    rare = {name for name, count in tested.items() if count < FEW_ROWS}
    problems = {
        f"classes with fewer than {FEW_ROWS} test rows, whose scores depend on a few answers": rare,
        f"classes that only the test has, which count in {metric.title} but cannot be learned": {*tested} - {*known},
        f"classes without test rows, which {metric.title} leaves out": {*(task.labels or known)} - {*tested},
    }
    return [f"{problem}: {_listed(sorted(names))}" for problem, names in problems.items() if names]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:_LONGEST] for name in names[:_SHOWN])
    return f"{len(names)} ({shown}{', …' if len(names) > _SHOWN else ''})"
