"""Training of classifiers: a head on frozen embeddings, optionally together with the encoder."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit._progress import in_parts
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, RagkitError, UnsupportedError
from ragkit.finetuning._manifest import Manifest, TemplateRecord, data_hash, files_hash, run_hash
from ragkit.finetuning._result import FineTuned
from ragkit.finetuning._rows import training_rows
from ragkit.finetuning._runs import claimed, finish
from ragkit.finetuning._settings import Settings
from ragkit.models._encoder_classifier import HEAD, EncoderClassifier
from ragkit.protocols import Embedder
from ragkit.records import Example
from ragkit.templates import Template

_FORMS: dict[str, Literal["head", "model", "adapter"]] = {
    "classifier-head": "head", "full": "model", "setfit": "model", "lora": "adapter",
}  # fmt: skip
BARE = Template(query="{input}", answer="{output}")


def train_classifier(embedder: Embedder, train: Sequence[Any], settings: Settings) -> FineTuned:
    """Train a classifier; see `ragkit.finetune`."""
    from ragkit.embedders._sentence_transformer import SentenceTransformerEmbedder

    rows = _labelled(train)
    labels = tuple(sorted({row.output for row in rows}))
    if len(labels) < 2:
        raise InvalidInputError(
            f"a classifier needs examples of two labels at least, all {len(rows)} have {labels[0]!r}"
        )
    deep = settings.method != "classifier-head"
    if deep and not isinstance(embedder, SentenceTransformerEmbedder):
        raise UnsupportedError(f"only an embedder of sentence-transformers can be trained, got {embedder.name}")
    if _FORMS[settings.method] != "model":  # otherwise, the encoder is stored, too
        _check_name(embedder)
    rate = settings.learning_rate or (5e-4 if settings.method == "lora" else 5e-5)
    data = data_hash(rows)
    run = run_hash(
        base=embedder.fingerprint, method=settings.method, data=data, epochs=settings.epochs, rate=rate,
        seed=settings.seed, trainer=dict(settings.trainer_config), peft=settings.peft_facts(),
    )  # fmt: skip
    with claimed(settings.folder, run) as finished:
        if finished:
            return _loaded(settings.folder)
        started = time.perf_counter()
        texts, targets = [row.text() for row in rows], np.array([labels.index(row.output) for row in rows])
        weight, bias = fit_head(in_parts("embedding", embedder.embed_documents, texts), targets, len(labels))
        loss, tokens = _loss(embedder, texts, targets, weight, bias), 0
        if deep and isinstance(embedder, SentenceTransformerEmbedder):
            from ragkit.finetuning._encoder import train_encoder, train_on_pairs

            if settings.method == "setfit":
                trained, loss, tokens = train_on_pairs(embedder, texts, targets, settings, rate)
                weight, bias = fit_head(trained.embed_documents(texts), targets, len(labels))
            else:
                weight, bias, loss, tokens = train_encoder(embedder, texts, targets, weight, bias, settings, rate)
        np.savez(settings.folder / HEAD, weight=weight, bias=bias)
        finish(settings.folder, Manifest(
            kind="classifier", form=_FORMS[settings.method], method=settings.method, run=run, base=embedder.name,
            base_fingerprint=embedder.fingerprint, weights=files_hash(settings.folder / "model") if deep else "",
            data=data, ask_with=TemplateRecord.of(BARE), labels=labels, seed=settings.seed,
            epochs=settings.epochs if deep else 0, learning_rate=rate if deep else 0,
            rows={"kept": len(rows), "truncated": 0, "dropped": 0}, tokens=tokens,
            seconds=time.perf_counter() - started, loss=loss,
            versions={name: version(name) for name in ("numpy", "scikit-learn")},
        ))  # fmt: skip
    return _loaded(settings.folder)


def _check_name(embedder: Embedder) -> None:
    """Check that an embedder can be loaded by its name: its weights are not stored with the classifier."""
    try:
        found = load_embedder(embedder.name).fingerprint
    except RagkitError as error:
        found = str(error)
    if found != embedder.fingerprint:
        raise UnsupportedError(
            f"{embedder.name!r} does not load the embedder with fingerprint {embedder.fingerprint} ({found}), so the "
            "classifier could not be loaded later; give a spec such as 'minilm', or an embedder that one stands for"
        )


def _labelled(train: Sequence[Any]) -> list[Example]:
    rows = training_rows(train, "completion")
    for place, row in enumerate(rows):
        if not isinstance(row, Example):
            raise InvalidInputError(f"`train[{place}]` is a {type(row).__name__}; a classifier takes Examples")
    return [row for row in rows if isinstance(row, Example)]


def _loaded(folder: Path) -> FineTuned:
    manifest = Manifest.read(folder)
    return FineTuned(EncoderClassifier.load(folder, manifest), folder, manifest)


def fit_head(
    vectors: NDArray[np.float32], targets: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit a logistic regression to unit vectors f32[n, d], and return its weight f32[c, d] and bias f32[c]."""
    head = fit_logistic(vectors, targets)
    weight, bias = head.coef_.astype(np.float32), head.intercept_.astype(np.float32)
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def fit_logistic(rows: Any, targets: Any) -> Any:
    """Fit scikit-learn's logistic regression to unit vectors, which are close together: with weak regularisation."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # With one example per class, scikit-learn suspects a regression problem.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return LogisticRegression(C=20.0, max_iter=500).fit(rows, targets)


def _loss(
    embedder: Embedder, texts: list[str], targets: NDArray[Any], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> float:
    logits = embedder.embed_documents(texts[:256]) @ weight.T + bias
    with np.errstate(invalid="ignore"):  # the loss is reported even if it is not finite
        return float((np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(logits)), targets[:256]]).mean())
