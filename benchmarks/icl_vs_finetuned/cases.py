"""What is compared on which data. ``settings_of`` reads a case; a case whose data are missing has a reason instead."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from ragkit import Example, Task
from ragkit._task_files import read_objects
from ragkit.metrics._sql import SqlMatch
from ragkit.templates import Template
from ragkit.tiny.domains import HOME, task_of

# Cheap ways, which are run with several seeds. Where there are no labels, copying an output is all that needs no model.
LABELS = ("majority", "tfidf", "copy:bm25", "vote:jaccard", "vote:bm25", "vote:embedding", "classifier-head")
COPIES = ("copy:random", "copy:jaccard", "copy:tfidf", "copy:bm25", "copy:embedding")
SEEDS = (0, 1, 2)
# Outputs of instructions hold empty lines, at which the usual template would cut them.
WITH_LINES = Template(separator="\n###\n")


class MissingDataError(Exception):
    """The data of a case are not at hand."""


@dataclass(frozen=True)
class Settings:
    """What is compared in one case.

    Attributes:
        judged: What a score is a share or a mean of.
        strategies: Names; those that suit the task if None.
        model: Spec of the language model.
    """

    task: Task
    judged: str
    strategies: tuple[str, ...] | None = None
    sizes: tuple[int | None, ...] = (None,)
    seeds: tuple[int, ...] = (0,)
    model: str | None = None


def demo(_: Path) -> Settings:
    """What `ragkit demo` does."""
    return Settings(task_of(HOME, Random(0), pool=200, test=60, name="device commands"), "exact match", model="tiny")


def banking77(data: Path) -> Settings:
    """77 intents of customers of a bank, the whole test split and a fine-tuned encoder: the long case."""
    return Settings(Task.from_jsonl(there(data / "classification/banking77.jsonl")), "accuracy", sizes=(77, 770, None))


def clinc150(data: Path) -> Settings:
    """150 intents and one for all else."""
    task = Task.from_jsonl(there(data / "classification/clinc150.jsonl"))
    return Settings(some_test(task, 500), "accuracy", LABELS, sizes=(151, 1510), seeds=SEEDS)


def trec6(data: Path) -> Settings:
    """Six kinds of questions."""
    task = Task.from_jsonl(there(data / "classification/trec6.jsonl"))
    return Settings(task, "accuracy", LABELS, sizes=(60, 600), seeds=SEEDS)


def geoquery(data: Path) -> Settings:
    """Questions to SQL, judged by the rows they give from the database, which is only read.

    The four published queries that SQLite cannot run are left out.
    """
    metric = SqlMatch(there(data / "generation/db/geography.sqlite"))

    def runs(row: Example) -> bool:
        try:
            metric.rows(row.output)
        except sqlite3.Error:
            return False
        return True

    path = there(data / "generation/geoquery_sql.jsonl")
    task = Task.from_jsonl(path, instruction="Write the query.", labels=None, metric="f1")
    task = replace(task, examples=[*filter(runs, task.examples)], test=[*filter(runs, task.test)], name="geoquery")
    return Settings(task, "execution accuracy", COPIES, sizes=(100, 400), seeds=SEEDS)


def scan(data: Path) -> Settings:
    """Commands to actions, judged by actions in common: a copied output is next to never right as a whole."""
    return Settings(some_test(_scan(data, "scan_simple"), 300), "token F1", COPIES, sizes=(200, 1000), seeds=SEEDS)


def scan_jump(data: Path) -> Settings:
    """The same with a verb that the pool shows alone only."""
    return Settings(some_test(_scan(data, "scan_jump"), 300), "token F1", COPIES, sizes=(200, 1000), seeds=SEEDS)


def _scan(data: Path, name: str) -> Task:
    path = there(data / f"generation/{name}.jsonl")
    return Task.from_jsonl(path, instruction="Turn the command into actions.", labels=None, metric="f1")


def instructions(data: Path) -> Settings:
    """Short instructions of all kinds, judged by words in common."""
    rows = read_objects(there(data / "instruction/rasbt_instruction_1100.jsonl"))
    task = Task.from_rows(
        [
            {"input": {"instruction": row["instruction"], "input": row["input"]}, "output": row["output"],
             "split": row["split"]}
            for row in rows
        ],
        name="instructions", labels=None, metric="f1", template=WITH_LINES,
    )  # fmt: skip
    return Settings(task, "token F1", COPIES, sizes=(200, 800), seeds=SEEDS)


def natural_instructions(data: Path) -> Settings:
    """45 tasks, each with its definition, mixed. Three instances of each are asked; the first answer is right."""
    rows = read_objects(there(data / "instruction/natural_instructions.jsonl"))
    made = []
    for number, row in enumerate(rows):
        instances = row["instances"]
        assert isinstance(instances, list)
        asked = set(Random(number).sample(range(len(instances)), 3))
        for place, instance in enumerate(instances):
            made.append({
                "input": {"definition": row["definition"], "input": instance["input"]},
                "output": instance["output"][0],
                "split": "test" if place in asked else "train",
            })  # fmt: skip
    task = Task.from_rows(made, name="natural-instructions", labels=None, metric="rougeL", template=WITH_LINES)
    return Settings(task, "ROUGE-L", COPIES, sizes=(225, 900), seeds=SEEDS)


CASES: dict[str, Callable[[Path], Settings]] = {
    "demo": demo,
    "banking77": banking77,
    "clinc150": clinc150,
    "trec6": trec6,
    "geoquery": geoquery,
    "scan": scan,
    "scan-jump": scan_jump,
    "instructions": instructions,
    "natural-instructions": natural_instructions,
}


def settings_of(name: str, data: Path, *, quick: bool = False) -> Settings:
    """The settings of a case.

    Args:
        name: One of `CASES`.
        data: The folder of data.
        quick: Whether to take few test rows, the smaller pools and one seed.

    Returns:
        The settings.

    Raises:
        MissingDataError: If its data are not at hand.
    """
    found = CASES[name](data)
    if not quick:
        return found
    sizes = found.sizes[:-1] or found.sizes
    return replace(found, task=some_test(found.task, 40), sizes=sizes, seeds=found.seeds[:1])


def there(path: Path) -> Path:
    """A file of the data.

    Raises:
        MissingDataError: If it is not there.
    """
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; give --data or RAGKIT_DATA, the folder that holds the data")
    return path


def some_test(task: Task, rows: int) -> Task:
    """The same task with fewer test rows, drawn by a fixed seed."""
    return task if rows >= len(task.test) else replace(task, test=Random(0).sample(task.test, rows))
