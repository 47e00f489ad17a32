"""Example selectors beside their peers: time as ratios taken in turn, memory, growth, and what they find.

Sentences come from the docstrings of installed libraries. Ids and order are asserted to be those of the peer. Quality
is measured on banking77 and clinc150, where they are at hand. Needs ``pip install langchain-community`` beside the
extras ``all`` and ``dev``. ``python benchmarks/update_readme.py`` makes the README's tables from ``results/``.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import platform
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from ragkit import BM25Selector, EmbeddingSelector, Example, JaccardSelector, NgramSelector, Task, load_selector
from ragkit._lexical.scorer import load_kernels
from ragkit.selectors import check_pool

HERE = Path(__file__).parent
DATA = Path(os.environ.get("RAGKIT_DATA", HERE.parents[1] / "../shared/data")) / "classification"
K = 8
ROUNDS = 5
SOURCES = ("numpy", "scipy", "sklearn", "pandas", "matplotlib", "torch", "transformers", "datasets", "sympy")


def sentences(count: int) -> list[str]:
    """Different sentences of 4 to 25 words, the same ones for the same installed versions."""
    found: dict[str, None] = {}
    for name in SOURCES:
        spec = importlib.util.find_spec(name)
        for path in sorted(Path(spec.origin).parent.rglob("*.py")) if spec and spec.origin else ():
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                    for sentence in re.split(r"(?<=[.!?])\s+", ast.get_docstring(node) or ""):
                        words = sentence.split()
                        if 4 <= len(words) <= 25:
                            found.setdefault(" ".join(words))
            if len(found) >= count:
                return list(found)[:count]
    return list(found)


def longer(texts: Sequence[str], count: int) -> list[str]:
    """As many texts as asked for: those given, then halves of them put together anew."""
    rng, made = Random(0), dict.fromkeys(texts[:count])
    while len(made) < count:
        one, two = rng.choice(texts).split(" "), rng.choice(texts).split(" ")
        made.setdefault(" ".join(one[: len(one) // 2] + two[len(two) // 2 :]))
    return list(made)


def in_turn(ways: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each way; they take turns, so that a slow moment of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, work in ways.items():
            started = perf_counter()
            work()
            times[name].append(perf_counter() - started)
    return {name: median(measured[1:]) for name, measured in times.items()}  # the first warms up


def examples(texts: Sequence[str]) -> list[Example]:
    return [Example(text, "out") for text in texts]


def ids(selector: object, query: str) -> list[int]:
    return [int(hit.id) for hit in selector.select(query, K).hits]  # type: ignore[attr-defined]


def jaccard(pool: list[str], queries: list[str]) -> dict[str, object]:
    def naive(query: str) -> list[int]:
        scored = []
        for row, text in enumerate(pool):
            a, b = set(query.split(" ")), set(text.split(" "))
            scored.append((len(a & b) / len(a | b), row))
        return [row for _, row in sorted(scored, key=lambda pair: -pair[0])[:K]]

    sets = [set(text.split(" ")) for text in pool]

    def cached(query: str) -> list[int]:
        a = set(query.split(" "))
        scores = [len(a & b) / len(a | b) for b in sets]
        return sorted(range(len(scores)), key=lambda row: -scores[row])[:K]

    selector = JaccardSelector(examples(pool), mode="split")
    few = queries[:4]
    assert [ids(selector, query) for query in few] == [naive(query) for query in few] == [cached(q) for q in few]
    many = queries[:200]
    seconds = in_turn(
        {
            "naive": lambda: [naive(query) for query in few],
            "cached": lambda: [cached(query) for query in few],
            "ours": lambda: [selector.select(query, K) for query in many],
            "ours, numpy": lambda: [selector.scorer._top(query, K, None) for query in many],
        }
    )
    ours, plain = seconds["ours"] / len(many), seconds["ours, numpy"] / len(many)
    lists = selector.scorer.lists
    return {
        "rows": len(pool),
        "naive_ms": 1000 * seconds["naive"] / len(few),
        "cached_sets_ms": 1000 * seconds["cached"] / len(few),
        "ours_ms": 1000 * ours,
        "ours_numpy_ms": 1000 * plain,
        "times_naive": seconds["naive"] / len(few) / ours,
        "times_cached": seconds["cached"] / len(few) / ours,
        "times_naive_numpy": seconds["naive"] / len(few) / plain,
        "bytes_a_row": lists.nbytes / len(pool),
        "tokens_a_row": float(lists.distinct.mean()),
    }


def batches(pool: list[str], queries: list[str]) -> dict[str, object]:
    facts: dict[str, object] = {"queries": len(queries), "cores": os.cpu_count()}
    for selector in (JaccardSelector(examples(pool)), BM25Selector(examples(pool))):
        assert selector.select_many(queries, K) == [selector.select(query, K) for query in queries]
        work: dict[str, Callable[[], object]] = {
            "loop": lambda s=selector: [s.select(query, K) for query in queries],  # type: ignore[misc]
            "many": lambda s=selector: s.select_many(queries, K),  # type: ignore[misc]
        }
        seconds = in_turn(work)
        facts[f"{selector.scorer.name}_share_of_a_loop"] = seconds["many"] / seconds["loop"]
    return facts


def bm25(pool: list[str], queries: list[str]) -> dict[str, object]:
    import bm25s

    selector = BM25Selector(examples(pool))
    analyzer = selector.analyzer
    peer = bm25s.BM25(method="lucene", k1=selector.k1, b=selector.b, backend="numba")
    peer.index([analyzer(text) for text in pool], show_progress=False)

    def asked(query: str) -> list[list[str]]:
        return [list(dict.fromkeys(analyzer(query)))]  # a repeated term counts once

    for query in queries[:50]:
        mine = selector.select(query, K).hits
        theirs = peer.retrieve(asked(query), k=K, show_progress=False).scores[0]
        # Its float32 sums cannot tell near ties apart, so scores are compared instead of ids.
        assert np.allclose([hit.score for hit in mine], theirs, atol=1e-4)
    some = queries[:200]
    seconds = in_turn(
        {
            "ours": lambda: [selector.select(query, K) for query in some],
            "bm25s": lambda: [peer.retrieve(asked(query), k=K, show_progress=False) for query in some],
        }
    )
    return {
        "rows": len(pool),
        "ours_ms": 1000 * seconds["ours"] / len(some),
        "bm25s_numba_ms": 1000 * seconds["bm25s"] / len(some),
        "times_bm25s": seconds["ours"] / seconds["bm25s"],
    }


def ngrams(pool: list[str], queries: list[str]) -> dict[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.example_selectors import NGramOverlapExampleSelector
    from langchain_core.prompts import PromptTemplate

    selector = NgramSelector(examples(pool))
    rows = [{"input": text, "row": str(row)} for row, text in enumerate(pool)]
    prompt = PromptTemplate(input_variables=["input"], template="{input}")
    peer = NGramOverlapExampleSelector(examples=rows, example_prompt=prompt, threshold=-1.0)
    few = queries[:2]
    for query in few:
        theirs = [int(row["row"]) for row in peer.select_examples({"input": query})[:K]]
        assert ids(selector, query) == theirs
    some = queries[:100]
    seconds = in_turn(
        {
            "ours": lambda: [selector.select(query, K) for query in some],
            "langchain": lambda: [peer.select_examples({"input": query}) for query in few],
        },
        rounds=3,
    )
    ours, theirs_s = seconds["ours"] / len(some), seconds["langchain"] / len(few)
    return {
        "rows": len(pool),
        "ours_ms": 1000 * ours,
        "langchain_ms": 1000 * theirs_s,
        "times_langchain": theirs_s / ours,
    }


def mmr() -> dict[str, object]:
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

    from ragkit._mmr import mmr as ours

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(100, 384))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[:5].mean(axis=0)
    query /= np.linalg.norm(query)
    listed = list(vectors)
    theirs = maximal_marginal_relevance(query, listed, lambda_mult=0.7, k=K)
    assert ours(query, vectors, K, 0.7)[0].tolist() == theirs
    seconds = in_turn(
        {
            "ours": lambda: [ours(query, vectors, K, 0.7) for _ in range(200)],
            "langchain": lambda: [maximal_marginal_relevance(query, listed, lambda_mult=0.7, k=K) for _ in range(5)],
        }
    )
    mine, peer = seconds["ours"] / 200, seconds["langchain"] / 5
    return {"candidates": 100, "ours_ms": 1000 * mine, "langchain_ms": 1000 * peer, "times_langchain": peer / mine}


class Given:
    """Vectors that were computed before: a text is the number of its row."""

    name, fingerprint = "given", "given"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.dim = vectors, vectors.shape[1]

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return self.vectors[[int(text) for text in texts]]

    embed_queries = embed_documents


def embedding(rows: int) -> dict[str, object]:
    import faiss

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(rows + 200, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    selector = EmbeddingSelector(examples([str(row) for row in range(rows)]), embedder=Given(vectors))
    index = faiss.IndexFlatIP(384)
    index.add(vectors[:rows])
    queries = [str(row) for row in range(rows, rows + 50)]
    batch = vectors[rows : rows + 50]
    for query, found in zip(queries, index.search(batch, K)[1].tolist(), strict=True):
        assert ids(selector, query) == found
    seconds = in_turn(
        {
            "faiss, one by one": lambda: [index.search(batch[at : at + 1], K) for at in range(50)],
            "ours, one by one": lambda: [selector.select(query, K) for query in queries],
            "faiss, batch": lambda: index.search(batch, K),
            "ours, batch": lambda: selector.select_many(queries, K),
        }
    )
    return {
        "rows": rows,
        "faiss_ms": 1000 * seconds["faiss, one by one"] / 50,
        "ours_ms": 1000 * seconds["ours, one by one"] / 50,
        "times_faiss": seconds["ours, one by one"] / seconds["faiss, one by one"],
        "times_faiss_batch": seconds["ours, batch"] / seconds["faiss, batch"],
    }


def growth(texts: list[str], queries: list[str], most: int) -> list[dict[str, float]]:
    points = []
    size = 1000
    while size <= most:
        pool = examples(longer(texts, size))
        point: dict[str, float] = {"rows": size}
        for kind in (JaccardSelector, BM25Selector):
            started = perf_counter()
            selector = kind(pool)  # type: ignore[operator]
            point[f"{selector.scorer.name}_build_s"] = perf_counter() - started
            work = {"ours": lambda s=selector: [s.select(query, K) for query in queries[:50]]}
            point[f"{selector.scorer.name}_ms"] = 1000 * in_turn(work, rounds=3)["ours"] / 50  # type: ignore[arg-type]
            point[f"{selector.scorer.name}_bytes_a_row"] = selector.scorer.lists.nbytes / size
            del selector
        points.append(point)
        print(point, flush=True)
        size *= 10 if size * 10 <= most or size == most else 2
    return points


SPECS = (
    "random",
    "jaccard",
    "tfidf",
    "bm25",
    "embedding",
    "hybrid",
    "bm25 | label-nearest",
    "bm25 | mmr",
    "bm25 | dpp",
    "bm25 | coverage",
    "embedding | label-nearest",
    "hybrid | label-nearest",
)


def quality(name: str) -> dict[str, object]:
    """The share of test rows whose label is shown, leaked rows kept; of all rows and of every third one.

    Rows out of scope, which clinc150 labels "oos", are left out: they are like nothing in the pool by design.
    """
    task = Task.from_jsonl(DATA / f"{name}.jsonl")
    task = replace(task, test=[row for row in task.test if row.output != "oos"])
    from ragkit import load_embedder
    from ragkit.embedders._caching import RememberingEmbedder

    embedder = RememberingEmbedder(load_embedder("minilm"))
    queries, gold = [row.input for row in task.test], [row.output for row in task.test]
    rows = []
    for spec in SPECS:
        selector = load_selector(spec, task.examples, embedder=embedder)
        shown = selector.select_many(queries, K)
        first = [chosen[0].output == right for chosen, right in zip(shown, gold, strict=True)]
        among = [right in {e.output for e in chosen} for chosen, right in zip(shown, gold, strict=True)]
        rows.append({"selector": spec, "at_1": float(np.mean(first)), "at_8": float(np.mean(among)),
                     "at_8_every_third": float(np.mean(among[::3]))})  # fmt: skip
        print(name, rows[-1], flush=True)
    found = check_pool(task.examples, task.test)
    return {
        "name": name,
        "test_rows": len(gold),
        "rows": rows,
        "leaked_test_rows": len(found.leaks),
        "nearly_leaked_test_rows": len(found.near_leaks),
        "duplicates": len(found.duplicates),
        "conflicts": len(found.conflicts),
    }


def plot(points: list[dict[str, float]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for measure in ("jaccard", "bm25"):
        axes.plot([p["rows"] for p in points], [p[f"{measure}_ms"] for p in points], marker="o", label=measure)
    axes.set(xscale="log", yscale="log", xlabel="examples in the pool", ylabel="milliseconds a query")
    axes.legend()
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(HERE / "results/growth.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=["speed", "growth", "quality"])
    parser.add_argument("--most", type=int, default=1_000_000, help="largest pool of the growth curve")
    given = parser.parse_args()
    out = HERE / "results/selectors.json"
    out.parent.mkdir(exist_ok=True)
    facts = json.loads(out.read_text()) if out.is_file() else {}
    facts["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "compiled": load_kernels() is not None,
    }
    texts = sentences(51_000)
    pool, queries = texts[:50_000], texts[50_000:]
    if "speed" in given.only:
        facts["jaccard"] = jaccard(pool, queries)
        facts["batches"] = batches(pool, queries)
        facts["bm25"] = bm25(pool, queries)
        facts["ngram"] = ngrams(pool[:10_000], queries)
        facts["mmr"] = mmr()
        facts["embedding"] = embedding(50_000)
        print(json.dumps({name: value for name, value in facts.items() if isinstance(value, dict)}, indent=1))
    if "growth" in given.only:
        facts["growth"] = growth(texts, queries, given.most)
        plot(facts["growth"])
    if "quality" in given.only:
        names = [name for name in ("banking77", "clinc150") if (DATA / f"{name}.jsonl").is_file()]
        if not names:
            warnings.warn(f"no data at {DATA}: quality is left out", stacklevel=1)
        facts["quality"] = [quality(name) for name in names] or facts.get("quality", [])
    out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
