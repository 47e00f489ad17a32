"""What the model interface saves and costs: shared prefixes, batches, scores, adapters, and the layers before a call.

Random Llamas on the CPU, one thread, CPU seconds; ways take turns and medians count. Texts are asserted to be those of
the plain way. On a machine with a GPU, ``--device cuda`` measures a model of the shape of a billion parameters in wall
time. Results go to ``results/``; ``python benchmarks/update_readme.py`` makes the tables from them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: TID253
import transformers  # noqa: TID253

from ragkit import Budget, Prompt, load_model
from ragkit._progress import quiet_transformers
from ragkit.models import AdapterSet, AnswerCache, LayeredModel, RateLimit, Retry
from ragkit.models._base import ModelBase
from ragkit.models._local import LocalModel
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt
from ragkit.records import Completion, Usage

HERE = Path(__file__).parent
SHAPES = {
    "4M": {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4},
    "20M": {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6},
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
}
DEVICE = "cpu"


def save_model(folder: Path, shape: str) -> str:
    tokenizer: Any = load_model("tiny").tokenizer  # type: ignore[attr-defined]
    tokenizer.model_max_length = 16_384
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    facts = {"vocab_size": len(tokenizer), "max_position_embeddings": 16_384, "initializer_range": 0.1, **ids}
    torch.manual_seed(0)
    with quiet_transformers():
        module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**facts, **SHAPES[shape]}))
        module.generation_config.eos_token_id = None  # every answer has its full length
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return f"hf:{folder}"


def save_adapter(base: str, folder: Path, seed: int) -> str:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    with quiet_transformers():
        get_peft_model(load_model(base).module, config).save_pretrained(folder)  # type: ignore[attr-defined]
    return str(folder)


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds; wall seconds on a GPU."""
    clock = time.process_time if DEVICE == "cpu" else time.perf_counter
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    started = clock()
    work()
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    return clock() - started


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            times[name].append(seconds_of(work))
    return {name: median(each) for name, each in times.items()}


def texts(count: int, low: int, high: int, seed: int) -> list[str]:
    tokenizer: Any = load_model("tiny").tokenizer  # type: ignore[attr-defined]
    rng = Random(seed)
    return [
        "".join(tokenizer.decode([rng.randrange(300, 900)]) for _ in range(rng.randint(low, high)))
        for _ in range(count)
    ]


def plainly(model: LocalModel, prompts: list[AnyPrompt], tokens: int) -> list[str]:
    """Each prompt alone through plain transformers."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([model.encode_prompt(prompt)], device=model.module.device)
        with torch.inference_mode(), quiet_transformers():
            written = model.module.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
        found.append(model.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))
    return found


def measure_prefix(model: LocalModel, rounds: int) -> dict[str, Any]:
    (document,) = texts(1, 4000, 4000, 1)
    prompts: list[AnyPrompt] = [Prompt(document, question) for question in texts(6, 12, 12, 2)]

    def afresh() -> list[str]:
        model.prefixes.clear()
        return kept()

    def kept() -> list[str]:
        return [answer.text for answer in model.generate(prompts, max_tokens=16)]

    same = plainly(model, prompts, 16) == afresh() == kept()
    took = in_turn({"apart": lambda: plainly(model, prompts, 16), "together": afresh, "kept": kept}, rounds)
    tokens = len(model.encode_prompt(document))
    return {**took, "ratio": took["apart"] / took["together"], "ratio_kept": took["apart"] / took["kept"],
            "same_text": same, "prefix_tokens": tokens, "parameters": model.module.num_parameters()}  # fmt: skip


def measure_batch(model: LocalModel, rounds: int) -> dict[str, Any]:
    prompts: list[AnyPrompt] = list(texts(48, 16, 180, 3))

    def together() -> list[str]:
        return [answer.text for answer in model.generate(prompts, max_tokens=32)]

    same = plainly(model, prompts, 32) == together()
    took = in_turn({"apart": lambda: plainly(model, prompts, 32), "together": together}, rounds)
    tokens = 48 * 32 / took["together"]
    return {**took, "ratio": took["apart"] / took["together"], "tokens_per_second": tokens, "same_text": same}


def measure_score(model: LocalModel, rounds: int) -> dict[str, Any]:
    (prompt,) = texts(1, 300, 300, 4)
    choices = texts(77, 1, 4, 5)

    def apart() -> list[float]:
        found = []
        for choice in choices:
            head, tail = model.encode_prompt(prompt), model.encode_text(choice)
            with torch.inference_mode():
                ids = torch.tensor([head + tail], device=model.module.device)
                chances = model.module(ids).logits[0, len(head) - 1 : -1].double().log_softmax(-1)
            found.append(float(chances.gather(-1, ids[0, len(head) :, None]).sum()))
        return found

    apart_scores, scores = apart(), model.score([prompt], choices)[0]
    off = max(abs(one - two) for one, two in zip(apart_scores, scores.tolist(), strict=True))
    took = in_turn({"apart": apart, "together": lambda: model.score([prompt], choices)}, rounds)
    return {**took, "ratio": took["apart"] / took["together"], "largest_difference": off}


def measure_adapters(base: str, folder: Path, rounds: int) -> dict[str, Any]:
    adapters = AdapterSet(base, {name: save_adapter(base, folder / name, seed) for seed, name in enumerate("abc")})
    prompts: list[AnyPrompt] = list(texts(48, 16, 60, 6))
    names = ["a", "b", "c"] * 16
    one = adapters["a"]

    def switch() -> None:
        for name in names:
            adapters[name].module.set_adapter(adapters._inner[name])

    def mixed() -> list[str]:
        return [answer.text for answer in adapters.generate_mixed(prompts, names, max_tokens=16)]

    alone = [adapters[name].generate(prompt, max_tokens=16).text for prompt, name in zip(prompts, names, strict=True)]
    same = alone == mixed()
    ways = {"one": lambda: one.generate(prompts, max_tokens=16), "mixed": mixed, "switch": switch}
    took = in_turn({"base": lambda: adapters.base.generate(prompts, max_tokens=16), **ways}, rounds)
    switch_ms = 1000 * took.pop("switch") / len(names)
    ratios = {"ratio": took["mixed"] / took["base"], "ratio_one": took["mixed"] / took["one"]}
    return {"switch_ms": switch_ms, **took, **ratios, "same_text": same}


class Free(ModelBase):
    """A backend that costs nothing, to see what the layers cost."""

    name, fingerprint = "free", "free"
    _answer = Completion(text="a", usage=Usage(prompt_tokens=3, completion_tokens=1), cost=0.0)

    def _complete(self, prompts: Any, sampling: Sampling) -> list[Completion]:
        return [self._answer] * len(prompts) if sampling else []


def measure_layers(folder: Path, rounds: int, calls: int = 3000) -> dict[str, float]:
    free = Free()
    budget = Budget(calls=10**9, tokens=10**12, money=1e9)
    limit, retry = RateLimit(requests=1e12, tokens=1e15), Retry()
    layers = LayeredModel(free, budget=budget, limit=limit, retry=retry)
    cached = LayeredModel(free, budget=budget, limit=limit, retry=retry, cache=AnswerCache(folder / "answers.sqlite"))
    numbers = iter(range(10**9))

    def asking(model: Any) -> Callable[[], object]:
        return lambda: [model.generate(f"question number {next(numbers)}") for _ in range(calls)]

    def again() -> None:
        for number in range(calls):
            cached.generate(f"asked before {number}")

    again()
    ways = {"bare": asking(free), "layers": asking(layers), "cache_miss": asking(cached), "cache_hit": again}
    took = {name: 1e6 * seconds / calls for name, seconds in in_turn(ways, rounds).items()}
    return {f"{name}_us": took[name] - took["bare"] for name in ("layers", "cache_miss", "cache_hit")}


def main() -> None:
    global DEVICE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    DEVICE = options.device
    torch.set_num_threads(1)
    shapes = ("20M", "4M") if DEVICE == "cpu" else ("1B", "1B")
    found: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "device": DEVICE}
    if DEVICE == "cuda":
        found["machine"] = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large, small = save_model(folder / "large", shapes[0]), save_model(folder / "small", shapes[1])
        model: Any = load_model(large)
        found["prefix"] = measure_prefix(model, options.rounds)
        model = load_model(small)
        found["batch"] = measure_batch(model, options.rounds)
        found["score"] = measure_score(model, options.rounds)
        found["adapters"] = measure_adapters(small, folder, options.rounds)
        found["layers"] = measure_layers(folder, max(5, options.rounds))
    path = HERE / "results" / ("models.json" if DEVICE == "cpu" else "models_gpu.json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
