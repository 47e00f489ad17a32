"""What `tiny` can do on domains it never saw: exact match by way of asking, beside what the shown examples allow.

The ceiling of an arm is the share of queries whose mapped words all occur in the shown examples.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from ragkit import FewShot, JaccardSelector, RandomSelector, Selection, compare, load_model
from ragkit.tiny.domains import CallDomain, task_of
from ragkit_pipelines.compare.statistics.tests import wilson

ARMS = ("zero-shot", "random", "jaccard")


def holds(needs: list[str], shown: Selection) -> bool:
    known = {word for example in shown for word in (example.metadata or {})["needs"]}  # type: ignore[attr-defined]
    return set(needs) <= known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, default=50)
    parser.add_argument("--lora-domains", type=int, default=50, help="domains on which LoRA is trained, from the first")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--pool", type=int, default=200)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/tiny.json")
    given = parser.parse_args()
    model = load_model("tiny")
    right = dict.fromkeys((*ARMS, "lora"), 0.0)
    asked = dict.fromkeys((*ARMS, "lora"), 0)
    possible = dict.fromkeys(ARMS, 0)
    for seed in range(given.domains):
        rng = Random(f"held out {seed}")
        task = task_of(CallDomain.draw(rng), rng, pool=given.pool, test=given.queries)
        choosers = {
            "zero-shot": None,
            "random": RandomSelector(task.examples),
            "jaccard": JaccardSelector(task.examples),
        }
        for arm, chooser in choosers.items():
            answers = FewShot.from_task(task, model, chooser, k=given.k).batch([row.input for row in task.test])
            for row, answer in zip(task.test, answers, strict=True):
                asked[arm] += 1
                right[arm] += task.score(answer.text, row.output)
                possible[arm] += holds((row.metadata or {})["needs"], answer.selection)  # type: ignore[arg-type]
        if seed < given.lora_domains:
            with tempfile.TemporaryDirectory() as folder:
                (row,) = compare(task, ["lora"], model=model, embedder="hash:8", out=folder).results.rows
            asked["lora"] += row.n
            right["lora"] += row.correct
        print(seed + 1, {arm: round(right[arm] / max(1, asked[arm]), 3) for arm in right}, flush=True)
    rows = [
        {
            "arm": arm,
            "n": asked[arm],
            "score": right[arm] / asked[arm],
            "interval": wilson(right[arm], asked[arm]),
            "ceiling": possible[arm] / asked[arm] if arm in possible else None,
        }
        for arm in right
        if asked[arm]
    ]
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    facts = {"settings": settings, "model": model.fingerprint, "machine": platform.machine(), "rows": rows}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
