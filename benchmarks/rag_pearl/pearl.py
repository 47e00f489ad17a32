"""PEARL with a small local model on QuALITY: accepted plans, seconds of planning, budgets, and accuracy.

Each question is answered twice with the same model and the same mapping to its four options: directly from the article,
and by a plan. Questions come from the shortest articles. Results go to ``results/pearl.json`` after every question, and
a rerun skips the questions that it contains. Needs QuALITY (``RAGKIT_DATA``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from typing import Any

from scipy.stats import binomtest

from ragkit import Budget, load_model
from ragkit.pearl import OptionMapper, Pearl, Plan, PlanExecutor, PromptPlanner, Run, ZeroShot

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("RAGKIT_DATA") or ROOT.parent / "shared/data")
RESULTS = Path(__file__).parent / "results/pearl.json"
GOAL_SECONDS = 30  # of planning, on two idle cores; half of the CPU seconds is the estimate on a shared machine
ARTICLES = 3


def questions(count: int) -> list[dict[str, Any]]:
    """The first questions of the shortest articles, the same number from each as far as possible."""
    lines = (DATA / "longdoc/quality_sample.jsonl").read_text(encoding="utf-8").splitlines()
    articles = sorted((json.loads(line) for line in lines), key=lambda row: len(row["article"]))[:ARTICLES]
    each = -(-count // ARTICLES)
    rows = [
        {"id": f"{number}-{place}", "article": row["article"], **question}
        for number, row in enumerate(articles)
        for place, question in enumerate(row["questions"][:each])
    ]
    return rows[:count]


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = perf_counter(), process_time()
    return work(), perf_counter() - wall, process_time() - cpu


def answered(
    pearl: Pearl, mapper: OptionMapper, row: dict[str, Any], seconds: float, plan: Plan | None
) -> dict[str, Any]:
    """Answer one question; without a plan, the planner writes one."""
    budget = Budget(calls=24, seconds=seconds)
    wall, cpu = perf_counter(), process_time()
    stream = pearl.stream(row["question"], row["article"], plan=plan, budget=budget)
    first = next(stream)
    planning = {"planning_seconds": perf_counter() - wall, "planning_cpu_seconds": process_time() - cpu}
    *_, run = [first, *stream]
    assert isinstance(run, Run)
    took, took_cpu = perf_counter() - wall, process_time() - cpu
    choice = mapper.map(run.text, row["question"], row["options"]) if run.text else None
    return {
        **(planning if plan is None else {}),
        "source": run.planning.source,
        "reason": run.planning.reason,
        "rejected": len(run.planning.rejected),
        "plan": None if run.plan is None else [f"{step.call} : {step.note}" for step in run.plan.steps],
        "values": {step.step.out: step.value[:400] for step in run.steps},
        "status": run.status,
        "reasons": list(run.reasons),
        "seconds": took,
        "cpu_seconds": took_cpu,
        "calls": run.calls,
        "completion_tokens": run.usage.completion_tokens,
        "chosen": None if choice is None else choice.place,
    }


def summary(rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    def accuracy(kind: str) -> dict[str, Any]:
        right = [row[kind]["chosen"] == row["gold"] for row in rows]
        low, high = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
        return {"right": sum(right), "of": len(right), "accuracy": mean(right), "interval": [low, high]}

    wins = sum(row["pearl"]["chosen"] == row["gold"] != row["zero_shot"]["chosen"] for row in rows)
    losses = sum(row["zero_shot"]["chosen"] == row["gold"] != row["pearl"]["chosen"] for row in rows)
    planning = [row["pearl"]["planning_seconds"] for row in rows]
    cpu = [row["pearl"]["planning_cpu_seconds"] for row in rows]
    return {
        "questions": len(rows),
        "plans_accepted": sum(row["pearl"]["source"] == "planner" for row in rows),
        "plans_accepted_at_once": sum(
            row["pearl"]["source"] == "planner" and not row["pearl"]["rejected"] for row in rows
        ),
        "planning_seconds": {"median": median(planning), "max": max(planning)},
        "planning_cpu_seconds": {"median": median(cpu), "max": max(cpu), "first": cpu[0]},
        "planned_within_goal": sum(each <= GOAL_SECONDS for each in planning),
        "planned_within_goal_if_two_cores_were_free": sum(each / 2 <= GOAL_SECONDS for each in cpu),
        "budget_seconds": seconds,
        "within_budget": sum(row["pearl"]["seconds"] <= seconds for row in rows),
        "answered": sum(row["pearl"]["status"] == "done" for row in rows),
        "seconds": {kind: median(row[kind]["seconds"] for row in rows) for kind in ("pearl", "zero_shot")},
        "cpu_seconds": {kind: median(row[kind]["cpu_seconds"] for row in rows) for kind in ("pearl", "zero_shot")},
        "pearl": accuracy("pearl"),
        "zero_shot": accuracy("zero_shot"),
        "only_pearl_right": wins,
        "only_zero_shot_right": losses,
        "p_value": float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=20, help="number of questions")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seconds", type=float, default=600.0, help="budget of one question")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    model = load_model(given.model)
    mapper = OptionMapper(model)
    pearl = Pearl(model, planner=PromptPlanner(seconds=given.seconds / 2), executor=PlanExecutor(max_tokens=96))
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    same = known.get("model") == model.fingerprint and known.get("budget_seconds") == given.seconds
    done = {row["id"]: row for row in known.get("rows", [])} if same else {}
    for row in questions(given.questions):
        if row["id"] not in done:
            direct = answered(pearl, mapper, row, given.seconds, ZeroShot().plan())
            planned = answered(pearl, mapper, row, given.seconds, None)
            gold = row["gold_label"] - 1
            done[row["id"]] = {"id": row["id"], "question": row["question"], "gold": gold, "zero_shot": direct,
                               "pearl": planned}  # fmt: skip
            print(row["id"], row["question"], json.dumps(planned, indent=1), flush=True)
        rows = list(done.values())
        facts = {
            "machine": {"python": platform.python_version(), "cores": os.cpu_count(),
                        "load": "shared with other programs"},
            "model": model.fingerprint,
            "budget_seconds": given.seconds,
            "summary": summary(rows, given.seconds),
            "rows": rows,
        }  # fmt: skip
        given.out.parent.mkdir(exist_ok=True)
        given.out.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(facts["summary"], indent=1))


if __name__ == "__main__":
    main()
