"""Is the estimate of a comparison right? Estimate five comparisons, run them, and compare the seconds.

    python benchmarks/harness/estimate.py                     all five
    python benchmarks/harness/estimate.py trec6 home          some of them; the other results are kept

Each comparison is estimated and then run in the same process, in a new folder, and this is done ``--rounds`` times in
turn (2 by default). ``results/estimate.json`` contains the total seconds of both and their ratio, by the wall clock and
in CPU seconds of the process, the tokens, and the load of the machine. If other programs run at the same time, only the
CPU seconds are comparable: the load may change between the estimate and the run.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from ragkit import Task, compare
from ragkit.comparison import estimate, support_requests
from ragkit.tiny.domains import HOME, task_of

DATA = Path(os.environ.get("RAGKIT_DATA", "../shared/data"))
RESULTS = Path(__file__).parent / "results" / "estimate.json"
GOAL = 0.3


@dataclass(frozen=True)
class Case:
    """A comparison: its task, strategies, model and pool sizes."""

    task: Task
    strategies: tuple[str, ...]
    model: str = "tiny"
    sizes: tuple[int | None, ...] = (None,)


def part(task: Task, pool: int, test: int) -> Task:
    """Draw a part of a task."""
    return replace(task, examples=task.draw(pool, 0), test=Random(0).sample(list(task.test), test))


def support() -> Case:
    """Requests to a support desk, with SmolLM2."""
    return Case(part(support_requests(), 200, 40), ("zero-shot", "score:embedding@2", "classifier-head"), "smollm2")


def trec6() -> Case:
    """Classes of questions."""
    task = part(Task.from_path(DATA / "classification/trec6.jsonl"), 800, 80)
    return Case(task, ("majority", "tfidf", "vote:embedding", "classifier-head", "score:jaccard@2"), sizes=(200, None))


def banking77() -> Case:
    """77 intents of customers of a bank."""
    task = part(Task.from_path(DATA / "classification/banking77.jsonl"), 770, 40)
    return Case(task, ("tfidf", "vote:bm25", "classifier-head", "score:bm25@2"))


def home() -> Case:
    """Requests to a home as calls, with LoRA."""
    return Case(task_of(HOME, Random(0), pool=160, test=60), ("zero-shot", "few-shot:jaccard@4", "lora"))


def geoquery() -> Case:
    """Questions about geography as SQL, whose answers are long."""
    task = Task.from_path(DATA / "generation/geoquery_sql.jsonl")
    return Case(part(task, 300, 60), ("zero-shot", "few-shot:bm25@2", "few-shot:embedding@2"))


CASES: dict[str, Callable[[], Case]] = {
    "support_requests": support, "trec6": trec6, "banking77": banking77, "home": home, "geoquery": geoquery,
}  # fmt: skip


def measure(case: Case, count: int) -> dict[str, Any]:
    """Estimate and run a comparison in turn."""
    rounds: list[dict[str, float]] = []
    for _ in range(count):
        started = perf_counter(), process_time()
        expected = estimate(case.task, case.strategies, model=case.model, sizes=case.sizes)
        between = perf_counter(), process_time()
        result = compare(case.task, case.strategies, model=case.model, sizes=case.sizes)
        ended = perf_counter(), process_time()
        total, rows = expected.total, result.results.rows
        assert not expected.failed
        assert not any(row.error for row in rows)
        rounds.append({
            "estimated_s": total.fit_seconds + total.seconds, "run_s": ended[0] - between[0],
            "estimated_cpu_s": total.cpu_seconds, "run_cpu_s": ended[1] - between[1],
            "estimating_s": between[0] - started[0], "estimating_cpu_s": between[1] - started[1],
            "estimated_prompt_tokens": total.prompt_tokens, "prompt_tokens": sum(row.prompt_tokens for row in rows),
            "load": os.getloadavg()[0],
        })  # fmt: skip
    found: dict[str, Any] = {name: round(median(each[name] for each in rounds), 2) for name in rounds[0]}
    found["ratio_wall"] = round(median(each["estimated_s"] / each["run_s"] for each in rounds), 3)
    found["ratio_cpu"] = round(median(each["estimated_cpu_s"] / each["run_cpu_s"] for each in rounds), 3)
    found["ratios_cpu"] = [round(each["estimated_cpu_s"] / each["run_cpu_s"], 3) for each in rounds]
    found["within_goal"] = abs(found["ratio_cpu"] - 1) <= GOAL
    settings = {"rounds": count, "model": case.model, "strategies": case.strategies, "sizes": case.sizes}
    return {**settings, "pool": len(case.task.examples), "test_rows": len(case.task.test), **found}


def main() -> int:
    """Measure the named cases, or all."""
    parser = argparse.ArgumentParser(description="Compare estimates of comparisons with their runs.")
    parser.add_argument("cases", nargs="*", metavar="case", help=f"one of {', '.join(CASES)}; all if omitted")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    logging.getLogger("ragkit").setLevel(logging.WARNING)
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    for name in arguments.cases or CASES:
        measured = measure(CASES[name](), arguments.rounds)
        print(name, measured, flush=True)
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))["tasks"] if RESULTS.is_file() else {}
        stored[name] = measured
        found = {
            "processor": f"{processor or platform.processor()}, {os.cpu_count()} cores",
            "clock": "The goal is checked on CPU seconds of the process. Other programs ran on the machine, so the "
            "load may have changed between an estimate and its run; the ratio of wall seconds is for information.",
            "goal": GOAL, "tasks": {each: stored[each] for each in CASES if each in stored},
        }  # fmt: skip
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(not all(each["within_goal"] for each in found["tasks"].values()))


if __name__ == "__main__":
    sys.exit(main())
