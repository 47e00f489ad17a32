"""The contract suites themselves: selectors pass theirs, and parts that break a promise fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ragkit.embedders._hashing import HashingEmbedder
from ragkit.models._sampling import Sampling
from ragkit.models._scripted import ScriptedModel
from ragkit.protocols import AnyPrompt, Selector
from ragkit.records import Completion, Example
from ragkit.testing import EmbedderContract, LanguageModelContract, SelectorContract
from ragkit_selectors import load_selector

POOL = [
    Example("dim the lamp", "fade"),
    Example("dim the red lamp", "fade", id="red"),
    Example("dim the lamp", "fade again"),
    Example("where is my card?", "card_arrival"),
    Example("", "nothing"),
    Example("!?", "marks"),
    Example("naïve 東京 🙂", "café"),
]


SPECS = ("random", "fixed", "jaccard", "containment", "tfidf", "ngram", "bm25", "embedding")
SETS = ("hybrid", "bm25 | mmr", "embedding | mmr:0.3", "tfidf | dpp", "ngram | coverage", "bm25 | label-nearest",
        "jaccard | label-balanced")  # fmt: skip


class TestSelectors(SelectorContract):
    @pytest.fixture(params=SPECS)
    def selector(self, request: pytest.FixtureRequest) -> Selector:
        return load_selector(request.param, POOL, embedder="hash:64")


class TestPipelines(SelectorContract):
    ranks = False

    @pytest.fixture(params=SETS)
    def selector(self, request: pytest.FixtureRequest) -> Selector:
        return load_selector(request.param, POOL, embedder="hash:64")


def echo(prompt: str) -> str:
    return f"you said: {prompt[::-1]}; that is all of it"


class Unordered(ScriptedModel):
    def _complete(self, prompts: list[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return super()._complete(prompts, sampling)[::-1]


class Unstoppable(ScriptedModel):
    def _complete(self, prompts: list[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return super()._complete(prompts, replace(sampling, stop=()))


class Unbounded(ScriptedModel):
    def _complete(self, prompts: list[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return super()._complete(prompts, replace(sampling, max_tokens=1000))


class Uncounted(ScriptedModel):
    def count_tokens(self, text: str) -> int:
        return 0 * len(text)


class Restless(ScriptedModel):
    def _answer(self, prompt: str, sampling: Sampling) -> Completion:
        return super()._answer(f"{len(self.asked)} {prompt}", sampling)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Unordered, LanguageModelContract.test_order_and_batch_do_not_matter),
        (Unstoppable, LanguageModelContract.test_stop),
        (Unbounded, LanguageModelContract.test_max_tokens),
        (Uncounted, LanguageModelContract.test_usage),
        (Restless, LanguageModelContract.test_stream_joins_to_generate),
        (Restless, LanguageModelContract.test_same_seed_same_answer),
    ],
)
def test_a_broken_model_fails(broken: type[ScriptedModel], test: Callable[..., None]):
    test(LanguageModelContract(), ScriptedModel(echo))
    with pytest.raises(AssertionError):
        test(LanguageModelContract(), broken(echo))


class Long(HashingEmbedder):
    def embed_documents(self, texts: list[str]) -> np.ndarray:
        return 2 * super().embed_documents(texts)


class Double(HashingEmbedder):
    def embed_documents(self, texts: list[str]) -> np.ndarray:
        return super().embed_documents(texts).astype(np.float64)


class Batched(HashingEmbedder):
    def embed_documents(self, texts: list[str]) -> np.ndarray:
        return super().embed_documents([f"{text} {len(texts)}" for text in texts])


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Long, EmbedderContract.test_length_is_one_or_zero),
        (Double, EmbedderContract.test_shape_and_dtype),
        (Double, EmbedderContract.test_no_texts),
        (Batched, EmbedderContract.test_order_and_batch_do_not_matter),
    ],
)
def test_a_broken_embedder_fails(broken: type[HashingEmbedder], test: Callable[..., None]):
    test(EmbedderContract(), HashingEmbedder(64))
    with pytest.raises(AssertionError):
        test(EmbedderContract(), broken(64))


def test_the_suites_need_no_pytest():
    code = "import sys, ragkit.testing; raise SystemExit(bool({'pytest', 'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
