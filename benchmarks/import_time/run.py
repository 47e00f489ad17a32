"""What ``import ragkit`` costs beside ``import numpy``: medians over processes of their own, bare Python subtracted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

RUNS = 15


def seconds(statement: str) -> float:
    started = perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return perf_counter() - started


def main() -> None:
    times: dict[str, list[float]] = {"pass": [], "import ragkit": [], "import numpy": []}
    for _ in range(RUNS):  # in turn, so that a slow moment of the machine meets all three
        for statement, measured in times.items():
            measured.append(seconds(statement))
    bare, ragkit, numpy = (median(measured) for measured in times.values())
    facts = {
        "runs": RUNS,
        "ragkit_ms": 1000 * (ragkit - bare),
        "numpy_ms": 1000 * (numpy - bare),
        "ratio": (ragkit - bare) / (numpy - bare),
    }
    out = Path(__file__).parent / "results/import_time.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
