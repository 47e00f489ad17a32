"""Embedders of APIs over real HTTP: values, batches, retries, and what is refused."""

from __future__ import annotations

import pickle  # noqa: TID251 - what users do with these objects
import traceback
from pathlib import Path

import numpy as np
import pytest
from embedding_server import EmbeddingServer

from ragkit import Index
from ragkit.embedders import HashingEmbedder, load_embedder
from ragkit.errors import (
    InvalidInputError,
    MissingExtraError,
    ModelAccessError,
    ModelError,
    RagkitWarning,
    TransientModelError,
)
from ragkit.models import Retry
from ragkit.selectors import EmbeddingSelector, load_selector
from ragkit.testing import EmbedderContract

KEY = "sk-secret-1234567890"
TEXTS = ["dim the lamp", "", "naïve 東京 🙂", "open the door"]


@pytest.fixture(scope="module")
def running():
    with EmbeddingServer() as server:
        yield server


@pytest.fixture
def server(running: EmbeddingServer, monkeypatch: pytest.MonkeyPatch):
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    running.requests.clear()
    running.keys.clear()
    running.trouble.clear()
    return running


@pytest.fixture
def embedder(server: EmbeddingServer):
    return load_embedder("openai:m", base_url=server.url)


class TestContract(EmbedderContract):
    @pytest.fixture
    def embedder(self, server: EmbeddingServer):
        return load_embedder("openai:m", base_url=server.url)


def test_vectors_are_those_of_the_server_at_length_one(embedder, server: EmbeddingServer):
    expected = HashingEmbedder(64).embed_documents(TEXTS)
    for found in (embedder.embed_documents(TEXTS), embedder.embed_queries(TEXTS)):
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-6)
    sent = [body["input"] for body in server.requests]
    assert [text for text in TEXTS if text] in sent
    assert all("" not in texts for texts in sent)


def test_long_lists_are_sent_in_batches_and_keep_their_order(embedder, server: EmbeddingServer):
    texts = [f"text {number}" for number in range(300)] + ["word " * 50_000]
    assert np.allclose(embedder.embed_documents(texts), HashingEmbedder(64).embed_documents(texts), atol=1e-6)
    sizes = sorted(len(body["input"]) for body in server.requests if body["input"] != ["dimensions"])
    assert sizes == [1, 44, 128, 128]


def test_a_pickled_embedder_reads_the_key_again(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", KEY)
    embedder = load_embedder("openai:m", base_url=server.url, api_key_env="MY_KEY", dimensions=16)
    pickled = pickle.dumps(embedder)
    assert KEY.encode() not in pickled
    again = pickle.loads(pickled)  # noqa: S301
    assert (again.fingerprint, again.embed_documents(["a"]).shape) == (embedder.fingerprint, (1, 16))
    assert server.keys == [f"Bearer {KEY}"]


def test_dimensions_are_asked_for_and_part_of_the_fingerprint(server: EmbeddingServer):
    embedder = load_embedder("openai:m", base_url=server.url, dimensions=16)
    assert (embedder.name, embedder.fingerprint, server.requests) == ("openai:m", "api:openai:m@127.0.0.1:16", [])
    assert embedder.embed_documents(["a"]).shape == (1, 16)
    assert server.requests[0]["dimensions"] == 16
    assert load_embedder("openai:m", base_url=server.url).fingerprint == "api:openai:m@127.0.0.1:64"
    assert load_embedder("openai:m", base_url=f"http://u:p@localhost:1/v1?k={KEY}", dimensions=2).fingerprint == (
        "api:openai:m@localhost:2"
    )


def test_transient_errors_are_retried(embedder, server: EmbeddingServer):
    server.trouble[:] = [429, 503, None]
    assert embedder.embed_documents(["a"]).shape == (1, 64)
    assert len(server.requests) >= 3
    server.requests.clear()
    server.trouble[:] = [429] * 9
    embedder.retry = Retry(attempts=2)
    with pytest.raises(TransientModelError, match="trouble"):
        embedder.embed_documents(["a"])
    assert len(server.requests) == 2


def test_a_wrong_key_is_said_once_and_not_shown(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", KEY)
    embedder = load_embedder("openai:m", base_url=server.url, api_key_env="MY_KEY")
    server.trouble[:] = [401]
    with pytest.raises(ModelAccessError, match=r"openai:m .*\[secret\]") as caught:
        embedder.embed_documents(["a"])
    assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_missing_key_and_a_wrong_model_are_explained(server: EmbeddingServer):
    with pytest.raises(ModelError, match=r"openai:text-embedding-3-small cannot be loaded .*set its key"):
        load_embedder("openai:text-embedding-3-small")
    with pytest.raises(InvalidInputError, match="api_key_env"):
        load_embedder("openai:m", base_url=server.url, api_key_env="NOT_SET")
    with pytest.raises(ModelAccessError, match="the model 'missing' does not exist"):
        load_embedder("openai:missing", base_url=server.url).embed_documents(["a"])


@pytest.mark.parametrize("trouble", ["html", "fewer", "empty"])
def test_replies_that_are_no_embeddings_are_explained(embedder, server: EmbeddingServer, trouble: str):
    embedder.retry = Retry(attempts=1)
    server.trouble[:] = [trouble]
    with pytest.raises(ModelError, match=r"openai:m .*(server|check `base_url`)"):
        embedder.embed_documents(["a", "b"])


def test_a_server_that_is_down_is_explained(server: EmbeddingServer):
    embedder = load_embedder("openai:m", base_url="http://127.0.0.1:9/v1")
    embedder.retry = Retry(attempts=1)
    with pytest.raises(TransientModelError, match="no server answers at this address"):
        embedder.embed_documents(["a"])


def test_arguments_that_do_not_apply_are_refused(server: EmbeddingServer):
    with pytest.raises(InvalidInputError, match="`base_url` goes with an API embedder"):
        load_embedder("hash:8", base_url=server.url)
    with pytest.raises(InvalidInputError, match="go with a spec"):
        load_embedder(HashingEmbedder(8), dimensions=8)
    with pytest.raises(InvalidInputError, match="`dimensions`"):
        load_embedder("openai:m", base_url=server.url, dimensions=0)
    with pytest.raises(InvalidInputError, match="float32"):
        load_embedder("openai:m", base_url=server.url, dtype="float16")


def test_an_index_and_a_selector_work_and_ask_for_their_embedder(embedder, server: EmbeddingServer, tmp_path: Path):
    with Index.create(tmp_path / "i.rag", embedder=embedder) as index:
        index.add(["dim the lamp", "open the door"])
        assert index.search("the lamp", k=1)[0].text == "dim the lamp"
    with Index.open(tmp_path / "i.rag", embedder=embedder) as index:
        assert index.search("open", k=1)[0].text == "open the door"
    other = load_embedder("openai:m", base_url=server.url, dimensions=32)
    with pytest.raises(InvalidInputError, match="gives other vectors"):
        Index.open(tmp_path / "i.rag", embedder=other)
    pool = [{"input": text, "output": "x"} for text in TEXTS if text]
    selector = load_selector("embedding", pool, embedder=embedder)
    assert selector.select("a lamp", k=1)[0].input == "dim the lamp"
    selector.save(tmp_path / "s")
    with pytest.raises(InvalidInputError, match="pass it as `embedder`"):
        EmbeddingSelector.load(tmp_path / "s")
    assert EmbeddingSelector.load(tmp_path / "s", embedder=embedder).select("a lamp", k=1)[0].input == "dim the lamp"


def test_the_address_may_come_from_the_environment(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embedder = load_embedder("openai:m")
    assert embedder.fingerprint == "api:openai:m@127.0.0.1:64"
    with Index.create(tmp_path / "i.rag", embedder="openai:m") as index:
        index.add(["dim the lamp"])
    with pytest.warns(RagkitWarning, match="names the embedder 'openai:m'"), Index.open(tmp_path / "i.rag") as index:
        assert index.search("lamp", k=1)[0].text == "dim the lamp"


@pytest.mark.parametrize(
    ("spec", "module"), [("fastembed:BAAI/bge-small-en-v1.5", "fastembed"), ("mistralai:mistral-embed", "mistralai")]
)
def test_a_missing_package_names_the_install(spec: str, module: str):
    with pytest.raises((MissingExtraError, ModelError), match=rf"pip install .*{module}"):
        load_embedder(spec)


def test_folders_and_apis_with_numbers_as_names_are_not_loaded_from_a_saved_selector(tmp_path: Path, embedder):
    from ragkit_selectors.persistence import _names_no_place

    assert _names_no_place("embedder", "hash:64")
    assert _names_no_place("embedder", "minilm")
    assert not any(_names_no_place("embedder", spec) for spec in ("st:1", "openai:1", "onnx:st:1"))
    assert not _names_no_place("model", "replay:1")
