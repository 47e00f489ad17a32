"""A task: what is asked, what may be learned from, what it is judged on, and the template that all ways share."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from ragkit.answers import AnswerReader, load_reader
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.metrics import AnyMetric, RowMetric, fingerprint_of, load_metric, score_answers
from ragkit.records import Example, Fields
from ragkit.task_files import TaskRow, divided, is_table, read_csv, read_dataset, read_jsonl, read_mappings
from ragkit.templates import Template
from ragkit.text import folded, refuse_bare_string

__all__ = ["Leak", "Task"]


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
        metric: A name such as ``"exact_match"``, ``"f1"`` or ``"sql:<database file>"`` (see `ragkit.metrics`), a
            function of (answer, expected) to 0 … 1, or a `RowMetric`.
        template: How examples and queries are written; takes over the instruction and the labels.
        labels: The possible outputs of a classification task, else None. Prompts list them as long as they fit, and
            generation is constrained to them if the model supports it.
        reader: How the answer is extracted from a completion: a spec or a reader of `ragkit.answers`. ``"auto"`` is
            ``"label"`` if there are labels, else ``"whole"``.
        name: Shown in reports.
    """

    instruction: str
    examples: Sequence[Example]
    test: Sequence[Example]
    metric: AnyMetric = "exact_match"
    template: Template = Template()  # noqa: RUF009 - frozen
    labels: tuple[str, ...] | None = None
    name: str = "task"
    reader: str | AnswerReader = "auto"

    def __post_init__(self) -> None:
        metric = load_metric(self.metric)
        if isinstance(self.metric, str) and ":" in self.metric:  # a database is opened and a judge loaded once
            object.__setattr__(self, "metric", metric)
        object.__setattr__(self, "examples", tuple(self.examples))
        object.__setattr__(self, "test", tuple(self.test))
        if self.labels is not None:
            refuse_bare_string("labels", self.labels)
            object.__setattr__(self, "labels", tuple(self.labels))
        if isinstance(self.reader, str) and self.reader != "auto":
            load_reader(self.reader, labels=self.labels)
        written = replace(self.template, instruction=self.instruction, labels=self.labels or ())
        object.__setattr__(self, "template", written)
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
        if not isinstance(row, Example):
            raise InvalidInputError(
                f"{where} must be an Example, got {type(row).__name__}; for mappings use `Task.from_rows`"
            )
        if not isinstance(row.output, str):
            raise InvalidInputError(f"the output of {where} must be text, got {type(row.output).__name__}")
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
        reader = self.reader if isinstance(self.reader, str) else repr(self.reader)
        facts = [*asdict(template).values(), self.labels, reader]
        rows = [[_plain(row.input), row.output] for row in (*self.examples, *self.test)]
        text = json.dumps([facts, fingerprint_of(self.metric), len(self.examples), rows], ensure_ascii=False)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]

    def score(self, answer: str, expected: str) -> float:
        """Judge one answer with the task's metric.

        Returns:
            A score from 0 to 1.

        Raises:
            InvalidInputError: If the metric looks at whole rows.
        """
        metric = load_metric(self.metric)
        if isinstance(metric, RowMetric):
            raise InvalidInputError(f"the metric {metric.name!r} looks at whole rows; use `score_all`")
        return metric(answer, expected)

    def score_all(self, answers: Sequence[str]) -> list[float]:
        """Judge one answer for each test row.

        Args:
            answers: The answers, in the order of `test`.

        Returns:
            Scores from 0 to 1.

        Raises:
            InvalidInputError: If there are more answers than rows, or fewer.
        """
        if len(answers) != len(self.test):
            raise InvalidInputError(f"expected an answer for each of {len(self.test)} test rows, got {len(answers)}")
        return score_answers(load_metric(self.metric), answers, self.test)

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
        input: str | Sequence[str] = "input",  # noqa: A002 - the record's own word
        output: str = "output",
        instruction: str = "",
        metric: AnyMetric | None = None,
        template: Template | None = None,
        labels: Sequence[str] | Literal["auto"] | None = "auto",
        test_share: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """Read a task from a file of one JSON object a line: ``{"input": …, "output": …, "split": "train"}``.

        Args:
            path: The file, UTF-8; a JSON list of such objects is read too. Other fields become metadata.
            input: The field of the input, or several, which become its fields.
            output: The field of the output.
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
        rows = read_jsonl(Path(path), input, output)
        return cls._of(rows, Path(path).stem, instruction, metric, template, labels, test_share, seed)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        input: str | Sequence[str] = "input",  # noqa: A002 - the record's own word
        output: str = "output",
        instruction: str = "",
        metric: AnyMetric | None = None,
        template: Template | None = None,
        labels: Sequence[str] | Literal["auto"] | None = "auto",
        test_share: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """Read a task from a CSV file with a heading.

        Args:
            path: The file, UTF-8. A column ``split`` says what a row is for; other columns become metadata. The
                delimiter is found.
            input: The column of the input, or several, which become its fields.
            output: The column of the output.
            instruction: As in `from_jsonl`, like the rest.
            metric: See there.
            template: See there.
            labels: See there.
            test_share: See there.
            seed: See there.

        Returns:
            The task, named after the file.

        Raises:
            DataFileError: If the file or one of its rows cannot be read.
        """
        rows = read_csv(Path(path), input, output)
        return cls._of(rows, Path(path).stem, instruction, metric, template, labels, test_share, seed)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        input: str | Sequence[str] = "input",  # noqa: A002 - the record's own word
        output: str = "output",
        instruction: str = "",
        metric: AnyMetric | None = None,
        template: Template | None = None,
        labels: Sequence[str] | Literal["auto"] | None = "auto",
        test_share: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """Read a task from a dataset of Hugging Face's library on disk; nothing is fetched.

        Args:
            dataset: A folder that ``save_to_disk`` wrote, or a ``Dataset`` or ``DatasetDict``.
            input: The column of the input, or several, which become its fields.
            output: The column of the output; a ``ClassLabel`` gives its names.
            instruction: As in `from_jsonl`, like the rest.
            metric: See there.
            template: See there.
            labels: See there.
            test_share: See there.
            seed: See there.

        Returns:
            The task. Without a split ``test``, that of ``validation`` is the test.

        Raises:
            DataFileError: If the folder or one of its rows cannot be read.
        """
        rows, name = read_dataset(dataset, input, output)
        return cls._of(rows, name, instruction, metric, template, labels, test_share, seed)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, object]] | Callable[[], Iterable[Mapping[str, object]]],
        *,
        name: str = "task",
        instruction: str = "",
        metric: AnyMetric | None = None,
        template: Template | None = None,
        labels: Sequence[str] | Literal["auto"] | None = "auto",
        test_share: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """Make a task of rows, or of a function that gives them.

        Args:
            rows: Mappings with ``input``, ``output`` and, in every row or none, ``split``; or a function of no
                arguments that gives them.
            name: Shown in reports.
            instruction: As in `from_jsonl`, like the rest.
            metric: See there.
            template: See there.
            labels: See there.
            test_share: See there.
            seed: See there.

        Returns:
            The task.

        Raises:
            DataFileError: If one of the rows cannot be read; it is counted from 1.
        """
        read = read_mappings(rows() if callable(rows) else rows, Path(name))
        return cls._of(read, name, instruction, metric, template, labels, test_share, seed)

    @classmethod
    def from_path(
        cls,
        path: str | Path,
        *,
        input: str | Sequence[str] = "input",  # noqa: A002 - the record's own word
        output: str = "output",
        instruction: str = "",
        metric: AnyMetric | None = None,
        seed: int = 0,
    ) -> Task:
        """Read a task by what its path is: a ``.csv`` or ``.tsv`` file, a dataset's folder, or JSON lines.

        Args:
            path: The file or folder.
            input: As in `from_jsonl`, like the rest.
            output: See there.
            instruction: See there.
            metric: See there.
            seed: See there.

        Returns:
            The task, named after the path.
        """
        path = Path(path)
        read = cls.from_dataset if path.is_dir() else cls.from_csv if is_table(path) else cls.from_jsonl
        return read(path, input=input, output=output, instruction=instruction, metric=metric, seed=seed)

    @classmethod
    def _of(
        cls,
        rows: Sequence[TaskRow],
        name: str,
        instruction: str,
        metric: AnyMetric | None,
        template: Template | None,
        labels: Sequence[str] | Literal["auto"] | None,
        test_share: float,
        seed: int,
    ) -> Task:
        pool, test = divided(rows, name, test_share, seed)
        known = _infer_labels(pool, test) if labels == "auto" else labels
        refuse_bare_string("labels", known or [])
        return cls(
            instruction=instruction,
            examples=pool,
            test=test,
            metric=metric or ("accuracy" if known and not _alike(known) else "exact_match"),
            template=template or Template(),
            labels=tuple(known) if known else None,
            name=name,
        )


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
