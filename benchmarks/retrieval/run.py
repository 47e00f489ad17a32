"""Retrieval on judged collections: BM25, vectors of MiniLM and both together; answers without a model; ingest.

The hybrid uses the default fusion, reciprocal ranks; the other fusion is measured too. ``benchmarks/lexical`` shows how
the defaults were chosen. Vectors are kept in ``--cache``, so a second run is quick. Results go to ``results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray

from ragkit import BM25Retriever, DenseRetriever, Document, HybridRetriever, Index, RetrieveThenAnswer, load_documents
from ragkit._text import folded, words
from ragkit.evaluation import Latency, RetrievalReport, compare_retrieval, evaluate_retrieval, read_qrels, read_queries
from ragkit.ingest import load_chunker
from ragkit.pipelines import ExtractiveReader
from ragkit.protocols import Retriever

HERE = Path(__file__).parent
COLLECTIONS = ("adi", "pubmedqa", "scifact", "cranfield", "medline", "hotpotqa_100", "xquad_en")
PUBLISHED = {
    "cranfield": 0.510,
    "medline": 0.702,
    "hotpotqa_100": 0.808,
    "xquad_en": 0.972,
}  # BM25, of the data's README
FUSIONS = ("rrf", "weighted")


def index_of(folder: Path, cache: Path) -> Index:
    """The collection, titles before texts, embedded by MiniLM once."""
    documents = []
    for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        documents.append(Document(f"{row['title']}\n{row['text']}".strip(), id=row["id"]))
    index = Index.create(cache / f"idx-{folder.name}", embedder="minilm", device="cpu", exist_ok=True)
    index.add(documents, batch_size=256)
    return index


class Once:
    """An embedder whose queries were embedded before, so that many rankings cost one embedding."""

    def __init__(self, index: Index, queries: Sequence[str]) -> None:
        assert index.embedder is not None
        self.name, self.fingerprint, self.dim = index.embedder.name, index.embedder.fingerprint, index.embedder.dim
        self.known = dict(zip(queries, index.embedder.embed_queries(queries), strict=True))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.known[text] for text in texts])

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed_queries(texts)


def measured(name: str, report: RetrievalReport, latency: Latency | None) -> dict[str, object]:
    row: dict[str, object] = {"retriever": name, **{measure: round(report[measure], 4) for measure in report}}
    assert latency is not None
    return row | {"p50_ms": round(latency.p50, 2), "p95_ms": round(latency.p95, 2)}


def collection(folder: Path, cache: Path) -> dict[str, object]:
    queries, qrels = read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels.tsv")
    with index_of(folder, cache) as index:
        bm25, dense = BM25Retriever(index), DenseRetriever(index)
        timed: dict[str, Retriever] = {"bm25": bm25, "dense": dense, "hybrid": HybridRetriever([bm25, dense])}
        few = dict(list(queries.items())[:30])
        latencies = {name: evaluate_retrieval(each, few, qrels, latency=30).latency for name, each in timed.items()}
        index.embedder = Once(index, list(queries.values()))
        reports = {name: evaluate_retrieval(retriever, queries, qrels) for name, retriever in timed.items()}
        fusions = {
            name: evaluate_retrieval(HybridRetriever([bm25, dense], fusion=name), queries, qrels)["ndcg@10"]
            for name in FUSIONS
        }
        best = max(("bm25", "dense"), key=lambda name: reports[name]["ndcg@10"])
        gain = compare_retrieval(reports["hybrid"], reports[best])
        return {
            "name": folder.name,
            "documents": len(index),
            "queries": gain.queries,
            "published_bm25": PUBLISHED.get(folder.name),
            "rows": [measured(name, report, latencies[name]) for name, report in reports.items()],
            "fusions": {name: round(value, 4) for name, value in fusions.items()},
            "hybrid_against": best,
            "gain": {"mean": gain.mean, "low": gain.low, "high": gain.high, "p_value": gain.p_value},
        }


def means(collections: Sequence[dict[str, object]]) -> dict[str, float]:
    """Means of nDCG@10 over collections."""
    found: dict[str, list[float]] = {}
    for each in collections:
        for row in each["rows"]:  # type: ignore[attr-defined]
            found.setdefault(row["retriever"], []).append(row["ndcg@10"])
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def extractive(data: Path, cache: Path) -> dict[str, object]:
    """Answers without a language model: xquad's own questions, and questions of other collections, to be refused."""
    rows = [json.loads(line) for line in (data / "xquad_en/queries.jsonl").read_text(encoding="utf-8").splitlines()]
    qrels = read_qrels(data / "xquad_en/qrels.tsv")
    questions = [row["text"] for row in rows]
    others = ("hotpotqa_100", "medline", "pubmedqa", "scifact")
    foreign = [text for name in others for text in list(read_queries(data / name / "queries.jsonl").values())[:100]]
    facts: dict[str, object] = {"questions": len(questions), "foreign_questions": len(foreign)}
    with index_of(data / "xquad_en", cache) as index:
        retriever = HybridRetriever([BM25Retriever(index), DenseRetriever(index)])
        assert index.embedder is not None
        for sentences in (1, 2):
            reader = ExtractiveReader(index.embedder, sentences=sentences)
            answers = RetrieveThenAnswer(reader, retriever, k=5).batch(questions)
            cited = [[citation.text for citation in answer.citations] for answer in answers]
            right = [
                bool(qrels[row["id"]].get(citation.id, 0))
                for row, answer in zip(rows, answers, strict=True)
                for citation in answer.citations
            ]
            facts[f"sentences_{sentences}"] = {
                "answer_in_a_cited_sentence": float(
                    np.mean([contains(texts, row["answers"]) for texts, row in zip(cited, rows, strict=True)])
                ),
                "f1": float(
                    np.mean([f1(" ".join(texts), row["answers"]) for texts, row in zip(cited, rows, strict=True)])
                ),
                "citation_precision": float(np.mean(right)),
                "refused": float(np.mean([answer.refused for answer in answers])),
            }
        pipeline = RetrieveThenAnswer(ExtractiveReader(index.embedder), retriever, k=5)
        facts["foreign_refused"] = float(np.mean([answer.refused for answer in pipeline.batch(foreign)]))
        single = [pipeline.invoke(question).seconds for question in questions[:50]]
        facts["stage_p50_ms"] = {
            stage: round(1000 * float(np.median([each[stage] for each in single])), 2)
            for stage in ("retrieve", "answer")
        }
    return facts


def contains(texts: Sequence[str], answers: Sequence[str]) -> bool:
    return any(folded(answer) in folded(text) for answer in answers for text in texts)


def f1(text: str, answers: Sequence[str]) -> float:
    """Best overlap of words with one of the right answers."""
    best, given = 0.0, Counter(words(text))
    for answer in answers:
        wanted = Counter(words(answer))
        if shared := sum((given & wanted).values()):
            best = max(best, 2 * shared / (sum(given.values()) + sum(wanted.values())))
    return best


def ingest(data: Path) -> dict[str, float]:
    """Seconds of the processor to bring files into an index, beside those of its embedder for the same pieces."""
    lines = (data / "medline/corpus.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        folder.mkdir()
        for line in lines:
            row = json.loads(line)
            (folder / f"{row['id']}.md").write_text(row["text"], encoding="utf-8")
        with Index.create(None, embedder="minilm", device="cpu") as index:
            assert index.embedder is not None
            chunker = load_chunker("tokens", embedder=index.embedder)
            began = process_time()
            pieces = [piece.text for document in load_documents(folder) for piece in chunker.chunk(document)]
            reading = process_time() - began
            pieces.sort(key=len)  # as the index does, so that little is padded
            times: dict[str, list[float]] = {"whole": [], "embedder": []}
            for _ in range(3):
                with Index.create(None, embedder=index.embedder, device="cpu") as fresh:
                    began = process_time()
                    fresh.sync(folder)
                    times["whole"].append(process_time() - began)
                began = process_time()
                index.embedder.embed_documents(pieces)
                times["embedder"].append(process_time() - began)
            index.sync(folder)
            began = process_time()
            index.sync(folder)
            again = process_time() - began
    whole, alone = median(times["whole"]), median(times["embedder"])
    return {
        "files": len(lines),
        "pieces": len(pieces),
        "seconds": whole,
        "files_a_second": len(lines) / whole,
        "of_the_embedder_alone": whole / alone,
        "reading_and_cutting_seconds": reading,
        "unchanged_seconds": again,
    }


def judged(data: Path, cache: Path) -> dict[str, object]:
    """All collections, and the means over them."""
    done = []
    for name in COLLECTIONS:
        done.append(collection(data / name, cache))
        print(json.dumps(done[-1]), flush=True)
    fused = {name: float(np.mean([each["fusions"][name] for each in done])) for name in FUSIONS}  # type: ignore[index]
    return {"means": means(done), "fusion_means": fused, "collections": done}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1].parent / "shared/data")
    parser.add_argument("--data", type=Path, default=root / "retrieval")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ragkit-retrieval")
    parser.add_argument("--parts", default="collections,extractive,ingest", help="the others keep their last results")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"no collections at {arguments.data}; set RAGKIT_DATA or --data")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    path = HERE / "results/retrieval.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    facts |= {"machine": platform.machine(), "cores": os.cpu_count(), "embedder": "minilm"}
    parts = arguments.parts.split(",")
    if "collections" in parts:
        facts |= judged(arguments.data, arguments.cache)
    if "extractive" in parts:
        facts["extractive"] = extractive(arguments.data, arguments.cache)
    if "ingest" in parts:
        facts["ingest"] = ingest(arguments.data)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
