"""Every kind of folder that ragkit writes: how it is made, and how all of it is used, for tests of damage."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from recorded_pearl import CountingModel, by_step, quick

from ragkit import BM25Retriever, Document, Index, ScriptedModel, compare
from ragkit.finetuning import finetune
from ragkit.index import ShardedIndex
from ragkit.models import AnswerCache, LayeredModel, load_model
from ragkit.tiny.domains import HOME, task_of
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_selectors import BaseSelector, BM25Selector, EmbeddingSelector, Guard, LabelBalanced

VECTORS = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32)
IDS = [f"d{n}" for n in range(240)]
EXAMPLES = [{"input": f"dim lamp {n} in room {n % 7}", "output": f"dim {n % 3}"} for n in range(60)]
TASK = task_of(HOME, Random(0), pool=12, test=16)
PLAN = """New actions:
- None

1. a = ABOUT(CTX, "a") : Step A
2. b = COMPARE(CTX, a, "c") : Step B"""


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes:
        make: Writes one into an empty folder.
        use: Opens a copy in the default mode, uses all of it and gives the answers.
    """

    make: Callable[[Path], object]
    use: Callable[[Path], object]


def _document(n: int, suffix: str = "") -> Document:
    return Document(f"text {n}{suffix} " + "word " * (n % 9), IDS[n], {"lang": "en" if n % 2 else "fr", "n": n})


def _make_index(folder: Path, *, factory: str, numbers: Sequence[int] = range(200)) -> None:
    with Index.create(folder, embedder=None, dim=8, factory=factory) as index:
        index.index_field("lang")
        index.add([_document(n) for n in numbers], vectors=VECTORS[list(numbers)])
        index.delete([IDS[n] for n in numbers[3:60:7]])
        index.compact()
        index.tune(target_recall=1.0, k=5)
        index.delete([IDS[numbers[1]]])
        index.add([_document(numbers[0], " again")], vectors=VECTORS[numbers[0], None])
        BM25Retriever(index).save()


def _found(scores: NDArray[np.float32], documents: Sequence[Document | None]) -> object:
    return scores.round(4).tolist(), documents


def _read(index: Index | ShardedIndex) -> list[object]:
    """Answers to searches, with and without filters, and documents by id and by key."""
    answers: list[object] = [len(index), index.get([*IDS, "missing"])]
    for where in (None, {"lang": "fr"}, {"n": {"$gte": 50}}, {"lang": "en", "n": {"$lt": 120}}):
        scores, keys = index.search_vectors(VECTORS[:4], 5, where=where)
        answers.append(_found(scores, index.get_by_keys(keys)))
    return answers


def _use_index(folder: Path, numbers: Sequence[int] = range(200)) -> object:
    with Index.open(folder) as index:
        answers = [*_read(index), index.keys({"lang": "fr"}).tolist(), index.get_vectors(IDS).tolist()]
        answers.append([[(hit.id, round(hit.score, 5)) for hit in BM25Retriever(index).retrieve("text 7 word", k=5)]])
        index.add([_document(n, " new") for n in (*numbers[5:8], 238)], vectors=VECTORS[[*numbers[5:8], 238]])
        index.add([_document(239)], vectors=VECTORS[239, None])
        answers.append(index.delete([*IDS[10:13], "missing"]))
        answers += _read(index)
        index.compact()
        return [*answers, *_read(index)]


def _make_shards(folder: Path) -> None:
    _make_index(folder / "first", factory="flat", numbers=range(120))
    _make_index(folder / "second", factory="HNSW16", numbers=range(120, 220))


def _use_shards(folder: Path) -> object:
    with ShardedIndex.open([folder / "first", folder / "second"]) as index:
        return _read(index)


def _make_selector(folder: Path, *, dense: bool) -> None:
    selector = EmbeddingSelector(EXAMPLES, embedder="hash:16") if dense else BM25Selector(EXAMPLES)
    (selector | Guard(near=0.95) | LabelBalanced()).save(folder)


def _use_selector(folder: Path) -> object:
    selector = BaseSelector.load(folder)
    found = [selector.select(f"dim lamp {n}", k=4) for n in range(5)]
    return [([example.text() for example in each], [hit.score for hit in each.hits]) for each in found]


def _answer(prompt: str) -> str:
    return PLAN if prompt.endswith("?\n\n") else by_step(prompt)


def _use_trace(folder: Path) -> object:
    path, pearl = folder / "trace.jsonl", Pearl(CountingModel(_answer), executor=quick(concurrency=1))
    questions = [f"question {n}?" for n in range(4)]
    runs = pearl.batch(questions, [f"text {n}" for n in range(4)], trace=path)
    return [(run.question, run.answer) for run in runs], pearl.resume(path).answer


def _use_cache(folder: Path) -> object:
    prompts = [f"question {n}" for n in range(40)]
    with closing(AnswerCache(folder / "answers.sqlite")) as cache:
        model = LayeredModel(ScriptedModel(lambda prompt: f"answer to {prompt}"), cache=cache)
        return [(each.text, each.usage) for each in model.generate(prompts)]


def _compared(folder: Path) -> list[object]:
    model = ScriptedModel(lambda prompt: prompt.rsplit("Output:", 2)[-2][:12] if prompt.count("Output:") > 1 else "no")
    found = compare(TASK, ["zero-shot", "copy:bm25"], model=model, embedder="hash:8", out=folder)
    gc.collect()  # closes the cache, whose log then becomes part of it
    again = [(row.strategy, row.correct, row.prompt_tokens, row.error) for row in found.results.rows]
    return [again, [each.answers for each in found.items.answers]]


def _use_comparison(folder: Path) -> object:
    stored, items = Results.load(folder), Items.load(folder)
    return [stored.rows, stored.pairs, stored.recommendation, items, *_compared(folder)]


def _make_adapter(folder: Path) -> None:
    finetune("tiny", TASK.examples, output_dir=folder, epochs=1)


def _use_adapter(folder: Path) -> object:
    model = load_model(f"hf:{folder}")
    return model.score(["Input: dim the lamp\nOutput:"], [" fade lamp", " play"]).round(4).tolist()


def _make_head(folder: Path) -> None:
    finetune("hash:16", EXAMPLES, method="classifier-head", output_dir=folder)


def _use_head(folder: Path) -> object:
    return load_model(f"hf:{folder}").score([row["input"] for row in EXAMPLES], ["dim 0", "dim 1"]).round(5).tolist()


KINDS = {
    "index, exact": Kind(partial(_make_index, factory="flat"), _use_index),
    "index, IVF": Kind(partial(_make_index, factory="IVF4,Flat"), _use_index),
    "index, HNSW": Kind(partial(_make_index, factory="HNSW16"), _use_index),
    "sharded index": Kind(_make_shards, _use_shards),
    "selector, BM25": Kind(partial(_make_selector, dense=False), _use_selector),
    "selector, embeddings": Kind(partial(_make_selector, dense=True), _use_selector),
    "trace": Kind(_use_trace, _use_trace),
    "answer cache": Kind(_use_cache, _use_cache),
    "comparison": Kind(_compared, _use_comparison),
    "adapter": Kind(_make_adapter, _use_adapter),
    "classifier head": Kind(_make_head, _use_head),
}
