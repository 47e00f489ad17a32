"""In-context learning versus fine-tuning on a real language model: accuracy by pool size and by number of examples.

    RAGKIT_DATA=<data> python benchmarks/icl_vs_finetuned/study.py                        all data sets, SmolLM2
    RAGKIT_DATA=<data> python benchmarks/icl_vs_finetuned/study.py trec6 --model gemma3-270m
    RAGKIT_DATA=<data> make bench-quick                                                   a part of trec6, in minutes

Each data set is a comparison of the strategies in ``STRATEGIES`` at three pool sizes and three seeds, with the same
test rows for all, and a second one of ``SHOTS`` at the largest pool. Their results are
``results/<data set>-<model>.json`` and ``results/<data set>-<model>-shots.json``, which are written after every seed,
with the processor and the CPU seconds. An interrupted study resumes from ``--work``; what was computed in the
interrupted part is then missing from the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from ragkit import Task, compare
from ragkit.comparison import CompareOptions

HERE = Path(__file__).parent
DATA = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1] / "../shared/data")
TEST = 100
SIZES = (32, 128, 512)
SEEDS = (0, 1, 2)
STRATEGIES = (
    "majority", "tfidf", "vote:embedding", "classifier-head", "zero-shot", "few-shot:random", "few-shot:embedding",
    "score:embedding+batch", "lora",
)  # fmt: skip
SHOTS = tuple(f"few-shot:embedding@{k}" for k in (1, 2, 4, 16, 32))
INSTRUCTIONS = {
    "trec6": "Classify the question by the kind of answer it asks for.",
    "snips": "Classify the request of a user by what it asks for.",
    "banking77": "Classify the question of a bank's customer.",
    "clinc150": "Classify the request of a user by what it asks for.",
}


def task_of(name: str, data: Path) -> Task:
    """Read a data set, and draw the test rows with seed 0."""
    task = Task.from_path(data / f"classification/{name}.jsonl", instruction=INSTRUCTIONS[name])
    test = Random(0).sample(list(task.test), min(TEST, len(task.test)))
    return replace(task, test=test, metric="accuracy", name=name)


def processor() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def stage(
    task: Task,
    strategies: Sequence[str],
    model: str,
    label: str,
    work: Path,
    *,
    sizes: Sequence[int],
    seeds: Sequence[int],
) -> None:
    """Run a comparison, or what is missing of it, and write its results."""
    path = HERE / "results" / f"{label}.json"
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    wall, cpu = perf_counter(), process_time()
    result = compare(
        task, strategies, model=model, sizes=[*sizes], seeds=[*seeds], out=work / label,
        options=CompareOptions(checks="off"),
    )  # fmt: skip
    facts = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "wall_s": round(perf_counter() - wall + before.get("wall_s", 0), 1),
        "cpu_s": round(process_time() - cpu + before.get("cpu_s", 0), 1),
        "peak_memory_gb": round(
            max(before.get("peak_memory_gb", 0), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20), 2
        ),
        "results": result.results.model_dump(mode="json"),
    }
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(
        f"{label}, seeds {[*seeds]}: {facts['wall_s']} s, {facts['cpu_s']} CPU s\n{result.results.markdown()}",
        flush=True,
    )


def main() -> None:
    """Run the study, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="data set", help=f"of {', '.join(INSTRUCTIONS)}; all by default")
    parser.add_argument("--model", default="smollm2", help="spec of the model")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data; RAGKIT_DATA by default")
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="where interrupted runs resume")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds")
    parser.add_argument("--quick", action="store_true", help="one seed and a pool of 128 rows, without the shots")
    given = parser.parse_args()
    if unknown := [name for name in given.tasks if name not in INSTRUCTIONS]:
        parser.error(f"unknown: {', '.join(unknown)}; expected some of {', '.join(INSTRUCTIONS)}")
    for name in given.tasks or INSTRUCTIONS:
        task = task_of(name, given.data)
        label = f"{name}-{given.model.replace(':', '-').replace('/', '-')}"
        if given.quick:
            stage(task, STRATEGIES, given.model, f"{label}-quick", given.work, sizes=SIZES[1:2], seeds=SEEDS[:1])
            continue
        for last in range(given.seeds):
            seeds = SEEDS[: last + 1]
            stage(task, STRATEGIES, given.model, label, given.work, sizes=SIZES, seeds=seeds)
            if last == 0:
                stage(task, SHOTS, given.model, f"{label}-shots", given.work, sizes=SIZES[-1:], seeds=seeds)


if __name__ == "__main__":
    main()
