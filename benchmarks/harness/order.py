"""Do the times and tokens of a comparison depend on the order of its strategies?

``python benchmarks/harness/order.py`` compares the same strategies forwards and backwards, three times each, with
SmolLM2, and writes ``results/order.json``: the tokens, the median seconds of fitting and predicting in both orders, and
the largest relative difference of a time above a tenth of a second.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from ragkit import compare, load_model
from ragkit.comparison import Row, support_requests

RESULTS = Path(__file__).parent / "results" / "order.json"
STRATEGIES = (
    "vote:embedding", "copy:embedding", "tfidf", "few-shot:embedding@4", "score:embedding@4",
    "score:embedding@4+batch", "zero-shot",
)  # fmt: skip
ROUNDS, SHORTEST = 3, 0.1
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def main() -> int:
    """Compare both orders."""
    whole = support_requests()
    task, model = replace(whole, test=whole.test[:30]), load_model("smollm2")
    rows: dict[str, dict[bool, list[Row]]] = {name: {False: [], True: []} for name in STRATEGIES}
    for _ in range(ROUNDS):
        for backwards in (False, True):
            order = STRATEGIES[::-1] if backwards else STRATEGIES
            for row in compare(task, order, model=model, sizes=[240]).results.rows:
                rows[row.strategy][backwards].append(row)
    table, largest, equal = {}, 0.0, True
    for name, by_order in rows.items():
        facts: dict[str, object] = {}
        for what in ("fit_seconds", "seconds"):
            times = [median(getattr(row, what) for row in by_order[backwards]) for backwards in (False, True)]
            facts[what] = [round(time, 3) for time in times]
            if max(times) >= SHORTEST:
                largest = max(largest, abs(times[0] - times[1]) / min(times))
        counts = {tuple(getattr(row, each) for each in TOKENS) for part in by_order.values() for row in part}
        equal &= len(counts) == 1
        table[name] = {**facts, "tokens": [list(each) for each in counts]}
        print(name, table[name], flush=True)
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    found = {
        "processor": processor or platform.processor(), "largest_difference": round(largest, 3), "tokens_equal": equal,
        "strategies": table,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"largest difference {largest:.1%}, tokens {'equal' if equal else 'differ'}")
    return int(largest > 0.1 or not equal)


if __name__ == "__main__":
    sys.exit(main())
