"""What scoring all classes costs beside one prefill of the same prompts.

    python benchmarks/real_models/scoring.py [--model gemma3-270m] [--case trec6] [--dtype float32]

The prompts have 8 examples retrieved by BM25 and an instruction that lists the classes: 6 of trec6, 77 of banking77.
They have the form that the model takes, and each class is scored with what ends an answer. ``prefill`` runs the same
forward passes over the prompts, with the same batches and shared prefixes, and reads only the last logits. The two are
measured in turn, in wall-clock and CPU seconds; a ratio is one of medians. Other work on the machine changes the
seconds more than the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch  # noqa: TID253 - this script measures what it computes

from ragkit import Task, load_model
from ragkit.models._local import LocalModel
from ragkit.models._tries import Trie
from ragkit.protocols import AnyPrompt
from ragkit.selectors import load_selector

RESULTS = Path(__file__).parent / "results/scoring.json"
DATA = Path(os.environ.get("RAGKIT_DATA") or Path(__file__).resolve().parents[2].parent / "shared/data")
CASES = {
    "trec6": (16, "Classify the question by the kind of answer it asks for."),
    "banking77": (8, "Classify the message of a bank's customer by intent."),
}  # rows that are scored, and their instruction


def case_of(name: str, model: LocalModel) -> tuple[list[AnyPrompt], list[str], bool]:
    """The prompts and choices of a case, and whether the end of the turn is scored too."""
    rows, instruction = CASES[name]
    task = Task.from_jsonl(DATA / f"classification/{name}.jsonl")
    labels = tuple(sorted({example.output for example in task.examples}))
    template = replace(task.template, instruction=instruction, labels=labels).for_model(model)
    selector = load_selector("bm25", list(task.examples))
    inputs = [row.input for row in Random(0).sample(list(task.test), rows)]
    prompts: list[AnyPrompt] = [template.prompt(selector.select(each, k=8)[::-1], each) for each in inputs]
    return prompts, [template.render_answer(label) for label in labels], template.form == "chat"


def prefill(model: LocalModel, prompts: list[AnyPrompt]) -> None:
    """What `LocalModel.score` does before the choices."""
    rows = [model.encode_prompt(prompt) for prompt in prompts]
    with model.computing():
        for batch in model._batches(rows, prompts, share=True):
            ids, mask = model.network.padded(batch.rows, left=True)
            skipped = len(batch.prefix)
            cache = batch.prefix.left_padded((mask == 0).sum(1).tolist(), ids.shape[1] - skipped)
            model.network.forward(ids[:, skipped:], mask, cache)


def in_turn(model: LocalModel, works: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each work, on the wall and of the processor."""
    times: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in works} for clock in ("wall", "cpu")}
    for _ in range(rounds):
        for name, work in works.items():
            model.prefixes.clear()
            wall, cpu = perf_counter(), process_time()
            work()
            times["wall"][name].append(perf_counter() - wall)
            times["cpu"][name].append(process_time() - cpu)
    return {clock: {name: median(each) for name, each in took.items()} for clock, took in times.items()}


def measure(model: LocalModel, name: str, rounds: int) -> dict[str, Any]:
    prompts, choices, end_of_turn = case_of(name, model)
    works: dict[str, Callable[[], object]] = {
        "prefill": lambda: prefill(model, prompts),
        "score": lambda: model.score(prompts, choices, end_of_turn=end_of_turn),
    }
    model.score(prompts[:1], choices, end_of_turn=end_of_turn)  # a warm-up
    took = in_turn(model, works, rounds)
    trie = Trie.of([[*model.encode_text(choice), *([-1] if end_of_turn else [])] for choice in choices])
    return {
        "classes": len(choices),
        "rows": len(prompts),
        "rounds": rounds,
        "prompt_tokens": median(len(model.encode_prompt(prompt)) for prompt in prompts),
        "tree_tokens": len(trie.inner),
        "ratio": {clock: round(each["score"] / each["prefill"], 2) for clock, each in took.items()},
        "seconds": {clock: {work: round(took[clock][work], 2) for work in works} for clock in took},
    }


def processor() -> str:
    model = "unknown processor"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="spec of the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=list(CASES), action="append", help="all if not given")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], action="append", help="both if not given")
    options = parser.parse_args()
    torch.set_num_threads(1)  # two would wait for each other where other work runs
    facts: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    facts.update(processor=processor(), threads=torch.get_num_threads(), torch=torch.__version__)
    for dtype in options.dtype or ["float32", "bfloat16"]:
        model: Any = load_model(options.model, dtype=dtype)
        for name in options.case or CASES:
            found = measure(model, name, options.rounds)
            facts.setdefault(options.model, {}).setdefault(name, {})[dtype] = found
            print(options.model, name, dtype, json.dumps(found), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
