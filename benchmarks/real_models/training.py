"""LoRA on SmolLM2 with 300 rows of trec6, compared with TRL's SFTTrainer with its defaults on the same rows.

    python benchmarks/real_models/training.py

Ours trains four epochs and is scored on 60 test rows; TRL runs a few steps, from which its rate is taken. Rates
count the tokens of the rows, prompts included, without padding. The results go to ``results/training.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: TID253
from datasets import Dataset  # noqa: TID253
from peft import LoraConfig  # noqa: TID253
from run import DATA, processor, trec6
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: TID253
from trl import SFTConfig, SFTTrainer  # noqa: TID253

from ragkit import FewShot, Task, finetune
from ragkit.models._sources import weights_of

RESULTS = Path(__file__).parent / "results" / "training.json"
RANK, EPOCHS = 16, 4


def ours(task: Task) -> dict[str, Any]:
    """Train with ragkit, and score the test rows."""
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = perf_counter(), process_time()
        tuned = finetune(
            "smollm2", task.examples, template=task.template, epochs=EPOCHS, output_dir=Path(folder, "run")
        )  # fmt: skip
        wall, cpu = perf_counter() - wall, process_time() - cpu
        answers = FewShot.from_task(task, tuned.model, None).batch([row.input for row in task.test])
    score = sum(task.score_all([answer.text for answer in answers])) / len(answers)
    return {"accuracy": round(score, 4), **_rates(tuned.manifest.tokens, wall, cpu)}


def trl(task: Task, steps: int) -> dict[str, Any]:
    """Train with TRL's defaults on the same conversations, for a few steps."""
    place = weights_of("smollm2").place
    rows = []
    for row in task.examples:
        chat = task.template.prompt([], row.input).chat
        assert chat is not None
        prompt = [{"role": turn.role, "content": turn.content} for turn in chat.messages]
        rows.append({"prompt": prompt, "completion": [{"role": "assistant", "content": row.output}]})
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32),
            args=SFTConfig(output_dir=folder, max_steps=steps, use_cpu=True, report_to=[], disable_tqdm=True),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(place),
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        wall, cpu = perf_counter(), process_time()
        trainer.train()
        wall, cpu = perf_counter() - wall, process_time() - cpu
    lengths = [len(row["input_ids"]) for row in trainer.train_dataset]
    seen = steps * trainer.args.train_batch_size * sum(lengths) / len(lengths)
    return {"steps": steps, "batch_size": trainer.args.train_batch_size, **_rates(round(seen), wall, cpu)}


def _rates(tokens: int, wall: float, cpu: float) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "tokens_per_s": round(tokens / wall, 1),
        "tokens_per_cpu_s": round(tokens / cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data; RAGKIT_DATA by default")
    parser.add_argument("--steps", type=int, default=5, help="steps of TRL")
    given = parser.parse_args()
    task = trec6(given.data)
    facts: dict[str, Any] = {"processor": processor(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    facts["trl"] = trl(task, given.steps)
    facts["ours"] = ours(task)
    facts["ratio"] = round(facts["ours"]["tokens_per_s"] / facts["trl"]["tokens_per_s"], 2)
    facts["ratio_of_cpu"] = round(facts["ours"]["tokens_per_cpu_s"] / facts["trl"]["tokens_per_cpu_s"], 2)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
