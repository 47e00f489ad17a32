"""LangChain's own stores, langchain-community's FAISS and ours behind the same calls of LangChain.

All of them get the same embeddings object, whose vectors are there already, so that the stores are measured and not a
model. One thread, whose seconds on the processor count; ways take turns in one run, and medians are kept; then those of
several builds of the stores: where the memory of one happens to lie makes a scan up to a quarter slower. The community
package is measured where it is installed (``pip install langchain-community``). Results: ``results/langchain.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from langchain_core.documents import Document  # noqa: TID253
from langchain_core.embeddings import Embeddings  # noqa: TID253
from langchain_core.example_selectors import SemanticSimilarityExampleSelector  # noqa: TID253
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore  # noqa: TID253
from numpy.typing import NDArray

from ragkit._extras import is_installed
from ragkit.langchain import RagkitExampleSelector, RagkitVectorStore

HERE = Path(__file__).parent
DIM, K, PARTS, BATCH = 384, 10, 100, 256
SLOW = 20_000  # rows from which the store in pure Python is given fewer queries and rounds
Vectors = NDArray[np.float32]


class Given(Embeddings):
    """Vectors that were computed before: a text ends with the number of its row."""

    def __init__(self, stored: Vectors, asked: Vectors) -> None:
        self.stored, self.asked = stored, asked

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.stored[self._row(text)].tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self.asked[self._row(text)].tolist()
        return vector

    @staticmethod
    def _row(text: str) -> int:
        last = text.rsplit(" ", 1)[-1]
        return int(last) if last.isdecimal() else 0


def unit(count: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal(size=(count, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def documents(count: int) -> list[Document]:
    return [
        Document(f"text number {n}", id=f"id{n}", metadata={"part": n % PARTS, "answer": str(n)}) for n in range(count)
    ]


def stores(count: int, embeddings: Given) -> dict[str, VectorStore]:
    made: dict[str, VectorStore] = {"ragkit": RagkitVectorStore(embeddings)}
    made["ragkit"].add_documents(documents(count))
    made["langchain-core"] = InMemoryVectorStore(embeddings)
    made["langchain-core"].add_documents(documents(count))
    if is_installed("langchain_community"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from langchain_community.vectorstores import FAISS
            from langchain_community.vectorstores.utils import DistanceStrategy

            strategy = DistanceStrategy.MAX_INNER_PRODUCT
            made["langchain-community"] = FAISS.from_documents(documents(count), embeddings, distance_strategy=strategy)
    return made


def timed(ways: Mapping[str, Callable[[int], object]], count: int, sizes: Mapping[str, int]) -> dict[str, float]:
    """Median milliseconds of the processor for a query; ways take turns, and every call asks other queries.

    Args:
        ways: What is called with the number of the call.
        count: Rows of the store.
        sizes: Queries of one call.
    """
    calls = (
        10 if count <= SLOW and max(sizes.values()) == 1 else 1
    )  # in a row, so that a clock tick is short beside them
    rounds = dict.fromkeys(ways, 15)
    if max(sizes.values()) > 1:
        rounds = dict.fromkeys(ways, 7)
    if count > SLOW:
        rounds["langchain-core"] = 2
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(max(rounds.values()) + 1):
        for name, work in ways.items():
            if turn <= rounds[name]:
                started = process_time()
                for call in range(turn * calls, (turn + 1) * calls):
                    work(call)
                times[name].append((process_time() - started) / calls)
    return {name: round(1000 * median(each[1:]) / sizes.get(name, 1), 4) for name, each in times.items()}


def right(found: Sequence[Document], scores: Vectors, keep: NDArray[np.bool_]) -> int:
    """How many of the K documents that should be found were."""
    order = [n for n in np.argsort(-scores, kind="stable") if keep[n]][:K]
    return len({document.id for document in found} & {f"id{n}" for n in order})


def measure(count: int) -> dict[str, Any]:
    stored, asked = unit(count, 0), unit(2000, 1)
    embeddings = Given(stored, asked)
    made = stores(count, embeddings)
    filters: dict[str, Any] = {name: {"part": 7} for name in made}
    filters["langchain-core"] = lambda document: document.metadata["part"] == 7
    ours, slow = made["ragkit"], count > SLOW
    sizes = {name: 4 if slow and name == "langchain-core" else BATCH for name in made}
    retrievers = {name: store.as_retriever(search_kwargs={"k": K}) for name, store in made.items()}

    def asking(name: str, work: Callable[[VectorStore, str], object]) -> Callable[[int], object]:
        return lambda turn: work(made[name], f"query {turn % 2000}")

    def batching(name: str) -> Callable[[int], object]:
        return lambda turn: retrievers[name].batch(
            [f"query {(turn * sizes[name] + n) % 2000}" for n in range(sizes[name])]
        )

    def filtered(name: str, **more: Any) -> Callable[[int], object]:
        return lambda turn: made[name].similarity_search(f"query {turn}", k=K, filter=filters[name], **more)

    filter_ways = {name: filtered(name) for name in made}
    if "langchain-community" in made:
        filter_ways["langchain-community, fetch_k = all"] = filtered("langchain-community", fetch_k=count)
    selectors: dict[str, Any] = {
        name: SemanticSimilarityExampleSelector(vectorstore=store, k=8, input_keys=["question"])
        for name, store in made.items()
        if name != "ragkit"
    }
    pool = [{"question": f"text number {n}", "answer": str(n)} for n in range(count)]
    selectors["ragkit"] = RagkitExampleSelector.from_examples(
        pool, embeddings, 8, input_key="question", output_key="answer"
    )
    gc.collect()
    gc.freeze()  # what was built is not looked through again while searches are timed
    for n in range(300 if count <= SLOW else 1):
        for store in made.values():
            store.similarity_search(f"query {n}", k=K)
    one = dict.fromkeys([*filter_ways, *made], 1)
    facts: dict[str, Any] = {
        "single_ms": timed({n: asking(n, lambda s, q: s.similarity_search(q, k=K)) for n in made}, count, one),
        "invoke_ms": timed({n: lambda turn, r=r: r.invoke(f"query {turn}") for n, r in retrievers.items()}, count, one),
        "batch_ms": timed({n: batching(n) for n in made}, count, sizes),
        "filtered_ms": timed(filter_ways, count, one),
        "mmr_ms": timed(
            {n: asking(n, lambda s, q: s.max_marginal_relevance_search(q, k=K, fetch_k=50)) for n in made}, count, one
        ),
        "selection_ms": timed(
            {n: lambda turn, s=s: s.select_examples({"question": f"query {turn}"}) for n, s in selectors.items()},
            count,
            one,
        ),
    }
    scores, part = stored @ asked[0], np.arange(count) % PARTS == 7
    everything = np.ones(count, dtype=np.bool_)
    facts["found_of_10"] = {n: right(s.similarity_search("query 0", k=K), scores, everything) for n, s in made.items()}
    facts["found_of_10_filtered"] = {
        name: right(way(0), scores, part)  # type: ignore[arg-type]
        for name, way in filter_ways.items()
    }
    ours.index.close()  # type: ignore[attr-defined]
    return facts


def middle(builds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each time over builds; what was found, of the worst one."""
    return {
        name: {way: (median if name.endswith("_ms") else min)(each[name][way] for each in builds) for way in ways}
        for name, ways in builds[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--builds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "langchain.json")
    options = parser.parse_args()
    facts: dict[str, Any] = {
        "dim": DIM,
        "k": K,
        "batch": BATCH,
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("langchain-core", "langchain-community", "faiss-cpu")
            if is_installed(name.removesuffix("-cpu").replace("-", "_"))
        },
    }  # fmt: skip
    for count in options.rows:
        facts[f"rows_{count}"] = {"builds": options.builds, **middle([measure(count) for _ in range(options.builds)])}
        print(count, json.dumps(facts[f"rows_{count}"], indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
