"""The commands ``ragkit finetune-embedder`` and ``ragkit finetune-reranker``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.evaluation import read_qrels, read_queries
from ragkit.index import Index
from ragkit.retriever_training import TrainedRetriever
from ragkit.retriever_training import finetune_embedder as train_embedder
from ragkit.retriever_training import finetune_reranker as train_reranker
from ragkit.retriever_training._mining import mine_hard_negatives
from ragkit.retriever_training._rows import TrainingPair
from ragkit.retrievers._loading import load_retriever
from ragkit_pipelines.cli.common import Json, echo_json, print_table

_Folder = Annotated[Path, typer.Argument(help="Folder of the index with the passages.")]
_Queries = Annotated[Path, typer.Option(help="Queries: JSON Lines, or lines of id, tab, text.")]
_Qrels = Annotated[Path, typer.Option(help="Relevance judgements for training, in TREC or BEIR format.")]
_Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for the model; rerun the command to resume from the last epoch.")
]
_Base = Annotated[str | None, typer.Option(help="Model to train; by default the embedder of the index.")]
_Retriever = Annotated[str, typer.Option(help="Retriever that finds hard negatives: {retriever}.")]
_Negatives = Annotated[int, typer.Option(help="Number of hard negatives per pair.")]
_Skip = Annotated[int, typer.Option(help="Number of best hits to skip, because they may be relevant.")]
_Margin = Annotated[float, typer.Option(help="Minimum relative score difference to a negative.")]
_Epochs = Annotated[float, typer.Option(help="Number of epochs.")]
_LearningRate = Annotated[float, typer.Option(help="Maximum learning rate.")]
_Seed = Annotated[int, typer.Option(help="Seed of the order of pairs and of dropout.")]


def finetune_embedder(
    index: _Folder,
    queries: _Queries,
    qrels: _Qrels,
    out: _Out,
    base: _Base = None,
    retriever: _Retriever = "dense",
    negatives: _Negatives = 1,
    skip: _Skip = 0,
    margin: _Margin = 0.05,
    epochs: _Epochs = 1,
    learning_rate: _LearningRate = 2e-5,
    batch_size: Annotated[int, typer.Option(help="Pairs per batch, which share their negatives.")] = 32,
    max_length: Annotated[int | None, typer.Option(help="Maximum number of tokens per text.")] = None,
    seed: _Seed = 0,
    *,
    as_json: Json = False,
) -> None:
    """Fine-tune an embedder on queries with relevance judgements.

    Afterwards, ragkit index rebuild embeds an index with the trained embedder.

    Example: ragkit finetune-embedder docs.rag --queries queries.jsonl --qrels train.tsv --out runs/embedder
    """
    pairs, own = _mine(index, queries, qrels, retriever, negatives=negatives, skip=skip, margin=margin, seed=seed)
    trained = train_embedder(
        base or own, pairs, output_dir=out, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    _show(trained, f"ragkit index rebuild {index} NEW --embedder {trained.spec}", as_json=as_json)


def finetune_reranker(
    index: _Folder,
    queries: _Queries,
    qrels: _Qrels,
    out: _Out,
    base: _Base = None,
    retriever: _Retriever = "hybrid",
    negatives: _Negatives = 4,
    skip: _Skip = 0,
    margin: _Margin = 0.0,
    epochs: _Epochs = 1,
    learning_rate: _LearningRate = 5e-5,
    batch_size: Annotated[int, typer.Option(help="Number of pairs per batch.")] = 8,
    max_length: Annotated[int, typer.Option(help="Maximum number of tokens of a query and a passage together.")] = 256,
    seed: _Seed = 0,
    *,
    as_json: Json = False,
) -> None:
    """Fine-tune a cross-encoder on queries with relevance judgements, to rerank the hits of a retriever.

    Example: ragkit finetune-reranker docs.rag --queries queries.jsonl --qrels train.tsv --out runs/reranker
    """
    pairs, own = _mine(index, queries, qrels, retriever, negatives=negatives, skip=skip, margin=margin, seed=seed)
    trained = train_reranker(
        base or own, pairs, output_dir=out, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    _show(trained, f'RerankingRetriever(base, "{trained.spec}")', as_json=as_json)


def _mine(
    folder: Path, queries: Path, qrels: Path, retriever: str, *, negatives: int, skip: int, margin: float, seed: int
) -> tuple[list[TrainingPair], str]:
    """Mine the training pairs, and return them with the spec of the index's embedder."""
    texts, judgements = read_queries(queries), read_qrels(qrels)
    with Index.open(folder, read_only=True) as index:
        if index.embedder is None:
            raise InvalidInputError(f"the index {folder} has no embedder for queries; build an index with an embedder")
        with progress("mining hard negatives", None):
            pairs = mine_hard_negatives(
                index, texts, judgements, retriever=load_retriever(retriever, index), negatives=negatives,
                skip=skip, margin=margin, seed=seed,
            )  # fmt: skip
        return pairs, index.embedder.name


def _show(trained: TrainedRetriever, usage: str, *, as_json: bool) -> None:
    record = trained.record
    if as_json:
        echo_json(record.model_dump_json(indent=1))
        return
    print_table((), {
        "base": record.base, "pairs": f"{record.rows:,}", "loss": f"{record.loss:.4f}",
        "seconds": f"{record.seconds:.1f}", "spec": trained.spec, "usage": usage,
    }.items())  # fmt: skip
