"""The comparison that the library exists for, on the embedded default and on public data where they are at hand.

    python benchmarks/icl_vs_finetuned/run.py                     demo and banking77
    python benchmarks/icl_vs_finetuned/run.py --quick geoquery scan trec6

Results go to ``results/*.json``; ``python benchmarks/update_readme.py`` makes the README's tables from them.
``--quick`` takes fewer test rows and smaller pools, and writes ``results/<task>-quick.json``. The generative arms run
on the tiny model that ships with ragkit: that shows that the parts work together, and nothing about large models.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console

from ragkit import Example, Task, compare
from ragkit.metrics.sql import SqlMatch
from ragkit.tiny.domains import HOME, task_of

HERE = Path(__file__).parent
DATA = Path(os.environ.get("RAGKIT_DATA", HERE.parents[1] / "../shared/data"))
COPIES = ("copy:random", "copy:jaccard", "copy:bm25", "copy:embedding")
ASKS = ("zero-shot", "few-shot:random@2", "few-shot:bm25@2", "lora")


@dataclass(frozen=True)
class Settings:
    """What is compared on one task."""

    task: Task
    strategies: tuple[str, ...] | None = None
    sizes: tuple[int | None, ...] = (None,)
    model: str | None = None


def settings_of(name: str, *, quick: bool) -> Settings | None:
    """The settings of a task; None where its data are not at hand."""
    if name == "demo":
        return Settings(task_of(HOME, Random(0), pool=200, test=60, name="device commands"), model="tiny")
    kind, file = {
        "geoquery": ("generation", "geoquery_sql"),
        "scan": ("generation", "scan_simple"),
    }.get(name, ("classification", name))
    path = DATA / kind / f"{file}.jsonl"
    if not path.is_file():
        warnings.warn(f"{path} is not there: {name} is left out", stacklevel=1)
        return None
    if name == "geoquery":
        return geoquery(path, quick=quick)
    if name == "scan":
        task = Task.from_jsonl(path, instruction="Turn the command into actions.", labels=None, metric="exact_match")
        pool = Random(0).sample(task.examples, 200 if quick else 2000)
        return Settings(
            some_test(replace(task, examples=pool), 20 if quick else 500),
            (*COPIES, *(ASKS[2:3] if quick else ASKS)),
            model="tiny",
        )
    task = Task.from_jsonl(path)
    each = len(task.labels or ())
    return Settings(some_test(task, 200 if quick else None), sizes=(each, 10 * each, *([] if quick else [None])))


def geoquery(path: Path, *, quick: bool) -> Settings:
    """Questions to SQL, judged by what they give; the few published queries that SQLite cannot run are left out."""
    metric = SqlMatch(path.parent / "db" / "geography.sqlite")

    def runs(row: Example) -> bool:
        try:
            metric.rows(row.output)
        except sqlite3.Error:
            return False
        return True

    task = Task.from_jsonl(path, instruction="Write the query.", labels=None, metric=metric)
    task = replace(task, examples=[*filter(runs, task.examples)], test=[*filter(runs, task.test)], name="geoquery")
    return Settings(some_test(task, 40 if quick else None), (*COPIES, "zero-shot", "few-shot:bm25@2"), model="tiny")


def some_test(task: Task, rows: int | None) -> Task:
    """The same task with fewer test rows, drawn by a fixed seed."""
    if rows is None or rows >= len(task.test):
        return task
    return replace(task, test=Random(0).sample(task.test, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["demo", "banking77"])
    parser.add_argument("--work", type=Path, default=Path("runs/icl_vs_finetuned"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    for name in given.tasks:
        settings = settings_of(name, quick=given.quick)
        if settings is None:
            continue
        label = f"{name}-quick" if given.quick else name
        result = compare(
            settings.task, settings.strategies, sizes=settings.sizes, model=settings.model, out=given.work / label
        )
        Console(width=140).print(result.table(), result.recommendation)
        for row in result.results.rows:
            if row.error:
                print(f"{row.strategy} failed: {row.error}")
        results = HERE / "results" / f"{label}.json"
        results.parent.mkdir(exist_ok=True)
        results.write_text(result.results.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
