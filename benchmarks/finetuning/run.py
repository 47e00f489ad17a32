"""LoRA of the tiny model on 200 rows, beside TRL's SFTTrainer with PEFT used plainly: time, memory, equal adapters.

Both do the same steps on the same rows: 3 epochs in batches of 16, a checkpoint each epoch, the adapter saved at the
end. Ours also hashes, writes the manifest and loads the result. One thread; the ways take turns in one process, after
one run of each that does not count. Memory is that of a process of its own for each way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from datasets import Dataset  # noqa: TID253
from peft import LoraConfig  # noqa: TID253
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: TID253
from trl import SFTConfig, SFTTrainer  # noqa: TID253

from ragkit import Example, Template, finetune
from ragkit._progress import quiet_transformers
from ragkit.tiny import WEIGHTS
from ragkit.tiny.domains import HOME, task_of

HERE = Path(__file__).parent
EPOCHS, BATCH, RATE, SEED, ROUNDS = 3, 16, 5e-3, 0, 7


def rows() -> list[Example]:
    return list(task_of(HOME, Random(SEED), pool=200, test=20, name="device commands").examples)


def ours(folder: Path, *, epochs: float = EPOCHS) -> int:
    tuned = finetune("tiny", rows(), output_dir=folder, epochs=epochs, learning_rate=RATE, seed=SEED)
    return tuned.manifest.tokens


def plain(folder: Path, *, epochs: float = EPOCHS) -> int:
    template = Template()
    pairs = [
        {"prompt": template.prompt([], row.input).text, "completion": template.render_answer(row.output)}
        for row in rows()
    ]
    arguments = SFTConfig(
        output_dir=str(folder), num_train_epochs=epochs, per_device_train_batch_size=BATCH, learning_rate=RATE,
        lr_scheduler_type="linear", warmup_steps=10, save_strategy="epoch", save_total_limit=1, seed=SEED,
        report_to=[], disable_tqdm=True, logging_strategy="no", use_cpu=True, gradient_checkpointing=False, bf16=False,
        dataloader_pin_memory=False,
    )  # fmt: skip
    with quiet_transformers():
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(WEIGHTS),
            args=arguments,
            train_dataset=Dataset.from_list(pairs),
            processing_class=AutoTokenizer.from_pretrained(WEIGHTS),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        trainer.train()
        trainer.save_model(str(folder / "adapter"))
    return sum(len(row["input_ids"]) for row in trainer.train_dataset) * int(epochs)


WAYS: dict[str, Callable[..., int]] = {"ours": ours, "trl": plain}


def measured(way: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = perf_counter(), process_time()
        tokens = WAYS[way](Path(folder) / "run")
        return {"seconds": perf_counter() - wall, "cpu_seconds": process_time() - cpu, "tokens": tokens}


def peak_bytes(way: str) -> int:
    done = subprocess.run([sys.executable, __file__, "--only", way], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def peak_of_this_process() -> int:
    """Linux's own mark; that of `resource` would count what the parent had before the child was started."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def adapter_hash(round_: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        ours(Path(folder) / f"run{round_}")
        stored = Path(folder) / f"run{round_}/model/adapter_model.safetensors"
        return hashlib.sha256(stored.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=WAYS, help="run one way once and print this process's peak memory in bytes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.only:
        measured(options.only)
        print(peak_of_this_process())
        return
    for way in WAYS:
        measured(way)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, found in runs.items():
            found.append(measured(way))
    medians = {way: {name: median(run[name] for run in found) for name in found[0]} for way, found in runs.items()}
    hashes = {adapter_hash(round_) for round_ in range(2)}
    facts = {
        "rows": len(rows()),
        "epochs": EPOCHS,
        "rounds": options.rounds,
        **medians,
        "ratio_seconds": median(a["seconds"] / b["seconds"] for a, b in zip(runs["ours"], runs["trl"], strict=True)),
        "ratio_cpu_seconds": median(
            a["cpu_seconds"] / b["cpu_seconds"] for a, b in zip(runs["ours"], runs["trl"], strict=True)
        ),
        "peak_bytes": {way: peak_bytes(way) for way in WAYS},
        "same_seed_same_bytes": len(hashes) == 1,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }
    out = HERE / "results/lora.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
