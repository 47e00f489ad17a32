"""How long does ``ragkit data check`` take on 400,000 rows, and does it still find what is wrong with them?

``RAGKIT_DATA=<data> python benchmarks/harness/data_check.py`` writes ``results/data_check.json``. The rows are those of
banking77 and clinc150, repeated in turn, with words of other rows inserted at random places of the repeated ones. Known
shares of the rows are copied, and get another label. The command is timed in a process of its own; what it finds is
then compared with what was planted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from ragkit import Task
from ragkit_pipelines.data_quality import check_data

DATA = Path(os.environ.get("RAGKIT_DATA", "../shared/data")) / "classification"
RESULTS = Path(__file__).parent / "results" / "data_check.json"
INSERTED, COPIED, FLIPPED = 0.25, 0.01, 0.05  # shares of words, of rows, and of labels


def rows_of(total: int, rng: Random) -> Iterator[tuple[dict[str, str], bool, bool]]:
    """Yield rows, and whether each is a copy of an earlier one, and whether its label was flipped."""
    pools = [Task.from_path(DATA / f"{name}.jsonl").examples for name in ("banking77", "clinc150")]
    rows = [(row.text(), row.output) for pool in pools for row in pool]
    words = [word for text, _ in rows for word in text.split()]
    labels = sorted({label for _, label in rows})
    made: list[tuple[str, str, bool]] = []
    for number in count():
        if len(made) == total:
            return
        copied = bool(made) and rng.random() < COPIED
        text, label, wrong = made[rng.randrange(len(made))] if copied else (*rows[number % len(rows)], False)
        if not copied and number >= len(rows):
            text = " ".join(_with_others(text.split(), words, rng))
        if not copied and rng.random() < FLIPPED:
            label, wrong = rng.choice([other for other in labels if other != label]), True
        made.append((text, label, wrong))
        yield {"input": text, "output": label, "split": "train"}, copied, wrong


def _with_others(text: list[str], words: list[str], rng: Random) -> list[str]:
    text = list(text)
    for _ in range(max(2, round(INSERTED * len(text)))):
        text.insert(rng.randint(0, len(text)), rng.choice(words))
    return text


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> int:
    """Write the rows, run the command on them, and compare its findings with what was planted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=400_000)
    total = parser.parse_args().rows
    with TemporaryDirectory() as folder:
        path, wrong, copies = Path(folder) / "rows.jsonl", set[int](), 0
        with path.open("w", encoding="utf-8") as file:
            for index, (row, copied, flipped) in enumerate(rows_of(total, Random(0))):
                file.write(json.dumps(row) + "\n")
                copies += copied
                if flipped:
                    wrong.add(index)
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "ragkit_pipelines.cli", "data", "check", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        task = Task.from_path(path)
    found = check_data(task)
    noise = found.noise
    assert noise is not None, "no estimate of label noise"
    removed = {suspect.index for suspect in noise.suspects[: noise.removable]}
    precision = len(removed & wrong) / len(removed) if removed else None
    result = {
        "rows": total, "processor": processor(), "processors": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mib": after.ru_maxrss // 1024,
        "copies": copies, "duplicates_found": len(found.pool.duplicates),
        "near_duplicates_found": len(found.pool.near_duplicates), "flipped": len(wrong),
        "classifier_accuracy": round(noise.accuracy, 3), "estimated_share": round(noise.share, 3),
        "removed": len(removed), "promised_precision": round(noise.precision, 3),
        "precision": None if precision is None else round(precision, 3),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(seconds > 60 or (precision is not None and precision < noise.precision))


if __name__ == "__main__":
    sys.exit(main())
