"""Reasoning before the answer on gsm8k with SmolLM2: answers alone, examples, reasoning, and a vote of three.

    python benchmarks/rag_pearl/reasoning.py [--rows 30]

The test rows are drawn from the test split with seed 0, the pool of 40 examples from the training split. The results of
`compare` go to ``results/reasoning.json``, with the completions that could not be read and why. An interrupted run
resumes from ``--work``. A model of this size solves almost no problem: the figures show whether answers are complete
and read, and what reasoning costs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from random import Random
from time import perf_counter, process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from ragkit import Example, Task, compare
from ragkit_pipelines.compare.strategies.named import Prompting

HERE = Path(__file__).parent
DATA = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1] / "../shared/data")
SEED, POOL, SHOTS, TOKENS = 0, 40, 3, 160
STRATEGIES = (
    Prompting(),
    Prompting("random", k=SHOTS),
    Prompting(reasoning=True, max_tokens=TOKENS),
    Prompting("random", k=SHOTS, reasoning=True, max_tokens=TOKENS),
    Prompting(reasoning=True, max_tokens=TOKENS, samples=3),
)


def gsm8k(data: Path, count: int) -> Task:
    """Read the problems; the reasoning of an example is its solution without the annotations of the calculator."""
    lines = (data / "generation" / "gsm8k.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    parts = {name: [row for row in rows if row["split"] == name] for name in ("train", "test")}
    return Task(
        "Solve the problem. Answer with a number.",
        [_example(row) for row in Random(SEED).sample(parts["train"], POOL)],
        [_example(row) for row in Random(SEED).sample(parts["test"], count)],
        metric="number",
        reader="number",
        name="gsm8k",
    )


def _example(row: dict[str, str]) -> Example:
    steps = re.sub(r"<<[^<>]*>>", "", row["output"]).partition("####")[0].strip()
    return Example(row["input"], row["answer"], metadata={"rationale": steps})


def main() -> None:
    """Run all strategies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "reasoning.json")
    given = parser.parse_args()
    wall, cpu = perf_counter(), process_time()
    result = compare(gsm8k(given.data, given.rows), STRATEGIES, model="smollm2", embedder="hash:64", out=given.work)
    facts = {
        "model": "smollm2",
        "seed": SEED,
        "pool": POOL,
        "max_tokens_of_reasoning": TOKENS,
        "wall_s": round(perf_counter() - wall, 1),
        "cpu_s": round(process_time() - cpu, 1),
        "results": result.results.model_dump(mode="json"),
    }
    given.out.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(result)


if __name__ == "__main__":
    main()
