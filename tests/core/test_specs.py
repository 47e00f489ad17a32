"""Specs of models, and extras that are missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from ragkit import _extras as extras
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, MissingExtraError, UnknownSpecError
from ragkit.models import load_model
from ragkit.models._scripted import ScriptedModel


@pytest.mark.parametrize(
    ("spec", "meant"),
    [("tiyn", "tiny"), ("Tiny", "tiny"), ("replya:x", "replay:<file>"), ("anthropc:claude", "anthropic:<model>")],
)
def test_did_you_mean(spec: str, meant: str):
    with pytest.raises(UnknownSpecError, match="Did you mean") as caught:
        load_model(spec)
    assert caught.value.suggestions[0] == meant
    assert caught.value.spec == spec


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("/models/qwen", "hf:/models/qwen"),
        ("./qwen", "hf:./qwen"),
        ("../runs/qwen/", "hf:../runs/qwen/"),
        ("C:\\models\\qwen", "hf:C:\\models\\qwen"),
        ("Qwen/Qwen2.5-0.5B", "hf:Qwen/Qwen2.5-0.5B"),
        ("file.gguf", "gguf:file.gguf"),
        ("/models/Q4.GGUF", "gguf:/models/Q4.GGUF"),
        ("gpt-4o-mini", "openai:gpt-4o-mini"),
        ("o3-mini", "openai:o3-mini"),
        ("claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("gemini-2.5-flash", "google_genai:gemini-2.5-flash"),
    ],
)
def test_paths_and_bare_names_of_models_are_recognised(spec: str, meant: str):
    with pytest.raises(UnknownSpecError) as caught:
        load_model(spec)
    assert caught.value.suggestions == (meant,)
    assert f"Did you mean {meant!r}?" in str(caught.value)


def test_an_existing_folder_is_not_loaded_without_its_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    with pytest.raises(UnknownSpecError) as caught:
        load_model("./tiny")
    assert caught.value.suggestions == ("hf:./tiny",)


def test_only_models_are_completed():
    with pytest.raises(UnknownSpecError) as caught:
        load_embedder("gpt-4o-mini")
    assert "openai:gpt-4o-mini" not in caught.value.suggestions


@pytest.mark.parametrize("spec", ["", "hf:", "replay:", "openai:", "gpt-4o", "gpt:4o"])
def test_unknown_models_list_the_known(spec: str):
    with pytest.raises(UnknownSpecError, match=r"unknown model .*Known: .*hf:<hub id or folder>.*tiny"):
        load_model(spec)


def test_a_model_is_its_own_spec():
    model = ScriptedModel(["a"])
    assert load_model(model) is model


@pytest.mark.parametrize("wrong", [None, 5, ["tiny"], object()])
def test_things_that_are_no_model(wrong: object):
    with pytest.raises(InvalidInputError, match=f"got {type(wrong).__name__}"):
        load_model(wrong)


def test_arguments_that_do_not_go_with_the_spec():
    with pytest.raises(InvalidInputError, match="`adapter` goes with a local model"):
        load_model("openai:gpt-4o", adapter="folder")
    with pytest.raises(InvalidInputError, match="`base_url` goes with an API model"):
        load_model("tiny", base_url="http://127.0.0.1")
    for arguments in ({"adapter": "folder"}, {"base_url": "http://127.0.0.1"}):
        with pytest.raises(InvalidInputError, match="go with a spec"):
            load_model(ScriptedModel(["a"]), **arguments)


def test_a_folder_without_a_model(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="holds no model: expected"):
        load_model(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("absent", "load", "extra"),
    [
        ("torch", lambda: load_model("tiny"), "local"),
        ("transformers", lambda: load_model("hf:some/model"), "local"),
        ("langchain", lambda: load_model("anthropic:claude"), "api"),
        ("langchain_openai", lambda: load_model("openai:gpt-4o"), "api"),
        ("sentence_transformers", lambda: load_embedder("minilm"), "local"),
        ("sentence_transformers", lambda: load_embedder("st:some/model"), "local"),
    ],
)
def test_a_missing_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, absent: str, load: Callable[[], object], extra: str
):
    find = importlib.util.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == absent else find(name))
    with pytest.raises(MissingExtraError) as caught:
        load()
    assert (caught.value.module, caught.value.extra) == (absent, extra)
    message = str(caught.value)
    assert f"`{absent}` is not installed" in message
    assert f'pip install "ragkit-py[{extra}]"' in message
    assert f'pip install -e ".[{extra}]"' in message
    assert isinstance(caught.value, ImportError)


def test_every_extra_is_declared():
    import tomllib
    from pathlib import Path

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(extras.EXTRA_OF.values()) <= set(declared["project"]["optional-dependencies"])


@pytest.mark.parametrize(
    ("spec", "meant"),
    [("openi:gpt-4", "openai:<model>"), ("hff:x", "hf:<hub id or folder>"), ("ggfu:a.gguf", "gguf:<file>")],
)
def test_a_misspelt_kind_is_recognised_whatever_follows_it(spec, meant):
    with pytest.raises(UnknownSpecError) as caught:
        load_model(spec)
    assert meant in caught.value.suggestions
