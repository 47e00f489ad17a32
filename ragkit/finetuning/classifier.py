"""Encoders as classifiers: a head on frozen vectors, and the encoder trained with it."""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.finetuning import FineTuned
from ragkit.finetuning.manifest import Manifest, data_hash, open_run, run_hash
from ragkit.models.encoder_classifier import HEAD, EncoderClassifier
from ragkit.protocols import Embedder
from ragkit.records import Example
from ragkit.templates import Template

BARE = Template(query="{input}", answer="{output}")


def train_classifier(
    embedder: Embedder,
    train: Sequence[Example],
    *,
    method: str,
    folder: Path,
    epochs: float,
    learning_rate: float | None,
    seed: int,
    trainer_config: Mapping[str, object],
) -> FineTuned:
    """Train a classifier; see `ragkit.finetune`.

    Returns:
        The classifier with its record.

    Raises:
        InvalidInputError: If the examples have only one label.
        UnsupportedError: If the encoder itself is to be trained and is not one of sentence-transformers.
    """
    from ragkit.embedders.sentence_transformer import SentenceTransformerEmbedder

    labels = tuple(sorted({row.output for row in train}))
    if len(labels) < 2:
        raise InvalidInputError(
            f"a classifier needs examples of two labels at least, all {len(train)} have {labels[0]!r}"
        )
    if method == "full" and not isinstance(embedder, SentenceTransformerEmbedder):
        raise UnsupportedError(f"only an embedder of sentence-transformers can be trained, got {embedder.name}")
    rate = learning_rate or 5e-5
    run = run_hash(
        base=embedder.fingerprint, method=method, data=data_hash(train), epochs=epochs, rate=rate, seed=seed,
        trainer=dict(trainer_config),
    )  # fmt: skip
    if open_run(folder, run):
        manifest = Manifest.read(folder)
        return FineTuned(EncoderClassifier.load(folder, manifest), folder, manifest)
    started = time.perf_counter()
    texts, targets = [row.text() for row in train], np.array([labels.index(row.output) for row in train])
    weight, bias = fit_head(embedder.embed_documents(texts), targets, len(labels))
    loss = _loss(embedder, texts, targets, weight, bias)
    if isinstance(embedder, SentenceTransformerEmbedder) and method == "full":
        from ragkit.finetuning.encoder import train_encoder

        weight, bias, loss = train_encoder(
            embedder, texts, targets, weight, bias, folder=folder, epochs=epochs, rate=rate, seed=seed,
            trainer_config=trainer_config,
        )  # fmt: skip
    np.savez(folder / HEAD, weight=weight, bias=bias)
    manifest = Manifest(
        kind="classifier",
        method=method,
        run=run,
        base=embedder.name,
        base_fingerprint=embedder.fingerprint,
        query=BARE.query,
        answer=BARE.answer,
        separator=BARE.separator,
        instruction="",
        labels=labels,
        seed=seed,
        epochs=epochs if method == "full" else 0,
        learning_rate=rate if method == "full" else 0,
        rows={"kept": len(train), "truncated": 0, "dropped": 0},
        tokens=0,
        seconds=time.perf_counter() - started,
        loss=loss,
        versions={name: version(name) for name in ("numpy", "scikit-learn")},
    )
    manifest.write(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return FineTuned(EncoderClassifier.load(folder, manifest), folder, manifest)


def fit_head(
    vectors: NDArray[np.float32], targets: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit a multinomial logistic regression.

    Args:
        vectors: f32[n, d], of length 1.
        targets: int[n], the class of each row.
        classes: Number of classes c.

    Returns:
        Weight f32[c, d] and bias f32[c].
    """
    head = fit_logistic(vectors, targets)
    weight, bias = head.coef_.astype(np.float32), head.intercept_.astype(np.float32)
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def fit_logistic(rows: Any, targets: Any) -> Any:
    """Fit scikit-learn's logistic regression to rows of length 1, which lie close together: hence little penalty.

    Args:
        rows: [n, d], dense or sparse.
        targets: The class of each row.

    Returns:
        The fitted classifier.
    """
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # One example a class is few, not a regression in disguise.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return LogisticRegression(C=20.0, max_iter=500).fit(rows, targets)


def _loss(
    embedder: Embedder, texts: list[str], targets: NDArray[Any], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> float:
    sample = slice(0, 256)
    logits = embedder.embed_documents(texts[sample]) @ weight.T + bias
    likelihood = logits[np.arange(len(logits)), targets[sample]] - np.log(np.exp(logits).sum(axis=1))
    mean = -float(likelihood.mean())
    return mean if math.isfinite(mean) else 0.0
