"""MiniLM on the CPU: sentence-transformers by default beside our two backends, in one process, in CPU seconds.

One thread, the contenders in turn, the median of several rounds. The share of the machine's peak says how much could be
gained at all: multiplications of matrices in float32 are nearly all of the work, and no backend is faster at them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray

from ragkit import load_embedder
from ragkit.embedders._sentence_transformer import minilm_folder

ROOT = Path(__file__).parents[2]
PER_TOKEN = 6 * 2 * 12 * 384**2  # operations of six layers' twelve 384 x 384 blocks; attention itself left out
FIRST_VECTOR = {
    "sentence-transformers": "from sentence_transformers import SentenceTransformer as S; "
    "from ragkit.embedders._sentence_transformer import minilm_folder as f; S(str(f()), device='cpu').encode(['lamp'])",
    "onnx:minilm": "from ragkit import load_embedder; load_embedder('onnx:minilm').embed_queries(['lamp'])",
}


def corpora(seed: int) -> dict[str, list[str]]:
    """Runs of words of our own pages: one question, short ones, long ones, and lengths spread evenly on a log scale."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    words = re.findall(r"[A-Za-z']+", " ".join(page.read_text(encoding="utf-8") for page in pages))
    rng = random.Random(seed)

    def some(number: int, length: Callable[[], int]) -> list[str]:
        texts = []
        for _ in range(number):
            count = length()
            start = rng.randrange(len(words) - count)
            texts.append(" ".join(words[start : start + count]))
        return texts

    return {
        "one question of 10 tokens": some(1, lambda: 7),
        "20 tokens": some(128, lambda: 15),
        "128 tokens": some(32, lambda: 97),
        "5 to 200 words": some(256, lambda: round(5 * 40 ** rng.random())),
    }


def seconds(work: Callable[[], object], repeat: int) -> float:
    started = process_time()
    for _ in range(repeat):
        work()
    return (process_time() - started) / repeat


def peak(rounds: int) -> float:
    """Operations a second of one thread in a product of matrices of the model's shapes."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=shape).astype(np.float32) for shape in ((512, 384), (384, 1536)))
    return 2 * 512 * 384 * 1536 / min(seconds(lambda: left @ right, 20) for _ in range(rounds))


def fidelity(expected: NDArray[np.float32], found: NDArray[np.float32]) -> dict[str, float | None]:
    nearest = [np.argsort(-(vectors @ vectors.T), axis=1)[:, 1:11] for vectors in (expected, found)]
    alike = [len(set(one) & set(other)) / 10 for one, other in zip(*nearest, strict=True)]
    return {
        "mean_cosine": float((expected * found).sum(axis=1).mean()),
        "largest_difference": float(np.abs(expected - found).max()),
        "top_10_overlap": float(np.mean(alike)) if len(expected) > 10 else None,
    }


def measured(contenders: dict[str, Callable[[Sequence[str]], Any]], texts: list[str], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    repeat = 20 if len(texts) == 1 else 1
    for _ in range(rounds):  # in turn, so that a slow moment of the machine meets all
        for name, embed in contenders.items():
            times[name].append(seconds(lambda embed=embed: embed(texts), repeat))
    return {name: median(each) for name, each in times.items()}


def first_vectors(rounds: int) -> dict[str, float]:
    """Wall seconds of a new process until it has a vector; the export is there already."""
    times: dict[str, list[float]] = {name: [] for name in FIRST_VECTOR}
    for _ in range(rounds):
        for name, code in FIRST_VECTOR.items():
            started = perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            times[name].append(perf_counter() - started)
    return {name: median(each) for name, each in times.items()}


def machine() -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    names = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    flags = re.search(r"^flags\s*: (.*)$", text, re.MULTILINE)
    wanted = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"}
    return {
        "processor": names or platform.processor(),
        "instructions": sorted(wanted & set(flags.group(1).split())) if flags else [],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "sentence-transformers", "onnxruntime", "numpy")},
        "gigaflops_of_a_matrix_product": peak(9) / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/embedding.json")
    given = parser.parse_args()
    from sentence_transformers import SentenceTransformer

    facts = machine()
    theirs = SentenceTransformer(str(minilm_folder()), device="cpu")
    contenders: dict[str, Callable[[Sequence[str]], Any]] = {
        "sentence-transformers": lambda texts: theirs.encode(list(texts)),
        "minilm": load_embedder("minilm").embed_documents,
        "onnx:minilm": load_embedder("onnx:minilm").embed_documents,
    }
    if {"avx512_bf16", "amx_bf16"} & set(facts["instructions"]):  # type: ignore[call-overload]
        contenders["minilm bfloat16"] = load_embedder("minilm", dtype="bfloat16").embed_documents
    rows = []
    for corpus, texts in corpora(given.seed).items():
        vectors = {name: np.asarray(embed(texts)) for name, embed in contenders.items()}  # also warms up
        times = measured(contenders, texts, given.rounds)
        tokens = sum(len(ids) for ids in theirs.tokenizer(texts, truncation=True, max_length=256)["input_ids"])
        for name, each in times.items():
            rows.append(
                {
                    "corpus": corpus,
                    "texts": len(texts),
                    "tokens_a_text": tokens / len(texts),
                    "backend": name,
                    "texts_a_cpu_second": len(texts) / each,
                    "times_as_fast": times["sentence-transformers"] / each,
                    "share_of_peak": tokens * PER_TOKEN / each / (1e9 * facts["gigaflops_of_a_matrix_product"]),  # type: ignore[operator]
                    **fidelity(vectors["sentence-transformers"], vectors[name]),
                }
            )
            print({key: round(value, 7) if isinstance(value, float) else value for key, value in rows[-1].items()})
    result = {
        "machine": facts,
        "rounds": given.rounds,
        "threads": 1,
        "seconds_to_the_first_vector": first_vectors(3),
        "rows": rows,
    }
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["seconds_to_the_first_vector"]))


if __name__ == "__main__":
    main()
