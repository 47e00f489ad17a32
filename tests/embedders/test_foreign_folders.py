"""Usual model folders of other people are accepted; benchmarks/reliability/attacks/index.py holds hostile ones."""

import json

import pytest

from ragkit.embedders._foreign_folders import check_folder, checked_source, loading
from ragkit.errors import InvalidInputError


def folder_of(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(content))
    return path


def module(kind, path=""):
    return {"idx": 0, "name": "0", "path": path, "type": f"sentence_transformers.{kind}"}


USUAL = {
    "embedder": {
        "modules.json": [
            module("models.Transformer"),
            module("models.Pooling", "1_Pooling"),
            module("models.Dense", "2"),
        ],
        "config.json": {"model_type": "bert", "activation_function": "gelu_new", "dtype": "float32"},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": None}},
        "sentence_bert_config.json": {"max_seq_length": 512, "model_args": {"attn_implementation": "sdpa"}},
        "2/config.json": {"in_features": 4, "activation_function": "torch.nn.modules.activation.Tanh"},
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": 10**30},
    },
    "reranker": {
        "modules.json": [module("base.modules.transformer.Transformer")],
        "config.json": {
            "model_type": "bert",
            "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0"},
        },
        "sentence_bert_config.json": {"modality_config": {"text": {"method": "forward"}}},
    },
    "router": {
        "modules.json": [module("models.Router")],
        "router_config.json": {"types": {"q": "sentence_transformers.models.StaticEmbedding"}},
        "q/config.json": {},
    },
    "native model that also has code": {
        "config.json": {"model_type": "bert", "auto_map": {"AutoModel": "modeling.Own"}, "trust_remote_code": False}
    },
    "plain": {},
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_folders_are_accepted(tmp_path, name):
    folder = folder_of(tmp_path, USUAL[name])
    check_folder(folder)
    assert checked_source(str(folder), organization="cross-encoder") == (str(folder), None)


@pytest.mark.parametrize("place", ["config.json", "2/config.json"])
def test_each_folder_of_a_module_is_checked(tmp_path, place):
    folder = folder_of(tmp_path, USUAL["embedder"] | {place: {"activation_fn": "torch.hub.load"}})
    with pytest.raises(InvalidInputError, match=r"torch\.hub\.load"):
        check_folder(folder)


def test_an_unknown_hub_id_is_an_error():
    with pytest.raises(InvalidInputError, match="cannot be loaded"):
        checked_source("someone/no-such-model", organization="cross-encoder")


def test_errors_of_libraries_become_errors_of_ragkit():
    for error in (KeyError("hidden_size"), TypeError("x"), RuntimeError("x"), ImportError("x")):
        with pytest.raises(InvalidInputError, match="'a' cannot be loaded"), loading("a"):
            raise error
