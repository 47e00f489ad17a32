"""Mixtures of several tasks for one training run, each with its own template and a configurable share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import overload

from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.finetuning._rows import Row
from ragkit.tasks import Task
from ragkit.templates import Template


@dataclass(frozen=True, slots=True)
class Mixture(Sequence[Row]):
    """Shuffled rows of several tasks, which `finetune` accepts as ``train``.

    Attributes:
        rows: The rows.
        tasks: The task of each row.
        templates: The template of each task; None for the ``template`` of `finetune`.
    """

    rows: tuple[Row, ...]
    tasks: tuple[str, ...]
    templates: Mapping[str, Template | None]

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, row: int | slice) -> Row | tuple[Row, ...]:
        return self.rows[row]

    def __len__(self) -> int:
        return len(self.rows)


def mix(
    tasks: Mapping[str, Task | Sequence[Row]], *, size: int | None = None, alpha: float = 0.0, seed: int = 0
) -> Mixture:
    """Sample training rows from several tasks.

    The share of a task with n rows is proportional to n to the power of ``alpha`` (Conneau and Lample, "Cross-lingual
    Language Model Pretraining", NeurIPS 2019): with 0, all tasks have the same share; with 1, shares are those of the
    data. Rows of a task are repeated only after all of them have been used.

    Args:
        tasks: Tasks by name, each as a `Task`, whose examples and template are used, or as rows.
        size: Total number of rows; that of the data if None.
        alpha: Exponent of the shares, from 0 to 1.
        seed: Seed for sampling and order.

    Returns:
        The mixture.

    Raises:
        InvalidInputError: If an argument is invalid.
        EmptyPoolError: If a task has no rows.

    Examples:
        >>> from ragkit import Example
        >>> from ragkit.finetuning import mix
        >>> few, many = [Example("a", "1")], [Example(f"b {n}", "2") for n in range(5)]
        >>> sorted(mix({"few": few, "many": many}).tasks)
        ['few', 'few', 'few', 'many', 'many', 'many']
    """
    if not tasks:
        raise InvalidInputError("`tasks` must name at least one task")
    if not 0 <= alpha <= 1:
        raise InvalidInputError(f"`alpha` must be between 0 and 1, got {alpha}")
    pools = {name: list(task.examples if isinstance(task, Task) else task) for name, task in tasks.items()}
    for name, pool in pools.items():
        if not pool:
            raise EmptyPoolError(f"task {name!r} of the mixture")
    total = sum(map(len, pools.values())) if size is None else size
    if total < len(pools):
        raise InvalidInputError(f"`size` must be at least {len(pools)}, a row a task; got {total}")
    rng = Random(seed)
    counts = _shares([len(pool) ** alpha for pool in pools.values()], total)
    drawn = [
        (row, name)
        for (name, pool), count in zip(pools.items(), counts, strict=True)
        for row in _draw(pool, count, rng)
    ]
    rng.shuffle(drawn)
    templates = {name: task.template if isinstance(task, Task) else None for name, task in tasks.items()}
    return Mixture(tuple(row for row, _ in drawn), tuple(name for _, name in drawn), templates)


def _shares(weights: Sequence[float], total: int) -> list[int]:
    """Return positive integers that are proportional to the weights and sum to ``total``."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [max(1, int(share)) for share in exact]
    while sum(counts) != total:
        short = [share - count for share, count in zip(exact, counts, strict=True)]
        if sum(counts) < total:
            counts[short.index(max(short))] += 1
        else:
            most = min((gap, place) for place, gap in enumerate(short) if counts[place] > 1)
            counts[most[1]] -= 1
    return counts


def _draw(pool: Sequence[Row], count: int, rng: Random) -> list[Row]:
    drawn: list[Row] = []
    while len(drawn) < count:
        drawn += rng.sample(pool, min(len(pool), count - len(drawn)))
    return drawn
