"""The defaults of lexical scoring, by measurement: stemming, stop words, repeated query words, k1, b and fusion.

Each setting is measured on seven judged collections (nDCG@10) and on four classification sets: the accuracy of a vote
of the 8 best examples, as of the strategy ``vote:bm25``, and the share of queries whose label is among these 8. The
chosen settings are the defaults of `BM25Selector` and `BM25Retriever`; the script asserts that both give the measured
values. The part ``fusion`` embeds all texts by MiniLM, which takes long, and keeps the vectors in ``--cache``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import log2, sqrt
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit import BM25Retriever, BM25Selector, Document, Example, load_embedder
from ragkit._lexical.analysis import STOP_WORDS, Analyzer, WordAnalyzer
from ragkit._lexical.bm25 import BM25, K1, LANGUAGE, B
from ragkit._lexical.fusion import fuse
from ragkit._lexical.postings import PostingLists
from ragkit._lexical.tie_breaking import Ranking, top_k
from ragkit._text import words
from ragkit.evaluation import evaluate_retrieval

HERE = Path(__file__).parent
RETRIEVAL = ("adi", "pubmedqa", "scifact", "cranfield", "medline", "hotpotqa_100", "xquad_en")
CLASSIFICATION = ("banking77", "clinc150", "snips", "trec6")
DEPTH = 100
ROWS = 2000  # of longer test sets every third row is measured

Values = dict[str, NDArray[np.float64]]
"""A value of each query by collection."""


@dataclass(frozen=True)
class Collection:
    """Texts, queries and what is right: judgements by query and text, or labels."""

    name: str
    texts: list[str]
    queries: list[str]
    ids: list[str]  # of texts; the labels of a classification set
    right: list[Any]  # for each query a mapping from id to grade, or a label

    @property
    def judged(self) -> bool:
        return self.name in RETRIEVAL

    def value(self, rows: Sequence[int], query: int) -> float:
        """NDCG@10 of a ranking; for a classification set whether a vote of the best 8 is right."""
        return ndcg([self.ids[row] for row in rows], self.right[query]) if self.judged else self.vote(rows, query)

    def vote(self, rows: Sequence[int], query: int) -> float:
        labels = Counter(self.ids[row] for row in rows[:8]).most_common(1)
        return float(bool(labels) and labels[0][0] == self.right[query])

    def among(self, rows: Sequence[int], query: int) -> float:
        return float(self.right[query] in {self.ids[row] for row in rows[:8]})


def ndcg(found: Sequence[str], grades: Mapping[str, float]) -> float:
    gain = sum(grades.get(own, 0.0) / log2(rank + 1) for rank, own in enumerate(found[:10], 1))
    ideal = sum(grade / log2(rank + 1) for rank, grade in enumerate(sorted(grades.values(), reverse=True)[:10], 1))
    return gain / ideal if ideal else 0.0


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def judged(folder: Path) -> Collection:
    grades: dict[str, dict[str, float]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, own, grade = line.split("\t")
        grades.setdefault(query, {})[own] = float(grade)
    documents = rows_of(folder / "corpus.jsonl")
    queries = [row for row in rows_of(folder / "queries.jsonl") if row["id"] in grades]
    return Collection(
        folder.name,
        [f"{row['title']}\n{row['text']}".strip() for row in documents],
        [row["text"] for row in queries],
        [row["id"] for row in documents],
        [grades[row["id"]] for row in queries],
    )


def classified(path: Path) -> Collection:
    rows = rows_of(path)
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    test = test[::3] if len(test) > ROWS else test
    inputs, outputs = ([row[name] for row in train] for name in ("input", "output"))
    return Collection(path.stem, inputs, [row["input"] for row in test], outputs, [row["output"] for row in test])


class CountingBM25(BM25):
    """BM25 in which a term counts as often as the query repeats it."""

    @override
    def _query_weights(self, terms: Sequence[str]) -> Mapping[int, float]:
        known = self.lists.columns
        return {known[term]: float(times) for term, times in Counter(terms).items() if term in known}


def filled(ranking: Ranking, k: int) -> list[int]:
    """The rows of a ranking, and after them the first rows of the pool, as a selector gives them."""
    rows: list[int] = ranking.rows.tolist()
    return rows + [row for row in range(k) if row not in rows][: k - len(rows)]


def singular(word: str) -> str:
    """A word without the ending of a plural: the s-stemmer of Harman (1991)."""
    if len(word) > 4 and word.endswith("ies") and word[-4] not in "ea":
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    return word.removesuffix("s") if len(word) > 2 and word[-2] not in "us" else word


def without_stop_words(analyzer: Analyzer) -> Analyzer:
    return lambda text: analyzer(" ".join(word for word in words(text) if word not in STOP_WORDS))


ANALYZERS: dict[str, Analyzer] = {
    "whole words": WordAnalyzer(None),
    "without plurals": lambda text: [singular(word) for word in words(text)],
    "stems": WordAnalyzer("english"),
}


def measured(each: Collection, scorer: BM25) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each query the value of the ranking, and whether the label is among the best 8 (0 without labels)."""
    found = scorer.best(each.queries, 10)
    rows = [ranking.rows.tolist() if each.judged else filled(ranking, 8) for ranking in found]
    values = np.array([each.value(own, query) for query, own in enumerate(rows)])
    return values, np.array([0.0 if each.judged else each.among(own, query) for query, own in enumerate(rows)])


def means(values: Values, names: Iterable[str]) -> dict[str, float]:
    found = {name: round(float(values[name].mean()), 4) for name in names if name in values}
    return {"mean": round(float(np.mean(list(found.values()))), 4), **found}


def difference(values: Values, chosen: Values, names: Iterable[str]) -> list[float]:
    """The mean over collections of the mean difference to the chosen setting, and half its 95 % interval."""
    gaps = [values[name] - chosen[name] for name in names if name in values]
    spread = 1.96 * sqrt(sum(gap.var(ddof=1) / len(gap) for gap in gaps)) / len(gaps)
    return [round(float(np.mean([gap.mean() for gap in gaps])), 4), round(spread, 4)]


class Measurements:
    """The values of settings, and a row of the results for each."""

    def __init__(self) -> None:
        self.values: dict[tuple[object, ...], Values] = {}
        self.among: dict[tuple[object, ...], Values] = {}

    def measure(self, setting: tuple[object, ...], each: Collection, scorer: BM25) -> None:
        value, among = measured(each, scorer)
        self.values.setdefault(setting, {})[each.name] = value
        self.among.setdefault(setting, {})[each.name] = among

    def rows(self, names: Sequence[str], chosen: tuple[object, ...]) -> list[dict[str, object]]:
        made = []
        for setting, values in self.values.items():
            row: dict[str, object] = dict(zip(names, setting, strict=True))
            row |= {"ndcg@10": means(values, RETRIEVAL), "vote": means(values, CLASSIFICATION)}
            row |= {"label_among_8": means(self.among[setting], CLASSIFICATION)}
            row["ndcg_less_chosen"] = difference(values, self.values[chosen], RETRIEVAL)
            row["vote_less_chosen"] = difference(values, self.values[chosen], CLASSIFICATION)
            made.append(row)
            print(json.dumps(row), flush=True)
        return made


def settings(collections: Sequence[Collection]) -> dict[str, object]:
    analysis, grid = Measurements(), Measurements()
    for each in collections:
        for (name, analyzer), stop in product(ANALYZERS.items(), (False, True)):
            lists = PostingLists(without_stop_words(analyzer) if stop else analyzer)
            lists.add(each.texts)
            for kind in (BM25, CountingBM25):
                analysis.measure((name, stop, kind is CountingBM25), each, kind(lists))
            if (name, stop) == ("stems", False):
                for k1, b in product((0.6, 0.9, 1.2, 1.5, 2.0), (0.3, 0.5, 0.75, 0.9)):
                    grid.measure((k1, b), each, BM25(lists, k1=k1, b=b))
        assert_defaults(each, grid.values[K1, B][each.name])
    return {
        "chosen": {"language": LANGUAGE, "stop_words": False, "repeated_words_count": False, "k1": K1, "b": B},
        "analysis": analysis.rows(("words", "without_stop_words", "repeated_words_count"), ("stems", False, False)),
        "k1_and_b": grid.rows(("k1", "b"), (K1, B)),
    }


def assert_defaults(each: Collection, expected: NDArray[np.float64]) -> None:
    """Selector and retriever, as they are by default, give the values that were measured, and the same scores."""
    retriever = BM25Retriever([Document(text, id=str(row)) for row, text in enumerate(each.texts)])
    selector = BM25Selector(
        [Example(text, own, id=str(row)) for row, (text, own) in enumerate(zip(each.texts, each.ids, strict=True))]
    )
    chosen = selector.select_many(each.queries, 10)
    for hits, shown in zip(retriever.retrieve(each.queries, 10), chosen, strict=True):
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in shown.hits if hit.score > 0]
    found = [[int(hit.id) for hit in shown.hits if hit.score > 0 or not each.judged] for shown in chosen]
    assert [each.value(rows, query) for query, rows in enumerate(found)] == expected.tolist()
    if each.judged:  # our nDCG is that of ir-measures
        by_id = dict(enumerate(each.ids))
        queries = {str(n): query for n, query in enumerate(each.queries)}
        qrels = {
            str(n): {str(row): int(grades[own]) for row, own in by_id.items() if own in grades}
            for n, grades in enumerate(each.right)
        }
        report = evaluate_retrieval(retriever, queries, qrels)
        assert abs(report["ndcg@10"] - expected.mean()) < 1e-9, (report["ndcg@10"], expected.mean())


def by_constant(constant: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda scores: 1 / (constant + np.arange(1, len(scores) + 1))


def from_the_last(scores: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    return (scores - scores.min()) / scale if scale else np.ones(len(scores))


def within_three(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    deviation = scores.std()
    return np.clip((scores - scores.mean()) / (6 * deviation) + 0.5, 0, 1) if deviation else np.ones(len(scores))


# What a ranking gives each of its items. The library has the first two; the others were tried.
SHARES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "rrf": by_constant(60),
    "weighted": lambda scores: from_the_last(scores, float(np.ptp(scores))),
    "rrf, constant 10": by_constant(10),
    "rrf, constant 20": by_constant(20),
    "standard deviations above the last": lambda scores: from_the_last(scores, float(scores.std())),
    "within three standard deviations of the mean": within_three,
    "share of the highest score": lambda scores: scores / scores.max() if scores.max() > 0 else np.ones(len(scores)),
}  # fmt: skip


def fused(rankings: Sequence[Ranking], method: str) -> list[int]:
    total: dict[int, float] = {}
    for rows, scores in rankings:
        for row, share in zip(
            rows.tolist(), SHARES[method](scores.round(6)).tolist() if len(rows) else [], strict=True
        ):
            total[row] = total.get(row, 0.0) + share
    if method in {"rrf", "weighted"}:
        pairs = [list(zip(rows.tolist(), scores.tolist(), strict=True)) for rows, scores in rankings]
        library = fuse(pairs, method=method)  # type: ignore[arg-type]
        assert library.keys() == total.keys()
        assert all(abs(library[row] - total[row]) < 1e-8 for row in total)
    return sorted(total, key=lambda row: -round(total[row], 9))


def vectors_of(each: Collection, cache: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    path = cache / f"{each.name}.npz"
    if not path.is_file():
        embedder = load_embedder("minilm")
        np.savez(path, d=embedder.embed_documents(each.texts), q=embedder.embed_queries(each.queries))
    with np.load(path) as held:
        return held["d"], held["q"]


def fusion(collections: Sequence[Collection], cache: Path) -> dict[str, object]:
    values: dict[str, Values] = {name: {} for name in ("bm25", "minilm", *SHARES)}
    for each in collections:
        documents, queries = vectors_of(each, cache)
        lists = PostingLists(WordAnalyzer(LANGUAGE))
        lists.add(each.texts)
        found: dict[str, list[float]] = {name: [] for name in values}
        every = np.arange(len(documents))
        for query, lexical in enumerate(BM25(lists).best(each.queries, DEPTH)):
            dense = top_k(every, (documents @ queries[query]).astype(np.float64).round(6), DEPTH)
            orders = {"bm25": lexical.rows.tolist(), "minilm": dense.rows.tolist()}
            orders |= {method: fused((lexical, dense), method) for method in SHARES}
            for name, rows in orders.items():
                found[name].append(each.value(rows, query))
        for name, own in found.items():
            values[name][each.name] = np.array(own)
    rows = []
    for name, own in values.items():
        row: dict[str, object] = {"method": name, "ndcg@10": means(own, RETRIEVAL), "vote": means(own, CLASSIFICATION)}
        row["ndcg_less_rrf"] = difference(own, values["rrf"], RETRIEVAL)
        row["vote_less_rrf"] = difference(own, values["rrf"], CLASSIFICATION)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return {"depth": DEPTH, "methods": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1].parent / "shared/data")
    parser.add_argument("--data", type=Path, default=root)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ragkit-lexical")
    parser.add_argument("--parts", default="settings,fusion", help="the others keep their last results")
    given = parser.parse_args()
    if not given.data.is_dir():
        raise SystemExit(f"no data at {given.data}; set RAGKIT_DATA or --data")
    given.cache.mkdir(parents=True, exist_ok=True)
    collections = [judged(given.data / "retrieval" / name) for name in RETRIEVAL]
    collections += [classified(given.data / f"classification/{name}.jsonl") for name in CLASSIFICATION]
    path = HERE / "results/lexical.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    facts |= {"machine": platform.machine(), "queries": {each.name: len(each.queries) for each in collections}}
    parts = given.parts.split(",")
    if "settings" in parts:
        facts["settings"] = settings(collections)
    if "fusion" in parts:
        facts["fusion"] = fusion(collections, given.cache)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
