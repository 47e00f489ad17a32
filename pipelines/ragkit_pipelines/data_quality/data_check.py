"""Find duplicates, contradictions, leaked test rows and label noise in the data of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ragkit._labels import spellings
from ragkit.errors import InvalidInputError
from ragkit.tasks import Task
from ragkit_pipelines.data_quality.label_noise import LabelNoise, label_noise
from ragkit_selectors.pool_check import MOST_CANDIDATES, PoolCheck, check_pool

_OF_POOL = ("conflicting", "duplicate", "near-duplicate", "probably mislabelled")
_OF_TEST = ("leaked", "nearly leaked")
_CANDIDATES = 200  # candidate pairs per row; banking77, clinc150, snips and trec6 need fewer than 50
_FEW = 30  # with fewer test rows, a 95 % interval is wider than a third of the scale


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """The result of a data check.

    Attributes:
        pool: Duplicates, conflicts and leaks.
        noise: The estimate of label noise; None if it was not requested, or the task has no labels or too few rows per
            label.
        unseen: If outputs are labels, those that occur only in test rows.
        spellings: Labels that differ only in case or spaces: each rare spelling with the most frequent one. They count
            as the same label in all other checks.
        findings: The problems found, one text each; empty if there are none.
    """

    pool: PoolCheck
    noise: LabelNoise | None
    unseen: tuple[str, ...]
    spellings: Mapping[str, str]
    findings: tuple[str, ...]


def check_data(task: Task, *, near: float = 0.9, seed: int = 0, quick: bool = False) -> DataCheck:
    """Check the data of a task for duplicates, contradictions, leaks and label noise.

    Args:
        task: The task.
        near: Jaccard similarity of words from which two inputs count as near-duplicates.
        seed: Seed of the cross-validation that estimates label noise.
        quick: Whether to run only checks whose time is proportional to the number of rows. Label noise is not
            estimated, and the search for near-duplicates stops if nearly all rows consist of the same few words.

    Returns:
        The findings.
    """
    outputs = {row.output for row in task.examples}
    labelled = task.labels is not None or 1 < len(outputs) <= len(task.examples) / 5
    usual = spellings(row.output for row in task.examples) if labelled else {}
    rows = [replace(row, output=usual[row.output]) if row.output in usual else row for row in task.examples]
    pool = check_pool(rows, task.test, near=near, most_candidates=_CANDIDATES if quick else MOST_CANDIDATES)
    estimate = None
    if labelled and not quick:
        try:
            estimate = label_noise(rows, seed=seed)
        except InvalidInputError:  # too few rows per label for an estimate; the other findings are valid
            estimate = None
    unseen = tuple(sorted({row.output for row in task.test} - outputs)) if labelled else ()
    findings = tuple(_findings(task, pool, estimate, unseen, usual))
    return DataCheck(pool=pool, noise=estimate, unseen=unseen, spellings=usual, findings=findings)


def clean_data(
    task: Task,
    found: DataCheck,
    *,
    duplicates: bool = True,
    conflicts: bool = True,
    leaks: bool = True,
    noise: bool = False,
) -> Task:
    """Remove the rows that a check found.

    Args:
        task: The task that was checked.
        found: The findings of the check.
        duplicates: Whether pool rows that duplicate an earlier row, exactly or nearly, are removed.
        conflicts: Whether duplicates and near-duplicates with different outputs are removed. All of them are removed,
            because it is unknown which output is correct.
        leaks: Whether test rows that also appear in the pool, exactly or nearly, are removed.
        noise: Whether pool rows that are probably mislabelled are removed: the `LabelNoise.removable` most suspicious
            rows, of which `LabelNoise.precision` are expected to have a wrong label. Test rows are never removed
            because of their label, since this would inflate the scores of all strategies.

    Returns:
        The task without these rows.
    """
    gone = rows_to_remove(found, duplicates=duplicates, conflicts=conflicts, leaks=leaks, noise=noise)
    pool = set().union(*(gone[kind] for kind in _OF_POOL))
    test = set().union(*(gone[kind] for kind in _OF_TEST))
    return replace(
        task,
        examples=[row for index, row in enumerate(task.examples) if index not in pool],
        test=[row for index, row in enumerate(task.test) if index not in test],
    )


def rows_to_remove(
    found: DataCheck, *, duplicates: bool = True, conflicts: bool = True, leaks: bool = True, noise: bool = False
) -> dict[str, set[int]]:
    """Return the indices of the rows that `clean_data` removes, each row under one reason.

    The reasons are ``conflicting``, ``duplicate``, ``near-duplicate`` and ``probably mislabelled`` for the pool, and
    ``leaked`` and ``nearly leaked`` for test rows.
    """
    pool = found.pool
    contested = {row for pair in pool.conflicts for row in (pair.first, pair.second)}
    same = {pair.second for pair in pool.duplicates} - contested
    alike = {pair.second for pair in pool.near_duplicates} - contested - same
    removable = () if found.noise is None else found.noise.suspects[: found.noise.removable]
    suspects = {suspect.index for suspect in removable}
    gone = {
        "conflicting": contested if conflicts else set(),
        "duplicate": same if duplicates else set(),
        "near-duplicate": alike if duplicates else set(),
    }
    gone["probably mislabelled"] = suspects - set().union(*gone.values()) if noise else set()
    gone["leaked"] = {pair.second for pair in pool.leaks} if leaks else set()
    gone["nearly leaked"] = {pair.second for pair in pool.near_leaks} if leaks else set()
    return gone


def _findings(
    task: Task, pool: PoolCheck, noise: LabelNoise | None, unseen: Sequence[str], usual: Mapping[str, str]
) -> list[str]:
    counted = [
        ("duplicate rows in the pool", len(pool.duplicates), ""),
        ("pairs of near-duplicate rows in the pool", len(pool.near_duplicates), ""),
        ("pairs of duplicates or near-duplicates with different outputs", len(pool.conflicts), ""),
        ("test rows that also appear in the pool", len(pool.leaks), f" of {pool.test_rows}"),
        ("test rows with a near-duplicate in the pool", len(pool.near_leaks), f" of {pool.test_rows}"),
    ]
    findings = [f"{problem}: {count}{total}" for problem, count, total in counted if count]
    if not pool.near_searched:
        findings.append("near-duplicates were not searched, because too many rows consist of the same words")
    if usual:
        shown = ", ".join(f"{rare!r} for {label!r}" for rare, label in list(usual.items())[:5])
        findings.append(f"labels with inconsistent spellings: {shown}")
    if noise is not None and noise.suspects:
        findings.append(_noise_finding(noise))
    if unseen:
        findings.append(f"outputs that occur only in test rows: {', '.join(map(repr, unseen[:5]))}")
    if len(pool.labels) == 1:
        findings.append(f"all rows of the pool have the output {pool.labels[0][0]!r}, so there is nothing to learn")
    if len(task.test) < _FEW:
        findings.append(f"only {len(task.test)} test rows: small differences between strategies cannot be detected")
    return findings


def _noise_finding(noise: LabelNoise) -> str:
    found = f"labels worth a look: {len(noise.suspects)} of {noise.rows}"
    if not noise.share:
        return f"{found}; nothing shows that labels are wrong, so most of these rows are probably just difficult"
    finding = f"{found}; an estimated {noise.share:.1%} of the labels or more are wrong"
    if not noise.removable:
        return f"{finding}, but the classifier (accuracy {noise.accuracy:.1%}) cannot tell which"
    return f"{finding}, among them about {noise.precision:.0%} of the {noise.removable} most suspicious rows"
