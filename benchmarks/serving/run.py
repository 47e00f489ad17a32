"""Requests to ``ragkit serve`` at once beside the same requests one after the other, on one model and over adapters.

The base is a random Llama of about four million parameters with three random LoRA adapters. The server is a process of
its own; both ways of asking take turns, and the answers of both must be equal. Figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import httpx

HERE = Path(__file__).parent
REQUESTS = 48
NEW_TOKENS = 32
ROUNDS = 3
SHORT, LONG = 24, 180  # the most words of a prompt; reading it costs the same both ways
ADAPTERS = ("a", "b", "c")


def save_models(home: Path) -> str:
    """Write a base and its adapters; give the base's spec."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from ragkit import load_model

    tokenizer = load_model("tiny").tokenizer  # type: ignore[attr-defined]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, initializer_range=0.2, tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(home / "base")
    tokenizer.save_pretrained(home / "base")
    for seed, name in enumerate(ADAPTERS, 1):
        torch.manual_seed(seed)
        lora = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(LlamaForCausalLM.from_pretrained(home / "base"), lora).save_pretrained(home / name)
    return f"hf:{home / 'base'}"


@contextmanager
def serving(base: str, home: Path, batch_size: int) -> Iterator[str]:
    """Run ``ragkit serve`` and give its address."""
    line = [sys.executable, "-m", "ragkit_pipelines.cli", "serve", "--base", base, "--port", "0"]
    line += ["--batch-size", str(batch_size)]
    line += [part for name in ADAPTERS for part in ("--adapter", f"{name}={home / name}")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def bodies(models: tuple[str, ...], longest: int) -> list[dict[str, object]]:
    """Requests with prompts of some words, each two tokens at the most."""
    rng = Random(0)
    words = ["lamp", "fan", "vent", "red", "blue", "one", "two", "three", "dim", "fade"]
    prompts = [" ".join(rng.choices(words, k=rng.randint(4, longest))) for _ in range(REQUESTS)]
    return [
        {"model": models[place % len(models)], "prompt": prompt, "max_tokens": NEW_TOKENS}
        for place, prompt in enumerate(prompts)
    ]


async def asked(url: str, requests: list[dict[str, object]], at_once: int) -> tuple[float, list[str]]:
    """Seconds that all answers take, and the answers."""
    gate = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=at_once)) as client:

        async def ask(body: dict[str, object]) -> str:
            async with gate:
                answer = await client.post(f"{url}/completions", json=body)
            return str(answer.raise_for_status().json()["choices"][0]["text"])

        started = perf_counter()
        texts = await asyncio.gather(*map(ask, requests))
        return perf_counter() - started, list(texts)


def measured(url: str, models: tuple[str, ...], longest: int, rounds: int) -> dict[str, float]:
    """Both ways of asking, in turn."""
    requests = bodies(models, longest)
    asyncio.run(asked(url, requests[:8], 8))  # what is made on first use
    times: dict[int, list[float]] = {1: [], REQUESTS: []}
    for _ in range(rounds):
        texts = []
        for at_once, seconds in times.items():
            took, answers = asyncio.run(asked(url, requests, at_once))
            seconds.append(took)
            texts.append(answers)
        assert texts[0] == texts[1], "answers depend on what they are asked with"
    one, many = (median(seconds) for seconds in times.values())
    return {"one_at_a_time_s": one, "at_once_s": many, "ratio": one / many}


def machine() -> str:
    """The processor by its name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=HERE / "results/serving.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        base = save_models(home)
        with serving(base, home, options.batch_size) as url:
            facts = {
                "machine": machine(),
                "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
                "load_before": round(os.getloadavg()[0], 2),
                "requests": REQUESTS,
                "new_tokens": NEW_TOKENS,
                "batch_size": options.batch_size,
                "rounds": options.rounds,
                "one_model": measured(url, (base,), SHORT, options.rounds),
                "three_adapters": measured(url, ADAPTERS, SHORT, options.rounds),
                "one_model_long_prompts": measured(url, (base,), LONG, options.rounds),
                "three_adapters_long_prompts": measured(url, ADAPTERS, LONG, options.rounds),
                "most_words": {"short": SHORT, "long": LONG},
            }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
