"""What scoring all classes costs beside one prefill of the same prompts.

    python benchmarks/real_models/scoring.py [--model hf:<folder>] [--rounds 5]

The prompts are those of ``score:bm25`` on trec6 (6 classes) and banking77 (77 classes): 8 retrieved examples, inside the
chat template if the model has one. ``prefill`` runs the same forward passes over the prompts, with the same batches and
shared prefixes, and reads nothing. Both are measured in turn, several rounds each, in wall-clock and CPU seconds; a ratio
is one of medians. Other work on the machine moves the seconds, not the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch

from ragkit import Task, load_model
from ragkit.models.batches import batches_by_length
from ragkit.models.local import LocalModel
from ragkit.protocols import AnyPrompt
from ragkit_pipelines.few_shot import FewShot
from ragkit_selectors.loading import load_selector

RESULTS = Path(__file__).parent / "results/scoring.json"
DATA = Path(os.environ.get("RAGKIT_DATA") or Path(__file__).resolve().parents[2].parent / "shared/data")
CASES = {"trec6": 24, "banking77": 8}  # rows scored


def case_of(name: str, model: LocalModel) -> tuple[list[AnyPrompt], list[str]]:
    """The prompts and choices of a case."""
    task = Task.from_jsonl(DATA / f"classification/{name}.jsonl")
    rows = Random(0).sample(list(task.test), CASES[name])
    labels = sorted({example.output for example in task.examples})
    pipeline = FewShot.from_task(task, model, load_selector("bm25", list(task.examples)), k=8)
    prompts = [prompt for prompt, _ in pipeline.prompts([row.input for row in rows])]
    return list(prompts), [task.template.render_answer(label) for label in labels]


def prefill(model: LocalModel, prompts: list[AnyPrompt]) -> None:
    """What `LocalModel.score` does before the choices."""
    rows = [model.encode_prompt(prompt) for prompt in prompts]
    with model.lock, torch.inference_mode():
        for group, prefix, _ in model._sharing(prompts, rows):
            for places in batches_by_length([rows[place] for place in group], model.batch_size):
                ids, mask = model.padded([rows[group[place]] for place in places], left=True)
                skipped = 0 if prefix is None else len(prefix.ids)
                padding = (mask == 0).sum(1).tolist()
                cache = None if prefix is None else prefix.left_padded(padding, ids.shape[1] - skipped)
                model.forward(ids[:, skipped:], mask, cache)


def measure(model: LocalModel, prompts: list[AnyPrompt], choices: list[str], rounds: int) -> dict[str, Any]:
    works: dict[str, Callable[[], object]] = {
        "prefill": lambda: prefill(model, prompts),
        "score": lambda: model.score(prompts, choices),
        "score_end_of_turn": lambda: model.score(prompts, choices, end_of_turn=True),
    }
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):  # the first is to warm up
        for name, work in works.items():
            model._prefixes._kept.clear()
            started = perf_counter(), process_time()
            work()
            if number:
                wall[name].append(perf_counter() - started[0])
                cpu[name].append(process_time() - started[1])
    found: dict[str, Any] = {
        "classes": len(choices),
        "rows": len(prompts),
        "prompt_tokens": median(len(model.encode_prompt(prompt)) for prompt in prompts),
    }
    for clock, times in (("seconds", wall), ("cpu_seconds", cpu)):
        took = {name: median(each) for name, each in times.items()}
        found[clock] = {name: round(each, 2) for name, each in took.items()}
        found[f"{clock}_of_prefill"] = {name: round(took[name] / took["prefill"], 2) for name in works}
    return found


def processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"unknown, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="spec of the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], action="append")
    options = parser.parse_args()
    facts: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    facts.update(model=options.model.rpartition("/")[2], processor=processor(), torch=torch.__version__)
    for dtype in options.dtype or ["float32", "bfloat16"]:
        model: Any = load_model(options.model)
        model.module.to(getattr(torch, dtype))
        for name in options.case or CASES:
            found = measure(model, *case_of(name, model), options.rounds)
            facts.setdefault(dtype, {})[name] = found
            print(dtype, name, json.dumps(found), flush=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
