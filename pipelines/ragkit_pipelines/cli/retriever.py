"""The command line of retriever training: ``ragkit finetune-embedder`` and ``ragkit finetune-reranker``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from ragkit.errors import InvalidInputError
from ragkit.evaluation import read_qrels, read_queries
from ragkit.index import Index
from ragkit.progress import progress
from ragkit.retriever_training import TrainedRetriever
from ragkit.retriever_training import finetune_embedder as train_embedder
from ragkit.retriever_training import finetune_reranker as train_reranker
from ragkit.retriever_training.mining import mine_hard_negatives
from ragkit.retriever_training.rows import TrainingPair
from ragkit.retrievers.loading import load_retriever
from ragkit_pipelines.cli.select import console_of_width

_Folder = Annotated[Path, typer.Argument(help="Folder of the index that holds the passages.")]
_Queries = Annotated[Path, typer.Option(help="Queries: JSON lines, or id, tab, text.")]
_Qrels = Annotated[Path, typer.Option(help="Judgements to learn from, of TREC or BEIR.")]
_Out = Annotated[Path, typer.Option(help="Folder of the trained model; a killed run goes on from its last epoch.")]
_Base = Annotated[Optional[str], typer.Option(help="What to train; the index's own embedder if not given.")]  # noqa: UP045
_Retriever = Annotated[str, typer.Option(help="Retriever that finds hard negatives: {retriever}.")]
_Negatives = Annotated[int, typer.Option(help="Hard negatives of a pair.")]
_Skip = Annotated[int, typer.Option(help="Best hits passed over, as they may be relevant.")]
_Margin = Annotated[float, typer.Option(help="A negative scores at least this share below the passage.")]
_Epochs = Annotated[float, typer.Option(help="Passes over the pairs.")]
_Rate = Annotated[float, typer.Option(help="The highest learning rate.")]
_Seed = Annotated[int, typer.Option(help="Seed of order and dropout.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]


def finetune_embedder(  # noqa: PLR0913 - the options of the command
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
    learning_rate: _Rate = 2e-5,
    batch_size: Annotated[int, typer.Option(help="Pairs that learn from each other's passages.")] = 32,
    max_length: Annotated[Optional[int], typer.Option(help="Tokens of a text that are read in training.")] = None,  # noqa: UP045
    seed: _Seed = 0,
    *,
    as_json: _Json = False,
) -> None:
    """Train an embedder on judged queries; `ragkit index rebuild` then makes an index by it.

    Example: ragkit finetune-embedder docs.rag --queries queries.jsonl --qrels train.tsv --out runs/embedder
    """
    pairs, own = _mined(index, queries, qrels, retriever, negatives=negatives, skip=skip, margin=margin, seed=seed)
    trained = train_embedder(
        base or own, pairs, output_dir=out, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    _show(trained, f"ragkit index rebuild {index} NEW --embedder {trained.spec}", as_json=as_json)


def finetune_reranker(  # noqa: PLR0913 - the options of the command
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
    learning_rate: _Rate = 5e-5,
    batch_size: Annotated[int, typer.Option(help="Pairs a step.")] = 8,
    max_length: Annotated[int, typer.Option(help="Tokens of query and passage together that are read.")] = 256,
    seed: _Seed = 0,
    *,
    as_json: _Json = False,
) -> None:
    """Train a cross-encoder on judged queries, to rerank what a retriever finds.

    Example: ragkit finetune-reranker docs.rag --queries queries.jsonl --qrels train.tsv --out runs/reranker
    """
    pairs, own = _mined(index, queries, qrels, retriever, negatives=negatives, skip=skip, margin=margin, seed=seed)
    trained = train_reranker(
        base or own, pairs, output_dir=out, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    _show(trained, f'RerankingRetriever(base, "{trained.spec}")', as_json=as_json)


def _mined(
    folder: Path, queries: Path, qrels: Path, retriever: str, *, negatives: int, skip: int, margin: float, seed: int
) -> tuple[list[TrainingPair], str]:
    """Training pairs, and the spec of the index's embedder."""
    asked, judged = read_queries(queries), read_qrels(qrels)
    with Index.open(folder, read_only=True) as index:
        if index.embedder is None:
            raise InvalidInputError(f"{folder} has no embedder, so it cannot read queries; make an index with one")
        with progress("looking for hard negatives", None):
            pairs = mine_hard_negatives(
                index, asked, judged, retriever=load_retriever(retriever, index), negatives=negatives, skip=skip,
                margin=margin, seed=seed,
            )  # fmt: skip
        return pairs, index.embedder.name


def _show(trained: TrainedRetriever, use: str, *, as_json: bool) -> None:
    record = trained.record
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
        return
    table = Table(show_header=False)
    facts = {
        "base": record.base, "pairs": f"{record.rows:,}", "loss": f"{record.loss:.4f}",
        "seconds": f"{record.seconds:.1f}", "load it": trained.spec, "use it": use,
    }  # fmt: skip
    for name, value in facts.items():
        table.add_row(name, escape(value))
    console_of_width().print(table)
