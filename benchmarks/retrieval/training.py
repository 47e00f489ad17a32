"""Retriever training: an embedder on SciFact's claims, cross-validated; a reranker; a retriever taught by its reader.

What is trained is kept in ``--cache``, so a run that was stopped goes on. Results go to ``results/training.json``, each
part as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from time import process_time
from typing import TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray

from ragkit import DenseRetriever, Document, Example, Index, RerankingRetriever, Template, load_embedder, load_model
from ragkit.embedders._sentence_transformer import SentenceTransformerEmbedder
from ragkit.evaluation import RetrievalReport, compare_retrieval, evaluate_retrieval, read_qrels, read_queries
from ragkit.index import rebuild_index
from ragkit.protocols import LanguageModel, Retriever
from ragkit.retriever_training import (
    TrainingPair,
    distill_embedder,
    finetune_embedder,
    finetune_reranker,
    mine_hard_negatives,
    score_passages,
)
from ragkit.tiny.domains import INSTRUCTION, Call, CallDomain

HERE = Path(__file__).parent
Qrels = Mapping[str, Mapping[str, int]]
T = TypeVar("T")


def embedder_of(spec: str, max_length: int) -> SentenceTransformerEmbedder:
    """The embedder, reading no more than ``max_length`` tokens, before and after training alike."""
    embedder = load_embedder(spec)
    assert isinstance(embedder, SentenceTransformerEmbedder)
    embedder.model.max_seq_length = max_length
    return embedder


def documents_of(folder: Path) -> list[Document]:
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Document(f"{row['title']}\n{row['text']}".strip(), id=row["id"]) for row in rows]


def components(qrels: Qrels) -> dict[str, int]:
    """Groups of queries that share relevant documents, directly or through others; such are never parted."""
    group: dict[str, int] = {}
    members: dict[int, set[str]] = {}
    owner: dict[str, int] = {}
    for place, (query, grades) in enumerate(qrels.items()):
        group[query], members[place] = place, {query}
        for document in grades:
            other = owner.get(document)
            if other is not None and other != group[query]:
                for each in members.pop(other):
                    group[each] = group[query]
                    members[group[query]].add(each)
                owner = {name: group[query] if at == other else at for name, at in owner.items()}
            owner[document] = group[query]
    return group


def folds_of(qrels: Qrels, folds: int, seed: int) -> list[list[str]]:
    """Queries by fold, whole groups in a drawn order to the smallest fold."""
    group = components(qrels)
    names = sorted(set(group.values()))
    Random(seed).shuffle(names)
    parts: list[list[str]] = [[] for _ in range(folds)]
    for name in names:
        min(parts, key=len).extend(query for query, own in group.items() if own == name)
    return parts


def merged(reports: Sequence[RetrievalReport], name: str) -> RetrievalReport:
    """Reports on different queries as one."""
    per_query = {
        measure: {query: value for report in reports for query, value in report.per_query[measure].items()}
        for measure in reports[0]
    }
    return RetrievalReport(name=name, k=reports[0].k, per_query=per_query, run={})


def gain_of(
    after: RetrievalReport, before: RetrievalReport, group: Mapping[str, int] | None = None
) -> dict[str, float]:
    """The difference in nDCG with its interval over queries, and over whole groups of them where there are such."""
    found = compare_retrieval(after, before)
    facts = {"mean": found.mean, "low": found.low, "high": found.high, "p_value": found.p_value}
    if group is not None:
        one, other = (report.per_query[found.measure] for report in (after, before))
        sums: dict[int, list[float]] = {}
        for query in one:
            sums.setdefault(group[query], []).append(one[query] - other[query])
        totals, sizes = np.array([sum(each) for each in sums.values()]), np.array([len(each) for each in sums.values()])
        drawn = np.random.default_rng(0).integers(0, len(totals), size=(9999, len(totals)))
        low, high = np.percentile(totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [2.5, 97.5]).tolist()
        facts |= {"low_by_groups": low, "high_by_groups": high}
    return facts


def rounded(report: RetrievalReport) -> dict[str, float]:
    return {measure: round(report[measure], 4) for measure in report}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the embedder is trained."""

    max_length: int
    epochs: float
    batch_size: int
    learning_rate: float
    negatives: int
    skip: int

    @property
    def name(self) -> str:
        return "-".join(f"{value:g}" for value in asdict(self).values())


def scifact(data: Path, cache: Path, folds: int, recipe: Recipe) -> Iterator[dict[str, object]]:
    """nDCG@10 of held-out claims before and after training on the others; the facts again after each fold."""
    folder = data / "scifact"
    queries, qrels = read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels.tsv")
    before, after, rows, seconds = [], [], [], 0.0
    max_length, run = recipe.max_length, f"scifact-{folds}-{recipe.name}"
    place = cache / f"scifact-{max_length}-minilm"
    with Index.create(place, embedder=embedder_of("minilm", max_length), device="cpu", exist_ok=True) as index:
        index.add(documents_of(folder), batch_size=512)
        for number, held_out in enumerate(folds_of(qrels, folds, seed=0)):
            learned = {query: grades for query, grades in qrels.items() if query not in set(held_out)}
            pairs = mine_hard_negatives(index, queries, learned, negatives=recipe.negatives or 1, skip=recipe.skip)
            if not recipe.negatives:
                pairs = [replace(pair, negatives=()) for pair in pairs]
            tuned = finetune_embedder(
                "minilm", pairs, output_dir=cache / f"{run}-{number}", epochs=recipe.epochs, max_length=max_length,
                batch_size=recipe.batch_size, learning_rate=recipe.learning_rate,
            )  # fmt: skip
            asked = {query: queries[query] for query in held_out}
            before.append(evaluate_retrieval(DenseRetriever(index), asked, qrels))
            with rebuild_index(
                index, cache / f"{run}-{number}.rag", embedder=embedder_of(tuned.spec, max_length)
            ) as rebuilt:
                after.append(evaluate_retrieval(DenseRetriever(rebuilt), asked, qrels))
            rows.append(len(pairs))
            seconds += tuned.record.seconds
            print(f"fold {number}: {before[-1]['ndcg@10']:.4f} -> {after[-1]['ndcg@10']:.4f}", flush=True)
            one, other = merged(after, "trained"), merged(before, "minilm")
            yield {
                "collection": "scifact", "documents": len(index), "queries": len(one.per_query["ndcg@10"]),
                "folds": folds, "folds_done": number + 1, "pairs": rows, **asdict(recipe),
                "before": rounded(other), "after": rounded(one),
                "gain": gain_of(one, other, components(qrels)), "training_seconds": round(seconds, 1),
            }  # fmt: skip


class Facts:
    """A domain of made-up facts: passages that each show a request and its call, and new requests to be answered.

    Which symbol stands for a command, and which key for a cue, is drawn for the domain: only a passage can tell. A
    passage is relevant to a request if it shows the same command, and the more so the more of its cues it shows.
    """

    def __init__(self, seed: int, *, passages: int = 120, train: int = 100, test: int = 150) -> None:
        rng, domain, calls = Random(seed), CallDomain.draw(Random(seed)), dict[str, Call]()
        while len(calls) < passages + train + test:
            call = domain.call(rng)
            calls.setdefault(call.input, call)
        drawn = list(calls.values())
        self.shown, self.train, self.test = drawn[:passages], drawn[passages:-test], drawn[-test:]
        self.documents = [Document(self.passage(call), id=f"p{at}") for at, call in enumerate(self.shown)]

    @staticmethod
    def passage(call: Call) -> str:
        return Template().render_example(Example(call.input, call.output)).rstrip()

    def qrels(self, calls: Sequence[Call]) -> Qrels:
        """Grades: how many words of the request a passage shows, where it shows the command."""
        return {
            f"q{at}": {
                f"p{place}": len(call.needs & other.needs)
                for place, other in enumerate(self.shown)
                if call.command == other.command
            }
            for at, call in enumerate(calls)
        }

    def queries(self, calls: Sequence[Call]) -> dict[str, str]:
        return {f"q{at}": call.input for at, call in enumerate(calls)}


def prompt_of(passages: str, request: str) -> str:
    """A prompt of `tiny`: passages stand in it as examples."""
    return f"{INSTRUCTION}\n\n{passages}\n\n{Template().render_query(request)}"


def answered(model: LanguageModel, retriever: Retriever, calls: Sequence[Call], k: int) -> NDArray[np.float64]:
    """1 for each request that is answered exactly from its k best passages, the best next to it."""
    found = retriever.retrieve([call.input for call in calls], k)
    prompts = [
        prompt_of("\n\n".join(hit.text for hit in reversed(hits)), call.input)
        for hits, call in zip(found, calls, strict=True)
    ]
    answers = model.generate(prompts, max_tokens=32, stop=Template().stop)
    return np.array([answer.text.strip() == call.output for answer, call in zip(answers, calls, strict=True)], float)


def interval(differences: NDArray[np.float64]) -> dict[str, float]:
    """Mean and 95 % interval by the bootstrap over requests."""
    drawn = np.random.default_rng(0).integers(0, len(differences), size=(9999, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5]).tolist()
    return {"mean": float(differences.mean()), "low": low, "high": high}


def reader(cache: Path, *, domains: int) -> Iterator[dict[str, object]]:
    """A retriever taught by how likely `tiny` finds the right answer after each passage; no passage was judged."""
    model, passages, epochs = load_model("tiny"), 8, 3
    before, after, rights = [], [], {"before": [], "after": []}
    for seed in range(domains):
        facts = Facts(seed)
        queries, qrels = facts.queries(facts.test), facts.qrels(facts.test)
        with Index.create(None, embedder="minilm", device="cpu") as index:
            index.add(facts.documents)
            retriever = DenseRetriever(index)
            questions = [Example(call.input, call.output) for call in facts.train]
            rows = score_passages(model, retriever, questions, passages=passages, prompt=prompt_of)
            tuned = distill_embedder(
                "minilm", rows, output_dir=cache / f"reader-{seed}", epochs=epochs, learning_rate=2e-4, temperature=4.0
            )
            before.append(evaluate_retrieval(retriever, named(queries, seed), named(qrels, seed)))
            rights["before"].append(answered(model, retriever, facts.test, 2))
            with rebuild_index(index, None, embedder=tuned.spec) as rebuilt:
                after.append(evaluate_retrieval(DenseRetriever(rebuilt), named(queries, seed), named(qrels, seed)))
                rights["after"].append(answered(model, DenseRetriever(rebuilt), facts.test, 2))
        one, other = merged(after, "taught"), merged(before, "minilm")
        right = {name: np.concatenate(values) for name, values in rights.items()}
        yield {
            "domains": seed + 1, "questions": len(rows), "held_out": len(right["before"]), "passages": passages,
            "epochs": epochs, "ndcg_before": round(other["ndcg@10"], 4), "ndcg_after": round(one["ndcg@10"], 4),
            "ndcg_gain": gain_of(one, other), "right_before": float(right["before"].mean()),
            "right_after": float(right["after"].mean()), "right_gain": interval(right["after"] - right["before"]),
        }  # fmt: skip


def named(rows: Mapping[str, T], seed: int) -> dict[str, T]:
    """The same rows under names that differ from domain to domain."""
    return {f"{seed}-{name}": row for name, row in rows.items()}


def best_of(pairs: Sequence[TrainingPair], facts: Facts, judged: Qrels) -> list[TrainingPair]:
    """Of the pairs of a request the two whose passages have the highest grades."""
    text_of = {document.id: document.text for document in facts.documents}
    kept = set()
    for query, asked in facts.queries(facts.train).items():
        grades = sorted(judged[query].items(), key=lambda each: -each[1])[:2]
        kept |= {(asked, text_of[name]) for name, _ in grades}
    return [pair for pair in pairs if (pair.query, pair.passage) in kept]


def reranker(cache: Path, *, domains: int) -> Iterator[dict[str, object]]:
    """A cross-encoder trained from MiniLM reranks the 20 best passages of MiniLM, beside the likeness of tokens."""
    found: dict[str, list[RetrievalReport]] = {}
    for seed in range(domains):
        facts = Facts(seed)
        queries, qrels = named(facts.queries(facts.test), seed), named(facts.qrels(facts.test), seed)
        with Index.create(None, embedder="minilm", device="cpu") as index:
            index.add(facts.documents)
            dense = DenseRetriever(index)
            # All relevant passages are known, so that none becomes a negative; the two best of a request are learned.
            judged = facts.qrels(facts.train)
            pairs = mine_hard_negatives(index, facts.queries(facts.train), judged, negatives=4, margin=0.0)
            pairs = best_of(pairs, facts, judged)
            trained = finetune_reranker(
                "minilm", pairs, output_dir=cache / f"reranker-{seed}", epochs=2, learning_rate=2e-4, max_length=96
            )
            ways = {
                "minilm": dense,
                "reranked by token embeddings": RerankingRetriever(dense, "tokens:minilm", fetch_k=20),
                "reranked by the trained cross-encoder": RerankingRetriever(dense, trained.spec, fetch_k=20),
            }
            for name, way in ways.items():
                found.setdefault(name, []).append(evaluate_retrieval(way, queries, qrels))
        reports = {name: merged(parts, name) for name, parts in found.items()}
        base = reports["minilm"]
        yield {
            "domains": seed + 1, "pairs": len(pairs), "held_out": len(base.per_query["ndcg@10"]), "fetch_k": 20,
            "ndcg": {name: round(report["ndcg@10"], 4) for name, report in reports.items()},
            "gain": {name: gain_of(report, base) for name, report in reports.items() if report is not base},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1].parent / "shared/data")
    parser.add_argument("--data", type=Path, default=root / "retrieval")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ragkit-training")
    parser.add_argument("--parts", default="embedder,reranker,reader", help="the others keep their last results")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--negatives", type=int, default=1, help="mined for each pair of SciFact; 0 for none")
    parser.add_argument("--skip", type=int, default=0, help="best hits that are no negatives")
    parser.add_argument("--domains", type=int, default=3)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(
        max_length=arguments.max_length, epochs=arguments.epochs, batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate, negatives=arguments.negatives, skip=arguments.skip,
    )  # fmt: skip
    makers = {
        "embedder": lambda: scifact(arguments.data, arguments.cache, arguments.folds, recipe),
        "reranker": lambda: reranker(arguments.cache, domains=arguments.domains),
        "reader": lambda: reader(arguments.cache, domains=arguments.domains),
    }  # fmt: skip
    path = HERE / "results/training.json"
    for part in arguments.parts.split(","):
        began = process_time()
        for made in makers[part]():
            facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            facts |= {"machine": platform.machine(), "cores": os.cpu_count(), "base": "minilm"}
            facts[part] = made | {"cpu_seconds": round(process_time() - began, 1)}
            path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            print(json.dumps({part: facts[part]}), flush=True)


if __name__ == "__main__":
    main()
