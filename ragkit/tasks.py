"""A task: what is asked, what may be learned from, what it is judged on, and the template that all ways share."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import DataFileError, EmptyPoolError, InvalidInputError
from ragkit.metrics import Metric, load_metric
from ragkit.records import Example, Fields
from ragkit.templates import Template
from ragkit.text import folded, read_json


@dataclass(frozen=True, slots=True)
class Leak:
    """A test row that stands in the training pool, but for case, punctuation and spaces.

    Attributes:
        test: Position of the row in `Task.test`.
        pool: Position of the first equal row in `Task.examples`.
    """

    test: int
    pool: int


@dataclass(frozen=True)
class Task:
    """One task, ready for every way of solving it.

    Attributes:
        instruction: What a model is told; stands at the head of every prompt.
        examples: The labelled pool that selectors choose from and fine-tuning learns from.
        test: The rows that every way is judged on.
        metric: ``"exact_match"``, ``"accuracy"`` or a function of (answer, expected) to 0 … 1.
        template: How examples become text; takes the instruction over.
        labels: The possible outputs of a classification task, else None.
        name: Shown in reports.
    """

    instruction: str
    examples: Sequence[Example]
    test: Sequence[Example]
    metric: str | Metric = "exact_match"
    template: Template = Template()  # noqa: RUF009 - frozen
    labels: tuple[str, ...] | None = None
    name: str = "task"

    def __post_init__(self) -> None:
        load_metric(self.metric)
        object.__setattr__(self, "examples", tuple(self.examples))
        object.__setattr__(self, "test", tuple(self.test))
        object.__setattr__(self, "template", replace(self.template, instruction=self.instruction))
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(self.labels))
        if not self.examples:
            raise EmptyPoolError("the task")
        alike = _alike(self.labels or ())
        if self.metric == "accuracy" and alike:
            raise InvalidInputError(
                f"the labels {alike[0]!r} and {alike[1]!r} differ only in case or punctuation, which the metric "
                "'accuracy' does not see; use metric='exact_match'"
            )
        for kind, rows in (("examples", self.examples), ("test", self.test)):
            for place, row in enumerate(rows):
                self._check(f"{kind}[{place}]", row)

    def _check(self, where: str, row: Example) -> None:
        self.template.render_query(row.input)
        if self.template.read_answer(self.template.render_answer(row.output)) != row.output.strip():
            raise InvalidInputError(
                f"the output of {where} holds {self.template.separator!r}, at which answers are cut; "
                "give the task a Template with another separator"
            )
        if self.labels is not None and row.output not in self.labels:
            raise InvalidInputError(f"the output of {where} is {row.output!r}, which is not among the task's labels")

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides an answer or its score."""
        template = self.template
        facts = [template.query, template.answer, template.separator, template.instruction, self.labels]
        metric = self.metric if isinstance(self.metric, str) else getattr(self.metric, "__qualname__", "function")
        rows = [[_plain(row.input), row.output] for row in (*self.examples, *self.test)]
        text = json.dumps([facts, metric, len(self.examples), rows], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def score(self, answer: str, expected: str) -> float:
        """Judge one answer with the task's metric.

        Returns:
            A score from 0 to 1.
        """
        return load_metric(self.metric)(answer, expected)

    def leaks(self) -> list[Leak]:
        """Find the test rows that stand in the pool.

        Returns:
            One entry for each such row, in the order of the test rows.
        """
        first: dict[object, int] = {}
        for place, row in enumerate(self.examples):
            first.setdefault(_folded_input(row.input), place)
        found = ((place, first.get(_folded_input(row.input))) for place, row in enumerate(self.test))
        return [Leak(test, pool) for test, pool in found if pool is not None]

    def without_leaks(self) -> Task:
        """The same task without the test rows that stand in the pool.

        Returns:
            A task; this one where nothing leaks.
        """
        leaked = {leak.test for leak in self.leaks()}
        kept = [row for place, row in enumerate(self.test) if place not in leaked]
        return replace(self, test=kept) if leaked else self

    def draw(self, size: int | None, seed: int) -> list[Example]:
        """Draw a part of the pool, as even over the labels as it allows; smaller draws lie inside larger ones.

        Args:
            size: Number of examples; None for the whole pool.
            seed: Seed of the draw.

        Returns:
            Examples in the order of the pool.

        Raises:
            InvalidInputError: If the pool has fewer than ``size`` examples, or ``size`` is below 1.
        """
        if size is None:
            return list(self.examples)
        if not 1 <= size <= len(self.examples):
            raise InvalidInputError(
                f"`size` must be between 1 and {len(self.examples)}, the size of the pool; got {size}"
            )
        rng = Random(seed)
        by_label: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(self.examples):
            by_label[row.output if self.labels is not None else ""].append(place)
        queues = [rng.sample(places, len(places)) for _, places in sorted(by_label.items())]
        rng.shuffle(queues)
        turns = sorted((turn, label) for label, queue in enumerate(queues) for turn in range(len(queue)))
        chosen = sorted(queues[label][turn] for turn, label in turns[:size])
        return [self.examples[place] for place in chosen]

    @classmethod
    def from_jsonl(
        cls,
        path: str | Path,
        *,
        instruction: str = "",
        metric: str | Metric | None = None,
        template: Template | None = None,
        labels: Sequence[str] | Literal["auto"] | None = "auto",
        test_share: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """Read a task from a file of one JSON object a line: ``{"input": …, "output": …, "split": "train"}``.

        Args:
            path: The file, UTF-8. Fields other than these three become metadata.
            instruction: What a model is told.
            metric: As in `Task`; if None, ``"accuracy"`` for a classification task whose labels differ in more than
                case and punctuation, and ``"exact_match"`` otherwise.
            template: As in `Task`.
            labels: ``"auto"`` finds out: few distinct outputs make a classification task.
            test_share: Share of the rows held out where the file has no ``split``.
            seed: Seed of that split.

        Returns:
            The task, named after the file. Rows of a ``dev`` split are left out.

        Raises:
            DataFileError: If the file or one of its lines cannot be read; nothing is kept of it then.
            InvalidInputError: If ``test_share`` is not a share.
        """
        if not 0 <= test_share < 1:
            raise InvalidInputError(f"`test_share` must be at least 0 and below 1, got {test_share}")
        path = Path(path)
        rows = _read_rows(path)
        if any(row.split for row in rows):
            pool = [row.example() for row in rows if row.split == "train"]
            test = [row.example() for row in rows if row.split == "test"]
        else:
            held_out = set(Random(seed).sample(range(len(rows)), round(test_share * len(rows))))
            pool = [row.example() for place, row in enumerate(rows) if place not in held_out]
            test = [rows[place].example() for place in sorted(held_out)]
        if not pool:
            raise DataFileError(path, 0, 'no training row; expected lines with "split": "train", or no split at all')
        known = _infer_labels(pool, test) if labels == "auto" else labels
        return cls(
            instruction=instruction,
            examples=pool,
            test=test,
            metric=metric or ("accuracy" if known and not _alike(known) else "exact_match"),
            template=template or Template(),
            labels=tuple(known) if known else None,
            name=path.stem,
        )


class _Row(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    input: str | dict[str, str]
    output: str
    id: str | None = None
    split: Literal["train", "dev", "validation", "test"] | None = None

    def example(self) -> Example:
        return Example(self.input, self.output, id=self.id, metadata=self.model_extra or None)


def read_objects(path: Path) -> list[dict[str, object]]:
    """Read a file of one JSON object a line, whatever its fields.

    Args:
        path: The file, UTF-8; empty lines are passed over.

    Returns:
        The objects, in order.

    Raises:
        DataFileError: If the file or one of its lines cannot be read.
    """
    rows: list[dict[str, object]] = []
    for number, line in _lines(path):
        try:
            row = read_json(line)
        except InvalidInputError as error:
            raise DataFileError(path, number, f"{error}; expected one JSON object a line") from error
        if not isinstance(row, dict):
            raise DataFileError(path, number, f"holds a {type(row).__name__}; expected one JSON object a line")
        rows.append(row)
    return rows


def _read_rows(path: Path) -> list[_Row]:
    rows: list[_Row] = []
    for number, line in _lines(path):
        try:
            rows.append(_Row.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            problem = f'{where}: {first["msg"]}; expected {{"input": text, "output": text, "split": "train" or "test"}}'
            raise DataFileError(path, number, problem) from error
        if (rows[-1].split is None) != (rows[0].split is None):
            problem = 'only some of the rows say their split; expected a "split" in every row, or in none'
            raise DataFileError(path, number, problem)
    return rows


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise DataFileError(
            path, 0, f"is not UTF-8 (byte {error.start}); expected a UTF-8 file of JSON lines"
        ) from error
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        raise DataFileError(path, 0, "holds no row; expected one JSON object a line")
    return kept


def _infer_labels(pool: Sequence[Example], test: Sequence[Example]) -> list[str] | None:
    """The distinct outputs, where five or more rows share one on average and none of the test rows brings a new one.

    Returns:
        The labels in order, or None for a task that is not classification.
    """
    labels = {row.output for row in pool}
    few = 2 <= len(labels) <= len(pool) / 5
    short = all(len(label) <= 100 and "\n" not in label for label in labels)
    return sorted(labels) if few and short and labels.issuperset(row.output for row in test) else None


def _alike(labels: Sequence[str]) -> tuple[str, str] | None:
    """Two labels that are one when case and punctuation do not count.

    Returns:
        The first such pair, or None.
    """
    seen: dict[str, str] = {}
    for label in labels:
        if seen.setdefault(folded(label), label) != label:
            return seen[folded(label)], label
    return None


def _folded_input(value: str | Fields) -> object:
    return folded(value) if isinstance(value, str) else frozenset((name, folded(text)) for name, text in value.items())


def _plain(value: str | Fields) -> object:
    return value if isinstance(value, str) else dict(value)
