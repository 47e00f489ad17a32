"""The comparison that the library exists for, on the embedded default and on banking77 where the data are at hand.

Results go to ``results/*.json``; ``python benchmarks/update_readme.py`` makes the README's tables from them.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from random import Random

from rich.console import Console

from ragkit import Task, compare
from ragkit.tiny.domains import HOME, task_of

HERE = Path(__file__).parent
DATA = Path(os.environ.get("RAGKIT_DATA", HERE.parents[1] / "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=["demo", "banking77"])
    parser.add_argument("--work", type=Path, default=Path("runs/icl_vs_finetuned"))
    given = parser.parse_args()
    for name in given.tasks:
        if name == "demo":
            task = task_of(HOME, Random(0), pool=200, test=60, name="device commands")
            result = compare(task, model="tiny", out=given.work / name)
        else:
            path = DATA / "classification" / f"{name}.jsonl"
            if not path.is_file():
                warnings.warn(f"{path} is not there: {name} is left out", stacklevel=1)
                continue
            task = Task.from_jsonl(path)
            each = len(task.labels or ())
            result = compare(task, sizes=[each, 10 * each, None], out=given.work / name)
        Console(width=140).print(result.table(), result.recommendation)
        results = HERE / "results" / f"{name}.json"
        results.parent.mkdir(exist_ok=True)
        results.write_text(result.results.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
