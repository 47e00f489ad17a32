"""Several tasks in one training run, each in its own template, with shares that can be balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import overload

from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.finetuning.rows import Row
from ragkit.tasks import Task
from ragkit.templates import Template


@dataclass(frozen=True, slots=True)
class Mixture(Sequence[Row]):
    """Rows of several tasks, shuffled; what `finetune` takes as ``train`` like any other rows.

    Attributes:
        rows: The rows.
        tasks: The task of each row.
        templates: The template of each task; None for that of the call.
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
    """Draw training rows from several tasks.

    A task of n rows has a share proportional to n to the power of ``alpha`` (Conneau and Lample, "Cross-lingual
    Language Model Pretraining", NeurIPS 2019): 0 gives every task the same share, 1 leaves the shares of the data.
    A task that is drawn from more often than it has rows gives all of them before any of them again.

    Args:
        tasks: By name, tasks (their examples and template are taken) or bare rows.
        size: Number of rows in all; that of the data if None.
        alpha: Exponent of the shares, from 0 to 1.
        seed: Seed of draws and order.

    Returns:
        The mixture.

    Raises:
        InvalidInputError: If an argument makes no sense.
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
    """Whole numbers in proportion to weights that sum to ``total``; none is 0."""
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
