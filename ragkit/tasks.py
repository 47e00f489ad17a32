"""Tasks: an instruction, a pool of labelled examples, test rows, a metric, and the template that strategies share."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from ragkit._labels import spellings
from ragkit._task_files import (
    TASK_OBJECTS,
    TaskRow,
    csv_rows,
    dataset_rows,
    divided,
    file_rows,
    json_rows,
    mapping_rows,
    read_task_rows,
)
from ragkit._task_sources import frame_rows, hub_dataset, hub_parts
from ragkit._text import folded, refuse_bare_string
from ragkit.answers import AnswerReader, load_reader
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.metrics import AnyMetric, RowMetric, fingerprint_of, load_metric, overall_score, score_answers
from ragkit.records import Example, Fields
from ragkit.templates import Template

__all__ = ["Leak", "Task"]


@dataclass(frozen=True, slots=True)
class Leak:
    """A test row that also appears in the pool, ignoring case, punctuation and spaces.

    Attributes:
        test: Index of the row in `Task.test`.
        pool: Index of the first equal row in `Task.examples`.
    """

    test: int
    pool: int


@dataclass(frozen=True)
class Task:
    """A task that any strategy can solve.

    Attributes:
        instruction: Instruction for the model, at the beginning of every prompt.
        examples: The labelled pool for example selection and fine-tuning.
        test: The rows on which every strategy is evaluated.
        metric: A name such as ``"exact_match"``, ``"macro_f1"`` or ``"sql:<database file>"`` (see `ragkit.metrics`),
            a function of (answer, expected) that returns a score from 0 to 1, a `RowMetric` or a `SetMetric`.
        template: Format of examples and queries; the task sets its instruction and labels.
        labels: The possible outputs of a classification task, otherwise None. Prompts list them as long as they fit,
            and generation is constrained to them if the model supports it.
        reader: Answer reader that extracts the answer from a completion: a spec or a reader of `ragkit.answers`.
            ``"auto"`` is ``"label"`` if there are labels, otherwise ``"whole"``.
        name: Name of the task in reports.
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
        if isinstance(self.metric, str) and ":" in self.metric:  # opens a database or loads a judge only once
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
        labels = None if self.labels is None else frozenset(self.labels)
        valid: set[str] = set()
        for kind, rows in (("examples", self.examples), ("test", self.test)):
            for place, row in enumerate(rows):
                self._check(f"{kind}[{place}]", row, labels, valid)

    def _check(self, where: str, row: Example, labels: frozenset[str] | None, valid: set[str]) -> None:
        """Check a row; ``valid`` collects the outputs that were checked, because large pools repeat a few labels."""
        if not isinstance(row, Example):
            raise InvalidInputError(
                f"{where} must be an Example, got {type(row).__name__}; for mappings use `Task.from_rows`"
            )
        if not isinstance(row.output, str):
            raise InvalidInputError(f"the output of {where} must be text, got {type(row.output).__name__}")
        self.template.render_query(row.input)
        if row.output in valid:
            return
        if self.template.read_answer(self.template.render_answer(row.output)) != row.output.strip():
            raise InvalidInputError(
                f"the output of {where} holds {self.template.separator!r}, at which answers are cut; "
                "give the task a Template with another separator"
            )
        if labels is not None and row.output not in labels:
            raise InvalidInputError(f"the output of {where} is {row.output!r:.200}, which is not a label of the task")
        valid.add(row.output)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that determines an answer or its score."""
        template = self.template
        reader = self.reader if isinstance(self.reader, str) else repr(self.reader)
        facts = [*asdict(template).values(), self.labels, reader]
        rows = [[_plain(row.input), row.output] for row in (*self.examples, *self.test)]
        text = json.dumps([facts, fingerprint_of(self.metric), len(self.examples), rows], ensure_ascii=False)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]

    def score(self, answer: str, expected: str) -> float:
        """Score one answer with the metric of the task.

        Returns:
            A score from 0 to 1.

        Raises:
            InvalidInputError: If the metric needs whole rows.
        """
        metric = load_metric(self.metric)
        if isinstance(metric, RowMetric):
            raise InvalidInputError(f"the metric {metric.name!r} looks at whole rows; use `score_all`")
        return metric(answer, expected)

    def score_all(self, answers: Sequence[str]) -> list[float]:
        """Score one answer for each test row.

        Args:
            answers: The answers, in the order of `test`.

        Returns:
            Scores from 0 to 1.

        Raises:
            InvalidInputError: If the number of answers differs from the number of rows.
        """
        if len(answers) != len(self.test):
            raise InvalidInputError(f"expected an answer for each of {len(self.test)} test rows, got {len(answers)}")
        return score_answers(load_metric(self.metric), answers, self.test)

    def overall_score(self, answers: Sequence[str]) -> float:
        """Score the answers to all test rows together: the mean of `score_all`, or the value of a `SetMetric`.

        Args:
            answers: The answers, in the order of `test`.

        Returns:
            A score from 0 to 1, or from -1 to 1 for metrics such as ``"mcc"``.

        Raises:
            InvalidInputError: If the number of answers differs from the number of rows, or is 0.
        """
        if len(answers) != len(self.test) or not answers:
            raise InvalidInputError(f"expected an answer for each of {len(self.test)} test rows, got {len(answers)}")
        return overall_score(load_metric(self.metric), answers, self.test)

    def leaks(self) -> list[Leak]:
        """Return the leaked test rows, which also appear in the pool, in the order of the test rows."""
        first: dict[object, int] = {}
        for place, row in enumerate(self.examples):
            first.setdefault(_folded_input(row.input), place)
        found = ((place, first.get(_folded_input(row.input))) for place, row in enumerate(self.test))
        return [Leak(test, pool) for test, pool in found if pool is not None]

    def without_leaks(self) -> Task:
        """Return the task without leaked test rows; this task if no row leaks."""
        leaked = {leak.test for leak in self.leaks()}
        kept = [row for place, row in enumerate(self.test) if place not in leaked]
        return replace(self, test=kept) if leaked else self

    def draw(self, size: int | None, seed: int) -> list[Example]:
        """Sample a part of the pool, balanced over the labels if possible; smaller samples are subsets of larger ones.

        Args:
            size: Number of examples; None for the whole pool.
            seed: Seed of the sample.

        Returns:
            The examples in the order of the pool.

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
        normalise_labels: bool = False,
    ) -> Task:
        """Read a task from a file with one JSON object per line: ``{"input": …, "output": …, "split": "train"}``.

        Args:
            path: The file, UTF-8; a JSON list of such objects is also accepted. Other fields become metadata.
            input: The field of the input, or several fields, which become the fields of the input. Dots lead into
                nested fields and lists, as in ``"question.text"`` and ``"answers.0"``.
            output: The field of the output. Numbers and booleans become text: 1 and 1.0 become ``"1"``, and true
                becomes ``"true"``; a file with both numbers and booleans is an error.
            instruction: Instruction for the model.
            metric: As in `Task`; if None, ``"accuracy"`` for a classification task whose labels differ in more than
                case and punctuation, and ``"exact_match"`` otherwise.
            template: As in `Task`.
            labels: As in `Task`; ``"auto"`` infers a classification task from few distinct outputs.
            test_share: Share of the rows that become test rows if the file has no ``split``.
            seed: Seed of the random split.
            normalise_labels: Whether outputs that differ only in case or spaces become one label: the spelling in
                ``labels``, otherwise the most frequent one.

        Returns:
            The task, named after the file. Rows of a ``dev`` split are skipped.

        Raises:
            DataFileError: If the file or one of its lines cannot be read; no task is created then.
            InvalidInputError: If ``test_share`` is not at least 0 and below 1.
        """
        rows = read_task_rows(json_rows(Path(path), TASK_OBJECTS), Path(path), input, output)
        return cls._of(rows, Path(path).stem, instruction, metric, template, labels, test_share, seed, normalise_labels)

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
        normalise_labels: bool = False,
    ) -> Task:
        """Read a task from a CSV file with a header, UTF-8. The delimiter is detected.

        The columns are the fields of `from_jsonl`, which describes the arguments and errors.

        Returns:
            The task, named after the file.
        """
        rows = read_task_rows(csv_rows(Path(path)), Path(path), input, output)
        return cls._of(rows, Path(path).stem, instruction, metric, template, labels, test_share, seed, normalise_labels)

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
        normalise_labels: bool = False,
    ) -> Task:
        """Read a task from a dataset of the Hugging Face library ``datasets``; nothing is downloaded.

        ``dataset`` is a folder written by ``save_to_disk``, a ``Dataset`` or a ``DatasetDict``; `from_jsonl` describes
        the other arguments and the errors. Values of a ``ClassLabel`` are replaced by their names. Without a split
        ``test``, the rows of the split ``validation`` are the test rows.

        Returns:
            The task, named after the folder.
        """
        path = Path(dataset if isinstance(dataset, str | Path) else "dataset")
        rows = read_task_rows(dataset_rows(dataset, path, output), path, input, output)
        return cls._of(rows, path.name, instruction, metric, template, labels, test_share, seed, normalise_labels)

    @classmethod
    def from_hub(  # noqa: PLR0913 - those of `from_jsonl`, and those of the dataset
        cls,
        dataset: str,
        *,
        split: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        input: str | Sequence[str] = "input",  # noqa: A002 - the record's own word
        output: str = "output",
        instruction: str = "",
        metric: AnyMetric | None = None,
        template: Template | None = None,
        labels: Sequence[str] | Literal["auto"] | None = "auto",
        test_share: float = 0.2,
        seed: int = 0,
        normalise_labels: bool = False,
    ) -> Task:
        """Read a task from a dataset of the Hugging Face hub, with the library ``datasets``.

        Code of a dataset is never run. A dataset that was downloaded before is read from the cache.

        Args:
            dataset: Id of the dataset, such as ``"owner/name"``, or a local folder of data files in a format of the
                hub.
            split: A split, or a part of it such as ``"train[:1000]"``, whose rows are divided at random into pool and
                test rows. If None, the rows of ``train`` are the pool, and those of ``test``, or else ``validation``,
                are the test rows.
            config: Configuration of the dataset; the default one if None.
            revision: Branch, tag or commit of the dataset; the main branch if None.
            input: As in `from_jsonl`, like the remaining arguments.
            output: The field of the output; values of a ``ClassLabel`` are replaced by their names.
            instruction: Instruction for the model.
            metric: The metric, or None for the default.
            template: As in `Task`.
            labels: As in `Task`.
            test_share: Share of the rows that become test rows, if ``split`` is given or the dataset has one split.
            seed: Seed of the random split.
            normalise_labels: Whether outputs that differ only in case or spaces become one label.

        Returns:
            The task, named after the dataset.

        Raises:
            InvalidInputError: If the dataset or a split does not exist, or cannot be read.
            DataFileError: If a row has no such field, or is invalid.
        """
        path = Path(f"hub:{dataset}")
        loaded = hub_dataset(dataset, config=config, split=split, revision=revision)
        rows = read_task_rows(dataset_rows(loaded, path, output), path, input, output)
        name = Path(dataset).name
        return cls._of(rows, name, instruction, metric, template, labels, test_share, seed, normalise_labels)

    @classmethod
    def from_dataframe(  # noqa: PLR0913 - those of `from_jsonl`, and the name
        cls,
        frame: Any,
        *,
        name: str = "task",
        input: str | Sequence[str] = "input",  # noqa: A002 - the record's own word
        output: str = "output",
        instruction: str = "",
        metric: AnyMetric | None = None,
        template: Template | None = None,
        labels: Sequence[str] | Literal["auto"] | None = "auto",
        test_share: float = 0.2,
        seed: int = 0,
        normalise_labels: bool = False,
    ) -> Task:
        """Read a task from a data frame of pandas or Polars, whose columns are the fields of `from_jsonl`.

        ``name`` is the name of the task in reports; `from_jsonl` describes the other arguments and the errors, in which
        rows are counted from 1. The index of a pandas frame is ignored.

        Returns:
            The task.
        """
        rows = read_task_rows(frame_rows(frame), Path(name), input, output)
        return cls._of(rows, name, instruction, metric, template, labels, test_share, seed, normalise_labels)

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
        normalise_labels: bool = False,
    ) -> Task:
        """Create a task from rows, or from a function without arguments that returns them.

        The rows are mappings with ``input``, ``output`` and, in every row or none, ``split``. ``name`` is the name of
        the task in reports; `from_jsonl` describes the other arguments and the errors.

        Returns:
            The task.
        """
        read = read_task_rows(mapping_rows(rows() if callable(rows) else rows, Path(name)), Path(name))
        return cls._of(read, name, instruction, metric, template, labels, test_share, seed, normalise_labels)

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
        normalise_labels: bool = False,
    ) -> Task:
        """Read a task from a file or the folder of a dataset.

        The suffix of a file states its format: CSV (``.csv``), text with tabs (``.tsv``), the first sheet of an Excel
        workbook (``.xlsx``, needs ``openpyxl``) or Parquet (``.parquet``); other files are JSON Lines. A path
        ``hub:<id>`` or ``hub:<id>:<config>`` is a dataset of the Hugging Face hub; see `from_hub`. `from_jsonl`
        describes the other arguments and the errors.

        Returns:
            The task, named after the path.
        """
        if (hub := hub_parts(path)) is not None:
            return cls.from_hub(
                hub[0], config=hub[1], input=input, output=output, instruction=instruction, metric=metric, seed=seed,
                normalise_labels=normalise_labels,
            )  # fmt: skip
        path = Path(path)
        if path.is_dir():
            rows = read_task_rows(dataset_rows(path, path, output), path, input, output)
        else:
            rows = read_task_rows(file_rows(path, TASK_OBJECTS), path, input, output)
        name = path.name if path.is_dir() else path.stem
        return cls._of(rows, name, instruction, metric, None, "auto", 0.2, seed, normalise_labels)

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
        normalise_labels: bool,  # noqa: FBT001 - private
    ) -> Task:
        if normalise_labels:
            usual = spellings([row.output for row in rows], () if labels is None or labels == "auto" else labels)
            rows = [row.model_copy(update={"output": usual.get(row.output, row.output)}) for row in rows]
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
    """Return the distinct outputs of the pool in alphabetical order if they are labels, otherwise None."""
    labels = {row.output for row in pool}
    few = 2 <= len(labels) <= len(pool) / 5  # five or more rows for each output
    short = all(len(label) <= 100 and "\n" not in label for label in labels)
    return sorted(labels) if few and short and labels.issuperset(row.output for row in test) else None


def _alike(labels: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two labels that are equal if case and punctuation are ignored, or None."""
    seen: dict[str, str] = {}
    for label in labels:
        if seen.setdefault(folded(label), label) != label:
            return seen[folded(label)], label
    return None


def _folded_input(value: str | Fields) -> object:
    return folded(value) if isinstance(value, str) else frozenset((name, folded(text)) for name, text in value.items())


def _plain(value: str | Fields) -> object:
    return value if isinstance(value, str) else dict(value)
