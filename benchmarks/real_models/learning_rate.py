"""Which learning rate is best for which method and model size: the measurements behind `default_rate`.

    python benchmarks/real_models/learning_rate.py              everything that is not measured yet
    python benchmarks/real_models/learning_rate.py --limit 1    one more run

SmolLM2 (135M parameters) and Gemma 3 270M are trained on trec6, 300 rows and 3 epochs, and scored on 200 other rows;
`tiny` (1.1M) is trained on 200 device commands and scored on 60. Each run prints one line. The results are kept in
``results/learning_rate.json``, from which an interrupted sweep resumes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from run import DATA, processor, trec6

from ragkit import FewShot, Task, finetune, load_model
from ragkit.protocols import LanguageModel
from ragkit.tiny.domains import HOME, task_of

OUT = Path(__file__).parent / "results/learning_rate.json"
SWEEPS: tuple[tuple[str, str, int, tuple[float, ...]], ...] = (  # model, method, epochs, learning rates
    ("tiny", "lora", 5, (1e-3, 2e-3, 5e-3, 1e-2, 2e-2)),
    ("tiny", "rslora", 5, (1e-3, 2e-3, 5e-3, 1e-2, 2e-2)),
    ("tiny", "full", 5, (2e-4, 5e-4, 1e-3, 2e-3, 5e-3)),
    ("tiny", "last-layers", 5, (2e-4, 5e-4, 1e-3, 2e-3, 5e-3)),
    ("tiny", "prompt-tuning", 5, (1e-2, 3e-2, 1e-1, 3e-1)),
    ("smollm2", "lora", 3, (3e-4, 1e-3, 2e-3, 4e-3, 8e-3)),
    ("smollm2", "rslora", 3, (5e-4, 1e-3, 2e-3)),
    ("smollm2", "full", 3, (1e-4, 3e-4)),
    ("smollm2", "last-layers", 3, (3e-4, 1e-3)),
    ("smollm2", "prompt-tuning", 3, (1e-2, 3e-2)),
    ("gemma3-270m", "lora", 3, (1e-3, 3e-3)),
)


def task_for(model: str, data: Path) -> Task:
    if model == "tiny":
        return task_of(HOME, Random(0), pool=200, test=60, name="device commands")
    return trec6(data, test=200)


def loss_on(model: LanguageModel, task: Task) -> float:
    """The mean negative log-likelihood of the right answers to the test rows."""
    template, total = task.template.for_model(model), 0.0
    for output in sorted({row.output for row in task.test}):
        prompts = [template.prompt([], row.input) for row in task.test if row.output == output]
        total -= float(model.score(prompts, [template.render_answer(output)]).sum())
    return total / len(task.test)


def measured(spec: str, method: str, epochs: int, rate: float, data: Path) -> dict[str, Any]:
    task = task_for(spec, data)
    wall, cpu = perf_counter(), process_time()
    with tempfile.TemporaryDirectory() as folder:
        tuned = finetune(
            spec, task.examples, method=method, learning_rate=rate, epochs=epochs, template=task.template,
            output_dir=Path(folder) / "run",
        )  # fmt: skip
        wall, cpu = perf_counter() - wall, process_time() - cpu
        answers = FewShot.from_task(task, tuned.model, None).batch([row.input for row in task.test])
        scores = task.score_all([answer.text for answer in answers])
        return {
            "model": spec,
            "parameters": load_model(spec).module.num_parameters(),  # type: ignore[attr-defined]
            "method": method,
            "epochs": epochs,
            "rate": rate,
            "score": round(sum(scores) / len(scores), 4),
            "held_out_loss": round(loss_on(tuned.model, task), 4),
            "training_loss": round(tuned.manifest.loss or math.nan, 4),
            "tokens": tuned.manifest.tokens,
            "wall_s": round(wall, 1),
            "cpu_s": round(cpu, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=10**9, help="maximum number of runs to add")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data; RAGKIT_DATA by default")
    given = parser.parse_args()
    facts = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {"processor": processor(), "runs": []}
    done = {(run["model"], run["method"], run["rate"]) for run in facts["runs"]}
    missing = [
        (model, method, epochs, rate)
        for model, method, epochs, rates in SWEEPS
        for rate in rates
        if (model, method, rate) not in done
    ]
    for settings in missing[: given.limit]:
        facts["runs"].append(measured(*settings, given.data))
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(facts["runs"][-1]), flush=True)
    if not missing:
        print("nothing is missing")


if __name__ == "__main__":
    main()
