"""How fast a local model loads, reads prompts and writes answers, by precision, number of threads and batch size.

    python benchmarks/real_models/precision.py [--model smollm2] [--rounds 5] [--threads 1 2]
    python benchmarks/real_models/precision.py --part prefill       one part; the results of the others stay

``load``       `load_model`, the conversion of a GGUF file not included; the first call is not counted.
``prefill``    Prompts of random tokens, up to the first token of the answer.
``decode``     The 16 tokens after the first one, for one row and for eight; through `LocalModel`, as in `generate`.
``batches``    32 prompts of 256 tokens with answers of 8 tokens, by batch size.

``whole bfloat16`` is the model as transformers runs it in bfloat16: all tensors are in bfloat16, and weights in the
layout of the file. Precisions take turns, and medians over rounds count. Tokens per CPU second are given next to tokens
per second, because they depend less on other work on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch  # noqa: TID253
import transformers  # noqa: TID253

from ragkit import load_model
from ragkit.models._local import LocalModel
from ragkit.models._sampling import Sampling

RESULTS = Path(__file__).parent / "results/precision.json"
DTYPES = ("float32", "bfloat16")
ANSWER = 16  # tokens decoded after the first
Rows = list[list[int]]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - cpu


def random_rows(count: int, length: int) -> Rows:
    generator = torch.Generator().manual_seed(count * length)
    rows: Rows = torch.randint(100, 40_000, (count, length), generator=generator).tolist()
    return rows


def speeds(tokens: int, times: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = (median(each) for each in zip(*times, strict=True))
    return {"tokens_per_second": round(tokens / wall, 1), "tokens_per_cpu_second": round(tokens / cpu, 1)}


def loaded(spec: str, dtype: str) -> LocalModel:
    model: Any = load_model(spec, dtype=dtype)  # type: ignore[arg-type]
    model.module.generation_config.eos_token_id = None  # every answer has its full length
    return model  # type: ignore[no-any-return]


def load(spec: str, rounds: int) -> dict[str, Any]:
    found = {}
    for dtype in DTYPES:
        times = [timed(lambda dtype=dtype: load_model(spec, dtype=dtype)) for _ in range(rounds + 1)][1:]
        wall, cpu = (median(each) for each in zip(*times, strict=True))
        found[dtype] = {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}
    return found


def generate(model: LocalModel, rows: Rows, tokens: int) -> None:
    model.complete_rows(rows, Sampling.of(max_tokens=tokens, temperature=0.0, stop=(), seed=0))


def decoding(model: LocalModel, rows: Rows) -> tuple[float, float]:
    """The time for the tokens after the first."""
    wall, cpu = timed(lambda: generate(model, rows, ANSWER + 1))
    first_wall, first_cpu = timed(lambda: generate(model, rows, 1))
    return wall - first_wall, cpu - first_cpu


def whole_bfloat16(spec: str) -> LocalModel:
    """The model as transformers runs it in bfloat16."""
    model = loaded(spec, "bfloat16")
    model.module.to(torch.bfloat16)
    model.products = None
    return model


def compared(
    models: dict[str, LocalModel], rounds: int, tokens: int, work: Callable[[LocalModel], tuple[float, float]]
) -> dict[str, Any]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for number in range(rounds + 1):  # the first is to warm up
        for name, model in models.items():
            took = work(model)
            if number:
                times[name].append(took)
    found: dict[str, Any] = {name: speeds(tokens, each) for name, each in times.items()}
    found["bfloat16_over_float32"] = {
        unit: round(found["bfloat16"][unit] / speed, 2) for unit, speed in found["float32"].items()
    }
    return found


def prefill(models: dict[str, LocalModel], rounds: int) -> dict[str, Any]:
    found = {}
    for count, length in ((1, 512), (8, 128), (1, 2048)):
        rows = random_rows(count, length)
        found[f"{count}x{length}"] = compared(
            models, rounds, count * length, lambda model, rows=rows: timed(lambda: generate(model, rows, 1))
        )
    return found


def decode(models: dict[str, LocalModel], rounds: int) -> dict[str, Any]:
    found = {}
    for count in (1, 8):
        rows = random_rows(count, 64)
        found[str(count)] = compared(models, rounds, count * ANSWER, lambda model, rows=rows: decoding(model, rows))
    return found


def batches(models: dict[str, LocalModel], _: int) -> dict[str, Any]:
    model, rows = models["bfloat16"], random_rows(32, 256)
    found = {}
    for size in (4, 8, 16, 32):
        model.batch_size = size
        wall, cpu = timed(lambda: generate(model, rows, 8))
        found[str(size)] = {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}
    return found


def processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"unknown, {os.cpu_count()} cores"


PARTS = {"prefill": prefill, "decode": decode, "batches": batches}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="spec of the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--part", choices=["load", *PARTS], nargs="+", default=["load", *PARTS])
    options = parser.parse_args()
    facts: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    facts.update(
        model=options.model, processor=processor(), torch=torch.__version__, transformers=transformers.__version__
    )
    if "load" in options.part:
        facts["load"] = load(options.model, options.rounds)
    models = {dtype: loaded(options.model, dtype) for dtype in DTYPES}
    models["whole bfloat16"] = whole_bfloat16(options.model)
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name in set(options.part) & PARTS.keys():
            facts.setdefault(f"threads={threads}", {})[name] = PARTS[name](models, options.rounds)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
