"""Training of embedders and rerankers from relevance judgements or the scores of an answer model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ragkit._extras import require
from ragkit._lazy import lazy_names
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.retriever_training._rows import ScoredPassages, TrainingPair, checked_pairs, checked_scored
from ragkit.retriever_training._runs import TrainingRecord, TrainingSettings, claimed, hash_of

if TYPE_CHECKING:
    from ragkit.embedders._sentence_transformer import SentenceTransformerEmbedder
    from ragkit.protocols import Embedder
    from ragkit.retriever_training._mining import mine_hard_negatives as mine_hard_negatives
    from ragkit.retriever_training._reader import score_passages as score_passages

_PACKAGES = ("sentence-transformers", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class TrainedRetriever:
    """A finished training run.

    Attributes:
        spec: Spec of the model: ``"st:<folder>"`` for an embedder, which `load_embedder` loads, or
            ``"cross-encoder:<folder>"`` for a reranker, which `RerankingRetriever` loads.
        folder: Folder of the model.
        record: Record of the data, base model, settings and results.
    """

    spec: str
    folder: Path
    record: TrainingRecord


def finetune_embedder(
    embedder: str | Embedder,
    pairs: Sequence[TrainingPair | tuple[str, str]],
    *,
    output_dir: str | Path,
    epochs: float = 1,
    learning_rate: float = 2e-5,
    batch_size: int = 32,
    max_length: int | None = None,
    scale: float = 20.0,
    seed: int = 0,
) -> TrainedRetriever:
    """Train an embedder to retrieve the passages that are relevant to queries.

    For each query, the embedder learns to select the relevant passage among its negatives and all passages of the batch
    (Henderson et al., arXiv 1705.00652; the multiple negatives ranking loss of sentence-transformers). The trained
    embedder returns different vectors, so an index of the base embedder rejects it; create a new one with
    `rebuild_index`.

    Training on little data can harm a well-trained embedder: a few hundred pairs at a high learning rate may make it
    worse. Hold out judged queries and compare both embedders with `compare_retrieval`.

    An interrupted run resumes from its last epoch if it is called again with the same arguments; a finished run is not
    repeated. The folder exists only when all of its files are complete.

    Args:
        embedder: The base embedder, which is not changed: ``"minilm"``, ``"st:<hub id or folder>"`` or a loaded
            embedder of this kind.
        pairs: Queries with relevant passages, such as the result of `mine_hard_negatives`; tuples have no negatives.
        output_dir: A new or empty folder.
        epochs: Number of passes over the pairs.
        learning_rate: Peak learning rate, with warm-up over the first tenth of the steps and linear decay to 0.
        batch_size: Number of pairs per batch; their passages are also negatives of each other's queries.
        max_length: Maximum number of tokens of a text in training; that of the embedder if None. It does not change the
            window of the trained embedder.
        scale: Factor for cosine similarities in the softmax, which is the inverse of its temperature.
        seed: Seed for order and dropout.

    Returns:
        The spec of the trained embedder, with the record of the run.

    Raises:
        EmptyPoolError: If there are no pairs.
        InvalidInputError: If an argument or a pair is invalid, the base cannot be loaded, or the folder is in use.
        UnsupportedError: If the embedder is not a sentence-transformers model.
        TrainingError: If a loss is not finite, in which case the run is deleted.
    """
    settings = TrainingSettings(
        folder=Path(output_dir).absolute(), epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    rows = checked_pairs(pairs)
    _check_positive(scale=scale)
    if not rows[0].negatives and min(len(rows), batch_size) < 2:
        raise InvalidInputError(
            "without negatives a query learns from the other passages of its batch, and here there are none; give at "
            "least 2 pairs and `batch_size` 2, or mine negatives with mine_hard_negatives"
        )
    return _trained("multiple-negatives-ranking", _base_embedder(embedder), rows, settings, {"scale": scale})


def distill_embedder(
    embedder: str | Embedder,
    rows: Sequence[ScoredPassages],
    *,
    output_dir: str | Path,
    epochs: float = 1,
    learning_rate: float = 5e-5,
    batch_size: int = 16,
    max_length: int | None = None,
    scale: float = 20.0,
    temperature: float = 1.0,
    seed: int = 0,
) -> TrainedRetriever:
    """Train an embedder to rank passages like a teacher, such as an answer model that scores how much they help.

    The loss is the Kullback-Leibler divergence from the softmax of the teacher's scores to that of the embedder's
    cosine similarities. With the scores of `score_passages`, the retriever is trained by the answer model's likelihood
    of the correct answer, without relevance judgements (Izacard et al., Atlas, arXiv 2208.03299, "perplexity
    distillation"; Shi et al., REPLUG, arXiv 2301.12652). The answer model is not changed.

    Args:
        embedder: The base embedder, as for `finetune_embedder`.
        rows: Queries with scored passages, all with the same number of passages.
        output_dir: A new or empty folder.
        epochs: Number of passes over the rows.
        learning_rate: Peak learning rate.
        batch_size: Number of queries per batch; each is compared only with its own passages.
        max_length: Maximum number of tokens of a text in training.
        scale: Factor for cosine similarities in the softmax.
        temperature: Temperature of the softmax of the teacher's scores; the higher it is, the more weight the lower
            ranked passages have.
        seed: Seed for order and dropout.

    Returns:
        The spec of the trained embedder, with the record of the run.

    Raises:
        EmptyPoolError: If there are no rows.
        InvalidInputError: If an argument or a row is invalid, the base cannot be loaded, or the folder is in use.
        UnsupportedError: If the embedder is not a sentence-transformers model.
        TrainingError: If a loss is not finite, in which case the run is deleted.
    """
    settings = TrainingSettings(
        folder=Path(output_dir).absolute(), epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    scored = checked_scored(rows)
    _check_positive(scale=scale, temperature=temperature)
    extra = {"scale": scale, "temperature": temperature}
    return _trained("kl-divergence", _base_embedder(embedder), scored, settings, extra)


def finetune_reranker(
    base: str | Embedder,
    pairs: Sequence[TrainingPair],
    *,
    output_dir: str | Path,
    epochs: float = 1,
    learning_rate: float = 5e-5,
    batch_size: int = 8,
    max_length: int = 256,
    seed: int = 0,
) -> TrainedRetriever:
    """Train a cross-encoder, which encodes query and passage together, for `RerankingRetriever`.

    The reranker learns to rank each pair's passage above its negatives (LambdaLoss, Wang et al., CIKM 2018). The
    negatives should come from the retriever whose hits it will rerank. If the base is an embedder, training starts with
    a new head and needs more pairs than that of an embedder; evaluate the reranker before you use it.

    Args:
        base: ``"minilm"``, ``"st:<hub id or folder>"`` or a loaded embedder of this kind, or
            ``"cross-encoder:<hub id or folder>"`` to train an existing cross-encoder further.
        pairs: Pairs with negatives, such as the result of `mine_hard_negatives`.
        output_dir: A new or empty folder.
        epochs: Number of passes over the pairs.
        learning_rate: Peak learning rate.
        batch_size: Number of pairs per batch; each query is scored with its passage and each of its negatives.
        max_length: Maximum number of tokens of query and passage together, in training and inference.
        seed: Seed for the head, order and dropout.

    Returns:
        The spec of the trained reranker, with the record of the run.

    Raises:
        EmptyPoolError: If there are no pairs.
        InvalidInputError: If an argument or a pair is invalid, the base cannot be loaded, or the folder is in use.
        UnsupportedError: If the base is not a sentence-transformers model.
        TrainingError: If a loss is not finite, in which case the run is deleted.
    """
    settings = TrainingSettings(
        folder=Path(output_dir).absolute(), epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    rows = checked_pairs(pairs, least_negatives=1)
    if isinstance(base, str) and base.startswith("cross-encoder:"):
        base = f"st:{base.removeprefix('cross-encoder:')}"
    return _trained("lambda", _base_embedder(base), rows, settings, {})


def _trained(
    objective: str,
    base: SentenceTransformerEmbedder,
    rows: Sequence[TrainingPair] | Sequence[ScoredPassages],
    settings: TrainingSettings,
    extra: dict[str, float],
) -> TrainedRetriever:
    """Train a model, or load the finished run from the folder."""
    kind: Literal["embedder", "reranker"] = "reranker" if objective == "lambda" else "embedder"
    folder = settings.folder
    run = hash_of(base.fingerprint, f"{kind} {objective}", rows, settings, extra)
    with claimed(folder, run) as place:
        if place is not None:
            from ragkit.retriever_training._training import train

            loss, seconds = train(objective, base.source, rows, settings, place, extra)
            TrainingRecord(
                kind=kind, objective=objective, run=run, base=base.name, base_fingerprint=base.fingerprint,
                rows=len(rows), loss=loss, seconds=seconds, settings=settings.facts() | extra,
                versions={name: version(name) for name in _PACKAGES},
            ).write(place)  # fmt: skip
    prefix = "st" if kind == "embedder" else "cross-encoder"
    return TrainedRetriever(f"{prefix}:{folder}", folder, TrainingRecord.read(folder))


def _base_embedder(embedder: str | Embedder) -> SentenceTransformerEmbedder:
    """Load the base embedder of a run, which must be a sentence-transformers model."""
    require("torch", "transformers", "accelerate", "datasets", "sentence_transformers")
    from ragkit.embedders import load_embedder
    from ragkit.embedders._sentence_transformer import SentenceTransformerEmbedder

    loaded = load_embedder(embedder)
    if not isinstance(loaded, SentenceTransformerEmbedder):
        raise UnsupportedError(
            "only embedders of sentence-transformers can be trained, such as 'minilm' or 'st:<folder>'; "
            f"{loaded.name!r} is none"
        )
    return loaded


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InvalidInputError(f"`{name}` must be a number above 0, got {value!r}")


_HOME_OF = {
    "mine_hard_negatives": "_mining",
    "score_passages": "_reader",
}
__all__ = [  # noqa: PLE0604, RUF100 - names are the table above
    "ScoredPassages",
    "TrainedRetriever",
    "TrainingPair",
    "distill_embedder",
    "finetune_embedder",
    "finetune_reranker",
    *_HOME_OF,
]
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
