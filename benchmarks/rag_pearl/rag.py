"""Answers from documents on xquad: F1 of short answers, valid citations, and refusals of questions without an answer.

Every question is answered from the three best passages of the hybrid retriever, in the styles ``short`` and ``cited``.
Half as many questions are also asked about passages of other articles, which cannot answer them: the extractive reader
should refuse these, and no others. Results go to ``results/rag.json`` after every question, and a rerun answers only
the questions that it does not contain. Vectors are kept in ``--cache``. Needs xquad (``RAGKIT_DATA``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from scipy.stats import bootstrap

from ragkit import (
    BM25Retriever,
    DenseRetriever,
    Document,
    Hit,
    HybridRetriever,
    Index,
    RetrieveThenAnswer,
    load_model,
)
from ragkit.metrics import load_metric
from ragkit.pipelines import CitedAnswer, ExtractiveReader
from ragkit.protocols import LanguageModel
from ragkit.retrievers import RetrieverBase

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("RAGKIT_DATA") or ROOT.parent / "shared/data") / "retrieval/xquad_en"
RESULTS = Path(__file__).parent / "results/rag.json"
K = 3
F1, EXACT = load_metric("f1"), load_metric("exact_match")


def records(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


class Fixed(RetrieverBase):
    """Returns passages that were retrieved before."""

    name = "fixed"

    def __init__(self, found: Mapping[str, list[Hit]]) -> None:
        self.found = found

    def _retrieve(self, queries: Sequence[str], k: int, where: Mapping[str, object] | None) -> list[list[Hit]]:
        assert where is None
        return [self.found[query][:k] for query in queries]


def passages(rows: Sequence[dict[str, Any]], cache: Path | None) -> tuple[Fixed, Fixed, ExtractiveReader]:
    """Retrieve from the whole collection, and from all articles but the question's own."""
    with Index.create(cache, embedder="minilm", device="cpu", exist_ok=True) as index:
        corpus = records("corpus.jsonl")
        index.add(
            [
                Document(f"{row['title']}\n{row['text']}", id=row["id"], metadata={"article": row["title"]})
                for row in corpus
            ]
        )
        hybrid = HybridRetriever([BM25Retriever(index), DenseRetriever(index)])
        questions = [row["text"] for row in rows]
        found = dict(zip(questions, hybrid.retrieve(questions, K), strict=True))
        article = {row["id"]: row["title"] for row in corpus}
        own = {query: article[passage] for query, passage in gold(rows).items()}
        others = {query: hybrid.retrieve(query, K, where={"article": {"$ne": own[query]}}) for query in questions}
        assert index.embedder is not None
        return Fixed(found), Fixed(others), ExtractiveReader(index.embedder)


def half(rows: Sequence[dict[str, Any]]) -> int:
    return max(1, len(rows) // 2)


def gold(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    lines = (DATA / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    passage = dict(line.split("\t")[:2] for line in lines)
    return {row["text"]: passage[row["id"]] for row in rows}


def facts(answer: CitedAnswer, row: dict[str, Any], seconds: float) -> dict[str, Any]:
    from ragkit_pipelines.rag.answers import without_marks

    text = without_marks(answer.text)
    return {
        "text": answer.text,
        "refused": answer.refused,
        "f1": max(F1(text, each) for each in row["answers"]),
        "exact": max(EXACT(text, each) for each in row["answers"]),
        "cited": len(answer.citations),
        "flagged": len(answer.flagged),
        "attributed": answer.attributed,
        "cited_passage_has_the_answer": any(
            each in answer.hits[citation.number - 1].text for citation in answer.citations for each in row["answers"]
        ),
        "tokens": 0 if answer.completion is None else answer.completion.usage.completion_tokens,
        "seconds": seconds,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the questions that were answered in each setting."""
    shown: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row["answers"]):
        own = [row["answers"][name] for row in rows if name in row["answers"]]
        f1 = [each["f1"] for each in own]
        low = high = mean(f1)
        if len(set(f1)) > 1:
            low, high = bootstrap((f1,), np.mean, method="percentile", random_state=0).confidence_interval
        given = sum(each["cited"] + each["flagged"] for each in own if not each["attributed"])
        shown[name] = {
            "questions": len(own),
            "f1": mean(f1),
            "f1_interval": [float(low), float(high)],
            "exact_match": mean(each["exact"] for each in own),
            "refused": mean(each["refused"] for each in own),
            "citations_of_the_model": given,
            "valid": sum(each["cited"] for each in own if not each["attributed"]) / given if given else None,
            "answers_with_a_citation": mean(bool(each["cited"]) for each in own),
            "of_these_the_passage_has_the_answer": mean(
                [each["cited_passage_has_the_answer"] for each in own if each["cited"]] or [0]
            ),
            "completion_tokens": mean(each["tokens"] for each in own),
            "seconds": mean(each["seconds"] for each in own),
        }
    return shown


def settings(model: LanguageModel, found: Fixed, others: Fixed, reader: ExtractiveReader) -> dict[str, Any]:
    return {
        "extractive": RetrieveThenAnswer(reader, found, K),
        "extractive, unanswerable": RetrieveThenAnswer(reader, others, K),
        "short": RetrieveThenAnswer(model, found, K, style="short"),
        "cited": RetrieveThenAnswer(model, found, K, style="cited"),
        "short, unanswerable": RetrieveThenAnswer(model, others, K, style="short"),
        "cited, unanswerable": RetrieveThenAnswer(model, others, K, style="cited"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=100, help="number of questions")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--settings", default="", help="names of settings that run, separated by semicolons; all if empty"
    )
    parser.add_argument("--cache", type=Path, help="folder of the index")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    every = records("queries.jsonl")
    rows = every[:: len(every) // 100][:100][: given.questions]
    model = load_model(given.model)
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    entry = known.setdefault(given.model, {})
    if entry.get("model") != model.fingerprint:
        entry.clear()
        entry["model"] = model.fingerprint
    done = {row["id"]: row for row in entry.get("rows", [])}
    chosen = [name.strip() for name in given.settings.split(";") if name.strip()]
    for name, pipeline in settings(model, *passages(rows, given.cache)).items():
        if chosen and name not in chosen:
            continue
        part = rows[: half(rows)] if "unanswerable" in name else rows
        for row in part:
            answers = done.setdefault(row["id"], {"id": row["id"], "question": row["text"], "answers": {}})["answers"]
            if name in answers:
                continue
            began = perf_counter()
            answers[name] = facts(pipeline.invoke(row["text"]), row, perf_counter() - began)
            print(name, row["text"], answers[name]["text"], row["answers"][0], sep=" | ", flush=True)
            entry["machine"] = {"python": platform.python_version(), "load": "shared with other programs"}
            entry["rows"] = list(done.values())
            entry["summary"] = summary(entry["rows"])
            given.out.parent.mkdir(exist_ok=True)
            given.out.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(entry["summary"], indent=1))


if __name__ == "__main__":
    main()
