"""Folders and files that others may have written, for `hostile_folders`: how one is made, and how all of it is used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from stored_folders import EXAMPLES, KINDS, TASK, Kind

from ragkit import ScriptedModel, Task, load_documents, load_embedder, load_model
from ragkit.errors import RagkitError
from ragkit.models import ReplayModel

ROOT = Path(__file__).resolve().parents[2]


def _make_model(folder: Path) -> None:
    from random_llama import save_random_llama

    save_random_llama(folder)


def _use_model(folder: Path) -> object:
    model = load_model(f"hf:{folder}")
    return model.generate(["Input: dim the lamp\nOutput:"], max_tokens=3), model.score(["a"], ["b", "c"])


def _make_peft(folder: Path) -> None:
    import peft
    from random_llama import save_random_llama
    from transformers import AutoModelForCausalLM

    save_random_llama(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained(folder / "adapter")


def _use_peft(folder: Path) -> object:
    model = load_model(f"hf:{folder / 'base'}", adapter=str(folder / "adapter"))
    return model.generate(["dim the lamp"], max_tokens=3)


def _tuned(method: str) -> Callable[[Path], object]:
    def make(folder: Path) -> object:
        from ragkit.finetuning import finetune

        return finetune("tiny", TASK.examples, method=method, output_dir=folder, epochs=1)  # type: ignore[arg-type]

    return make


def _make_embedder(folder: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    tokenizer: Any = AutoTokenizer.from_pretrained(load_embedder("minilm").source)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16}
    LlamaModel(LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(folder / "bare")
    tokenizer.save_pretrained(folder / "bare")
    SentenceTransformer(str(folder / "bare"), device="cpu").save(str(folder / "whole"))
    shutil.rmtree(folder / "bare")


def _use_embedder(folder: Path) -> object:
    return load_embedder(f"st:{folder / 'whole'}").embed_documents(["dim the lamp"]).shape


def _make_reranker(folder: Path) -> None:
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer: Any = AutoTokenizer.from_pretrained(load_embedder("minilm").source)  # type: ignore[attr-defined]
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_labels": 1}
    BertForSequenceClassification(BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        folder / "bare"
    )
    tokenizer.save_pretrained(folder / "bare")
    CrossEncoder(str(folder / "bare"), device="cpu").save_pretrained(str(folder / "whole"))
    shutil.rmtree(folder / "bare")


def _use_reranker(folder: Path) -> object:
    from ragkit.retrievers._rerank import load_reranker

    return list(load_reranker(f"cross-encoder:{folder / 'whole'}")(["lamp"], [["a lamp", "a song"]]))


def _make_gguf(folder: Path) -> None:
    from random_gguf import random_llama, save_gguf

    folder.mkdir(exist_ok=True)
    save_gguf(folder / "model.gguf", random_llama())


def _use_gguf(folder: Path) -> object:
    return load_model(f"gguf:{folder / 'model.gguf'}").generate(["a"], max_tokens=3)


def _make_router(folder: Path) -> None:
    from ragkit.pearl import Router

    folder.mkdir(exist_ok=True)
    Router(weights={"depth": -1.0, "words": 0.5}, bias=1.0, reads_plan=True).save(folder / "router.json")


def _use_router(folder: Path) -> object:
    from ragkit.pearl import Router

    return Router.load(folder / "router.json")


def _make_replay(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    ReplayModel(folder / "a.jsonl", record_from=ScriptedModel(lambda _: "a")).generate(["one", "two"], stop=["x"])


def _use_replay(folder: Path) -> object:
    return load_model(f"replay:{folder / 'a.jsonl'}").generate(["one", "two"], stop=["x"])


def _make_faiss(folder: Path) -> None:
    shutil.copytree(ROOT / "tests" / "langchain" / "saved_faiss", folder, dirs_exist_ok=True)


def _use_faiss(folder: Path) -> object:
    from ragkit_pipelines.langchain.import_faiss import import_faiss

    out = folder.parent / "imported"
    shutil.rmtree(out, ignore_errors=True)
    try:
        return import_faiss(folder, out, embedder="hash:16")
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _make_shards(folder: Path) -> None:
    _use_shards(folder)


def _use_shards(folder: Path) -> object:
    from ragkit.workers import Batch, EmbedTexts, WorkerPool

    batches = [Batch([str(n)], [f"text {n}"]) for n in range(4)]
    return [each.ids for each in WorkerPool("inline").map_batches(EmbedTexts("hash:8"), batches, folder=folder)]


def _make_data(folder: Path) -> None:
    import json

    folder.mkdir(exist_ok=True)
    lines = [{**row, "id": f"r{n}", "split": "test" if n % 3 else "train"} for n, row in enumerate(EXAMPLES[:20])]
    (folder / "task.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "page.html").write_text('<meta charset="utf-8"><h1>Lamps</h1><p>They shine.')
    (folder / "rows.csv").write_text("text,lang\na lamp,en\n")


def _use_data(folder: Path) -> object:
    with suppress(RagkitError):
        Task.from_jsonl(folder / "task.jsonl").draw(3, 0)
    return load_documents(folder)


FOREIGN = {
    **KINDS,
    "soft prompt": Kind(_tuned("prompt-tuning"), KINDS["adapter"].use),
    "full model": Kind(_tuned("full"), KINDS["adapter"].use),
    "model of others": Kind(_make_model, _use_model),
    "adapter of others": Kind(_make_peft, _use_peft),
    "embedder": Kind(_make_embedder, _use_embedder),
    "cross-encoder": Kind(_make_reranker, _use_reranker),
    "GGUF file": Kind(_make_gguf, _use_gguf),
    "router": Kind(_make_router, _use_router),
    "replay file": Kind(_make_replay, _use_replay),
    "FAISS of LangChain": Kind(_make_faiss, _use_faiss),
    "shards": Kind(_make_shards, _use_shards),
    "data files": Kind(_make_data, _use_data),
}
