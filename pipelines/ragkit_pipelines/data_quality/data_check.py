"""What is wrong with a task's data, looked at before anything is compared on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ragkit.errors import InvalidInputError
from ragkit.tasks import Task
from ragkit_pipelines.data_quality.label_noise import LabelNoise, label_noise
from ragkit_selectors.pool_check import PoolCheck, check_pool

_OF_POOL = ("conflicting", "duplicate", "near-duplicate", "probably mislabelled")
_OF_TEST = ("leaked", "nearly leaked")
_CANDIDATES = 200  # pairs for each row; the banking77, clinc150, snips and trec6 questions need under 50
_FEW = 30  # test rows: with fewer, a 95 % interval is wider than a third of the scale


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """What was found.

    Attributes:
        pool: Duplicates, conflicts and leaks.
        noise: The estimate of wrong labels; None where none was asked for, or the task has no labels or too few rows of
            each.
        unseen: Outputs of test rows that no row of the pool has, where outputs are labels.
        findings: What is wrong, a sentence each; empty where nothing is.
    """

    pool: PoolCheck
    noise: LabelNoise | None
    unseen: tuple[str, ...]
    findings: tuple[str, ...]


def check_data(task: Task, *, near: float = 0.9, seed: int = 0, quick: bool = False) -> DataCheck:
    """Look for duplicates, contradictions, leaks and wrong labels.

    Args:
        task: The task.
        near: Jaccard likeness of words from which two inputs are nearly the same.
        seed: Seed of the cross-validation behind the estimate of wrong labels.
        quick: Whether to do only what takes time in proportion to the rows: no estimate of wrong labels, and no search
            for near-duplicates where nearly all rows are made of the same few words.

    Returns:
        What was found.
    """
    pool = check_pool(task.examples, task.test, near=near, most_candidates=_CANDIDATES if quick else None)
    outputs = {row.output for row in task.examples}
    labelled = task.labels is not None or 1 < len(outputs) <= len(task.examples) / 5
    estimate = None
    if labelled and not quick:
        try:
            estimate = label_noise(task.examples, seed=seed)
        except InvalidInputError:  # too few rows of each label: no estimate, the rest stands
            estimate = None
    unseen = tuple(sorted({row.output for row in task.test} - outputs)) if labelled else ()
    return DataCheck(pool=pool, noise=estimate, unseen=unseen, findings=tuple(_findings(task, pool, estimate, unseen)))


def clean_data(
    task: Task,
    found: DataCheck,
    *,
    duplicates: bool = True,
    conflicts: bool = True,
    leaks: bool = True,
    noise: bool = False,
) -> Task:
    """Leave out what a check found.

    Args:
        task: The task that was checked.
        found: What the check found.
        duplicates: Whether later rows of the pool that repeat an earlier one, exactly or nearly, are left out.
        conflicts: Whether rows that are the same or nearly the same, but have different outputs, are left out, all of
            them, since nothing says which is right.
        leaks: Whether test rows that stand in the pool, exactly or nearly, are left out.
        noise: Whether suspects of label noise are left out of the pool. Test rows are never left out for their
            label, since that would make every way of solving the task look better than it is.

    Returns:
        The task without them.
    """
    gone = rows_to_remove(found, duplicates=duplicates, conflicts=conflicts, leaks=leaks, noise=noise)
    pool = set().union(*(gone[kind] for kind in _OF_POOL))
    test = set().union(*(gone[kind] for kind in _OF_TEST))
    return replace(
        task,
        examples=[row for place, row in enumerate(task.examples) if place not in pool],
        test=[row for place, row in enumerate(task.test) if place not in test],
    )


def rows_to_remove(
    found: DataCheck, *, duplicates: bool = True, conflicts: bool = True, leaks: bool = True, noise: bool = False
) -> dict[str, set[int]]:
    """The rows that `clean_data` leaves out, by the reason.

    Args:
        found: What the check found.
        duplicates: See `clean_data`, like the rest.
        conflicts: See there.
        leaks: See there.
        noise: See there.

    Returns:
        For each reason the positions of rows, each row under one reason: ``conflicting``, ``duplicate``,
        ``near-duplicate`` and ``probably mislabelled`` of the pool, ``leaked`` and ``nearly leaked`` of the test rows.
    """
    pool = found.pool
    contested = {place for pair in pool.conflicts for place in (pair.first, pair.second)}
    same = {pair.second for pair in pool.duplicates} - contested
    alike = {pair.second for pair in pool.near_duplicates} - contested - same
    suspects = set() if found.noise is None else {suspect.place for suspect in found.noise.suspects}
    gone = {
        "conflicting": contested if conflicts else set(),
        "duplicate": same if duplicates else set(),
        "near-duplicate": alike if duplicates else set(),
    }
    gone["probably mislabelled"] = suspects - set().union(*gone.values()) if noise else set()
    gone["leaked"] = {pair.second for pair in pool.leaks} if leaks else set()
    gone["nearly leaked"] = {pair.second for pair in pool.near_leaks} if leaks else set()
    return gone


def _findings(task: Task, pool: PoolCheck, noise: LabelNoise | None, unseen: Sequence[str]) -> list[str]:
    counted = [
        (len(pool.duplicates), "rows of the pool repeat an earlier one"),
        (len(pool.near_duplicates), "pairs of rows are nearly the same"),
        (len(pool.conflicts), "pairs of rows with the same or nearly the same input have different outputs"),
        (len(pool.leaks), f"of {pool.test_rows} test rows stand in the pool"),
        (len(pool.near_leaks), f"of {pool.test_rows} test rows nearly stand in the pool"),
    ]
    said = [f"{count} {what}" for count, what in counted if count]
    if not pool.near_searched:
        said.append("too many rows are made of the same words to look for near-duplicates")
    if noise is not None and noise.suspects:
        said.append(f"{len(noise.suspects)} of {noise.rows} labels are probably wrong ({noise.share:.1%})")
    if unseen:
        said.append(f"test rows have outputs that the pool never shows: {', '.join(map(repr, unseen[:5]))}")
    if len(pool.labels) == 1:
        said.append(f"all rows of the pool have the output {pool.labels[0][0]!r}, so there is nothing to learn")
    if len(task.test) < _FEW:
        said.append(f"{len(task.test)} test rows are too few to tell ways of solving the task apart")
    return said
