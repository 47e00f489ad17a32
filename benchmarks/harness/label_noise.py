"""How precise is the check of labels? Flip a known share of the labels of real data, and count what it would remove.

``RAGKIT_DATA=<data> python benchmarks/harness/label_noise.py`` writes ``results/label_noise.json``. With ``--rows`` it
measures only samples of this size (``all`` for whole data sets) and keeps the other results. For each data set and
share of flipped labels (to another label, drawn at random), it prints the share of flipped labels among the rows that
``ragkit data check --clean --noise`` would remove, next to the precision that the check promises. The labels of the
data set are taken to be right, so its own mistakes count against the check. Whole data sets with many labels are
checked with naive Bayes, the others with logistic regression.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

from ragkit import Example, Task
from ragkit_pipelines.data_quality.label_noise import label_noise

DATA = Path(os.environ.get("RAGKIT_DATA", "../shared/data")) / "classification"
RESULTS = Path(__file__).parent / "results" / "label_noise.json"
SETS, SHARES, ROWS = ("banking77", "clinc150", "trec6"), (0.0, 0.05, 0.1), (300, 3000, "all")


def flipped(rows: list[Example], share: float, rng: Random) -> tuple[list[Example], set[int]]:
    """Give a share of the rows another label; return all rows and the positions of these."""
    labels = sorted({row.output for row in rows})
    wrong = set(rng.sample(range(len(rows)), round(share * len(rows))))
    return [
        replace(row, output=rng.choice([label for label in labels if label != row.output])) if index in wrong else row
        for index, row in enumerate(rows)
    ], wrong


def measure(name: str, rows: list[Example], share: float) -> dict[str, object]:
    """Flip labels of one data set, and run the check."""
    changed, wrong = flipped(rows, share, Random(1))
    found = label_noise(changed)
    removed = {suspect.index for suspect in found.suspects[: found.removable]}
    precision = len(removed & wrong) / len(removed) if removed else None
    return {
        "data": name, "rows": len(rows), "flipped": share, "classifier_accuracy": round(found.accuracy, 3),
        "worth_a_look": len(found.suspects), "estimated_share": round(found.share, 3), "removed": len(removed),
        "promised_precision": round(found.precision, 3),
        "precision": None if precision is None else round(precision, 3),
        "held": precision is None or precision >= found.precision,
    }  # fmt: skip


def main() -> int:
    """Measure all data sets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", choices=[*map(str, ROWS)])
    only = parser.parse_args().rows
    measured = [] if only is None else json.loads(RESULTS.read_text(encoding="utf-8"))
    for name in SETS:
        pool = list(Task.from_path(DATA / f"{name}.jsonl").examples)
        for rows in ROWS if only is None else [each for each in ROWS if str(each) == only]:
            sample = pool if rows == "all" else Random(0).sample(pool, rows)
            for share in SHARES:
                found = measure(name, sample, share)
                key = (name, len(sample), share)
                measured = [row for row in measured if (row["data"], row["rows"], row["flipped"]) != key]
                measured.append(found)
                print(*(f"{key}={value}" for key, value in found.items()), flush=True)
    measured.sort(key=lambda each: (SETS.index(each["data"]), each["rows"], each["flipped"]))
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return int(not all(row["held"] for row in measured))


if __name__ == "__main__":
    sys.exit(main())
