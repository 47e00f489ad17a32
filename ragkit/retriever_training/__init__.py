"""Retriever training: embedders and rerankers learn from judged passages, or from what helps a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.extras import require
from ragkit.lazy import lazy_names
from ragkit.retriever_training.rows import ScoredPassages, TrainingPair, checked_pairs, checked_scored
from ragkit.retriever_training.runs import TrainingRecord, TrainingSettings, claimed, hash_of

if TYPE_CHECKING:
    from ragkit.embedders.sentence_transformer import SentenceTransformerEmbedder
    from ragkit.protocols import Embedder
    from ragkit.retriever_training.mining import mine_hard_negatives as mine_hard_negatives
    from ragkit.retriever_training.reader import score_passages as score_passages

_PACKAGES = ("sentence-transformers", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class TrainedRetriever:
    """A finished run.

    Attributes:
        spec: What loads the model: of an embedder ``"st:<folder>"``, for `load_embedder`; of a reranker
            ``"cross-encoder:<folder>"``, for `RerankingRetriever`.
        folder: Where it is stored.
        record: What was trained, on what, and what came of it.
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
    """Train an embedder to find the passages that are relevant to queries.

    Each query learns to choose its passage among its own negatives and all passages of its batch (Henderson et al.,
    arXiv 1705.00652; the multiple negatives ranking loss of sentence-transformers). The trained embedder gives other
    vectors, so an index that the base filled refuses it; `rebuild_index` makes a new one.

    An embedder that was trained on much has much to lose: a few hundred pairs at a high rate may make it worse. Keep
    judged queries back and compare both with `compare_retrieval`.

    A run that was killed goes on from its last epoch when it is called again with the same arguments; a finished
    one is not trained again. The folder is there when everything in it is.

    Args:
        embedder: The base: ``"minilm"``, ``"st:<hub id or folder>"`` or such an embedder. It stays what it is.
        pairs: Queries with relevant passages, such as `mine_hard_negatives` gives; tuples have no negatives of their
            own.
        output_dir: A new or empty folder.
        epochs: Passes over the pairs.
        learning_rate: The highest rate; it rises over the first tenth of the steps and then falls to 0.
        batch_size: Pairs that learn from each other's passages.
        max_length: Tokens of a text that are read in training; all that the embedder reads if None. In use it reads
            as much as before.
        scale: What cosines are multiplied by in the softmax, the inverse of its temperature.
        seed: Seed of order and dropout.

    Returns:
        The spec of the trained embedder, with the run's record.

    Raises:
        EmptyPoolError: If there are no pairs.
        InvalidInputError: If an argument or a pair makes no sense, the base cannot be loaded, or the folder is taken.
        UnsupportedError: If the embedder is none of sentence-transformers.
        TrainingError: If a loss is not a number; nothing is left of the run then.
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
    base = _base_embedder(embedder)

    def train(folder: Path) -> tuple[float, float]:
        from ragkit.retriever_training.training import train_on_pairs

        return train_on_pairs(base.source, rows, settings, folder, scale=scale)

    return _trained("embedder", "multiple-negatives-ranking", base, rows, settings, {"scale": scale}, train)


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
    """Train an embedder to rank passages as a teacher does, such as a reader that was asked which of them help it.

    The loss is the Kullback-Leibler divergence from the softmax of the teacher's scores to that of the embedder's
    cosines. With the scores of `score_passages` this trains the retriever by the reader's likelihood of the right
    answer, without judged passages (Izacard et al., Atlas, arXiv 2208.03299, "perplexity distillation"; Shi et al.,
    REPLUG, arXiv 2301.12652). The reader stays what it is.

    Args:
        embedder: The base, as `finetune_embedder` takes it.
        rows: Queries with scored passages, all with the same number of passages.
        output_dir: A new or empty folder.
        epochs: Passes over the rows.
        learning_rate: The highest rate.
        batch_size: Queries a step; each is compared with its own passages only.
        max_length: Tokens of a text that are read in training.
        scale: What cosines are multiplied by in their softmax.
        temperature: What the teacher's scores are divided by in theirs; the higher, the more do passages count that are
            not the best.
        seed: Seed of order and dropout.

    Returns:
        The spec of the trained embedder, with the run's record.

    Raises:
        EmptyPoolError: If there are no rows.
        InvalidInputError: If an argument or a row makes no sense, the base cannot be loaded, or the folder is taken.
        UnsupportedError: If the embedder is none of sentence-transformers.
        TrainingError: If a loss is not a number; nothing is left of the run then.
    """
    settings = TrainingSettings(
        folder=Path(output_dir).absolute(), epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    scored = checked_scored(rows)
    _check_positive(scale=scale, temperature=temperature)
    base = _base_embedder(embedder)

    def train(folder: Path) -> tuple[float, float]:
        from ragkit.retriever_training.training import train_on_scores

        return train_on_scores(base.source, scored, settings, folder, scale=scale, temperature=temperature)

    extra = {"scale": scale, "temperature": temperature}
    return _trained("embedder", "kl-divergence", base, scored, settings, extra, train)


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
    """Train a cross-encoder, which reads query and passage together, for `RerankingRetriever`.

    It learns to put each pair's passage before its negatives (LambdaLoss, Wang et al., CIKM 2018). The negatives
    should come from the retriever whose hits it is to rerank. From an embedder it starts with a new head, so it needs
    more pairs than an embedder does: measure it before you use it.

    Args:
        base: ``"minilm"``, ``"st:<hub id or folder>"`` or such an embedder, or ``"cross-encoder:<hub id or folder>"``
            to go on from a trained one.
        pairs: Pairs with negatives, such as `mine_hard_negatives` gives.
        output_dir: A new or empty folder.
        epochs: Passes over the pairs.
        learning_rate: The highest rate.
        batch_size: Pairs a step; each is read with its passage and each of its negatives.
        max_length: Tokens of query and passage together that are read, in training and in use.
        seed: Seed of the head, of order and dropout.

    Returns:
        The spec of the trained reranker, with the run's record.

    Raises:
        EmptyPoolError: If there are no pairs.
        InvalidInputError: If an argument or a pair makes no sense, the base cannot be loaded, or the folder is taken.
        UnsupportedError: If the base is none of sentence-transformers.
        TrainingError: If a loss is not a number; nothing is left of the run then.
    """
    settings = TrainingSettings(
        folder=Path(output_dir).absolute(), epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, seed=seed,
    )  # fmt: skip
    rows = checked_pairs(pairs, least_negatives=1)
    encoder = _base_embedder(f"st:{base[14:]}" if isinstance(base, str) and base.startswith("cross-encoder:") else base)

    def train(folder: Path) -> tuple[float, float]:
        from ragkit.retriever_training.training import train_cross_encoder

        return train_cross_encoder(encoder.source, rows, settings, folder)

    return _trained("reranker", "lambda", encoder, rows, settings, {}, train)


def _trained(
    kind: Literal["embedder", "reranker"],
    objective: str,
    base: SentenceTransformerEmbedder,
    rows: Sequence[TrainingPair] | Sequence[ScoredPassages],
    settings: TrainingSettings,
    extra: dict[str, float],
    train: Callable[[Path], tuple[float, float]],
) -> TrainedRetriever:
    """Train into the folder, or find it trained."""
    folder = settings.folder
    run = hash_of(base.fingerprint, f"{kind} {objective}", rows, settings, extra)
    with claimed(folder, run) as place:
        if place is not None:
            loss, seconds = train(place)
            TrainingRecord(
                kind=kind, objective=objective, run=run, base=base.name, base_fingerprint=base.fingerprint,
                rows=len(rows), loss=loss, seconds=seconds, settings=settings.facts() | extra,
                versions={name: version(name) for name in _PACKAGES},
            ).write(place)  # fmt: skip
    prefix = "st" if kind == "embedder" else "cross-encoder"
    return TrainedRetriever(f"{prefix}:{folder}", folder, TrainingRecord.read(folder))


def _base_embedder(embedder: str | Embedder) -> SentenceTransformerEmbedder:
    """The base of a run.

    Returns:
        An embedder whose model can be trained.

    Raises:
        UnsupportedError: If the embedder is none of sentence-transformers.
    """
    require("torch", "transformers", "accelerate", "datasets", "sentence_transformers")
    from ragkit.embedders import load_embedder
    from ragkit.embedders.sentence_transformer import SentenceTransformerEmbedder

    loaded = load_embedder(embedder)
    if not isinstance(loaded, SentenceTransformerEmbedder):
        raise UnsupportedError(
            "only embedders of sentence-transformers can be trained, such as 'minilm' or 'st:<folder>'; "
            f"{loaded.name!r} is none"
        )
    return loaded


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise InvalidInputError(f"`{name}` must be a number above 0, got {value!r}")


_HOME_OF = {
    "mine_hard_negatives": "mining",
    "score_passages": "reader",
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
