"""trec6 on real language models: prompting, selected examples, scoring with each calibration, and LoRA.

    python benchmarks/real_models/run.py                      SmolLM2
    python benchmarks/real_models/run.py --model gemma3-270m  Gemma 3 270M, if its packages are installed

300 training rows and 60 test rows, drawn with seed 0 and the same for every strategy. The results go to
``results/trec6-<model>.json``, with the processor and the CPU seconds next to the wall-clock time. An interrupted run
resumes from ``--work``, and its total time is not known then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
from pathlib import Path
from time import perf_counter, process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rich.console import Console

from ragkit import Example, Task, compare
from ragkit.comparison import CompareOptions

HERE = Path(__file__).parent
DATA = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1] / "../shared/data")
TRAIN, TEST, SEED = 300, 60, 0
STRATEGIES = (
    "majority",
    "zero-shot",
    "few-shot:random",
    "few-shot:embedding",
    "score",
    "score+contextual",
    "score+batch",
    "score+pmi",
    "score:embedding",
    "score:embedding+contextual",
    "score:embedding+batch",
    "score:embedding+pmi",
    "channel:embedding",
    "channel:embedding+contextual",
    "channel:embedding+batch",
    "vote:embedding",
    "classifier-head",
    "lora",
)


def trec6(data: Path, *, test: int = TEST) -> Task:
    """Read the rows in order, split them, and draw from each part with the same seed."""
    lines = (data / "classification" / "trec6.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    train = [row for row in rows if row["split"] == "train"]
    held_out = [row for row in rows if row["split"] == "test"]
    random.seed(SEED)
    random.shuffle(train)
    random.shuffle(held_out)
    return Task(
        instruction="Classify the question by the kind of answer it asks for.",
        examples=[Example(row["input"], row["output"]) for row in train[:TRAIN]],
        test=[Example(row["input"], row["output"]) for row in held_out[:test]],
        labels=sorted({row["output"] for row in rows}),
        metric="accuracy",
        name="trec6",
    )


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="spec of the model")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="names, separated by commas")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data; RAGKIT_DATA by default")
    parser.add_argument("--work", type=Path, default=Path("runs/real_models"), help="where interrupted runs resume")
    given = parser.parse_args()
    name = f"trec6-{given.model.replace(':', '-').replace('/', '-')}"
    wall, cpu, work = perf_counter(), process_time(), given.work / name
    resumed = work.exists()
    result = compare(
        trec6(given.data),
        given.strategies.split(","),
        model=given.model,
        out=work,
        options=CompareOptions(checks="off"),
    )
    facts = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "wall_s": None if resumed else round(perf_counter() - wall, 1),
        "cpu_s": None if resumed else round(process_time() - cpu, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "results": result.results.model_dump(mode="json"),
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    Console(width=140).print(result.table())
    for row in result.results.rows:
        if row.error:
            print(f"{row.strategy} failed: {row.error}")


if __name__ == "__main__":
    main()
