"""Precisions: which one is chosen, and that the faster products are those of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_gguf import random_llama, save_gguf

from ragkit.errors import InvalidInputError
from ragkit.models import AdapterSet, load_model
from ragkit.models import _devices as devices
from ragkit.models import _half_precision as half_precision
from ragkit.models._devices import dtype_for, multiplies_bfloat16
from ragkit.models._half_precision import HalfPrecision
from ragkit.models._scripted import ScriptedModel


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("sse avx512f avx512_bf16 avx", True), ("amx_bf16 amx_tile", True), ("avx avx2 fma avx512f", False), ("", False)],
)
def test_which_processors_multiply_bfloat16(flags: str, fast: bool, tmp_path: Path):
    (tmp_path / "cpuinfo").write_text(f"model name\t: it\nflags\t\t: {flags}\n")
    assert multiplies_bfloat16(tmp_path / "cpuinfo") == fast


def test_a_system_that_does_not_tell(tmp_path: Path):
    assert not multiplies_bfloat16(tmp_path / "absent")


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU, other rules apply")
def test_the_precision_follows_the_processor_and_the_file(monkeypatch: pytest.MonkeyPatch):
    for fast in (True, False):
        monkeypatch.setattr(devices, "multiplies_bfloat16", lambda fast=fast: fast)
        chosen = {stored: dtype_for("auto", stored) for stored in (torch.bfloat16, torch.float16, torch.float32, None)}
        half = torch.bfloat16 if fast else torch.float32
        assert chosen == {torch.bfloat16: half, torch.float16: half, torch.float32: torch.float32, None: torch.float32}
        assert dtype_for("float32", torch.bfloat16) == torch.float32
        assert dtype_for("bfloat16", torch.float32) == torch.bfloat16


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    return f"gguf:{save_gguf(folder / 'model.gguf', random_llama())}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_precision_that_is_asked_for(dtype: Any, spec: str):
    loaded: Any = load_model(spec, dtype=dtype)
    assert loaded.fingerprint.endswith(f":{dtype}")
    ids = torch.tensor([loaded.encode_prompt("a lamp")])
    plain = logits(random_llama(), ids)
    with loaded.computing():
        difference = float((loaded.module(ids).logits - plain).abs().max() / plain.abs().max())
    assert torch.equal(loaded.module.model.rotary_emb.inv_freq, random_llama().model.rotary_emb.inv_freq)
    assert difference < 1e-6 if dtype == "float32" else 1e-4 < difference < 0.05


def test_precisions_that_cannot_be_had():
    with pytest.raises(
        InvalidInputError, match=r"`dtype` must be one of \('auto', 'bfloat16', 'float32'\), got 'int8'"
    ):
        load_model("tiny", dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="`dtype` goes with a local model"):
        load_model("openai:gpt-4o", dtype="float32")
    with pytest.raises(InvalidInputError, match="`max_reasoning_tokens` go with a spec"):
        load_model(ScriptedModel(["a"]), dtype="float32")


def logits(module: Any, ids: Any) -> Any:
    with torch.inference_mode():
        return module(ids).logits


@pytest.fixture(params=["packed", "plain"])
def layout(request, monkeypatch: pytest.MonkeyPatch):
    """With weights in the layout of the processor, and without."""
    if request.param == "packed" and not multiplies_bfloat16():
        pytest.skip("this processor does not multiply bfloat16")
    if request.param == "plain":
        monkeypatch.setattr(half_precision, "multiplies_bfloat16", lambda: False)


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 7)])
def test_products_are_rounded_and_all_else_is_not(shape: tuple[int, int]):
    states, layer = torch.randn(*shape, 64), torch.nn.Linear(64, 48)
    module = torch.nn.Sequential(layer, head := torch.nn.Linear(48, 16))
    module.get_output_embeddings = lambda: head
    weight, bias = (each.detach().bfloat16().double() for each in (layer.weight, layer.bias))
    exact = states.bfloat16().double() @ weight.T + bias
    with torch.inference_mode(), HalfPrecision(module).on():
        inner, outer = layer(states), module(states)
    assert (inner.dtype, outer.dtype) == (torch.float32, torch.float32)
    assert (inner - exact).abs().max() <= exact.abs().max() * 2**-8  # the result is rounded once
    expected = inner.double() @ head.weight.double().T + head.bias.double()
    assert (outer - expected).abs().max() < 1e-5


@pytest.mark.usefixtures("layout")
def test_outside_of_the_block_nothing_is_changed():
    module = random_llama()
    ids = torch.arange(3, 20)[None]
    before = logits(module, ids)
    products = HalfPrecision(module)
    with products.on():
        assert not torch.equal(logits(module, ids), before)
    with pytest.raises(ZeroDivisionError), products.on():
        raise ZeroDivisionError
    assert torch.equal(logits(module, ids), before)
    module(ids).logits.sum().backward()  # all weights can be trained
    assert all(weight.grad is not None for weight in module.parameters())


@pytest.mark.usefixtures("layout")
def test_changed_weights_are_noticed():
    module = random_llama()
    products = HalfPrecision(module)
    ids = torch.arange(3, 20)[None]
    with products.on():
        first = logits(module, ids)
    with torch.no_grad():
        module.lm_head.weight.mul_(2)
    with products.on():
        assert torch.allclose(logits(module, ids), 2 * first)


def test_models_that_run_in_bfloat16_as_a_whole(monkeypatch: pytest.MonkeyPatch):
    module = random_llama()
    assert not HalfPrecision.suits(module)
    assert HalfPrecision.suits(module.to(torch.bfloat16))
    monkeypatch.setattr(half_precision, "_MOST_PARAMETERS", module.num_parameters() - 1)
    assert not HalfPrecision.suits(module)


def test_adapters_lie_on_these_products(spec: str, tmp_path: Path):
    from peft import LoraConfig, get_peft_model

    from ragkit._progress import quiet_transformers

    folders = {name: tmp_path / name for name in ("a", "b")}
    for number, folder in enumerate(folders.values()):
        torch.manual_seed(number)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        base: Any = load_model(spec, dtype="float32")
        with quiet_transformers():
            get_peft_model(base.module, config).save_pretrained(folder)
    prompts, choices = ["a lamp", "b", "x = 12"], [" lamp", "1", "é"]
    adapters = AdapterSet(spec, folders)  # in bfloat16 if the processor multiplies it
    for name, folder in folders.items():
        assert (adapters[name].products is not None) == (":bfloat16+" in adapters[name].fingerprint)
        exact, half = (load_model(spec, adapter=str(folder), dtype=dtype) for dtype in ("float32", "bfloat16"))
        expected = exact.score(prompts, choices)
        for model in (half, adapters[name]):
            assert np.abs(model.score(prompts, choices) - expected).mean() < 0.05 * np.abs(expected).mean()
        answers = [answer.text for answer in adapters[name].generate(prompts, max_tokens=4)]
        mixed = adapters.generate_mixed([*prompts, "c"], [name] * 3 + [None], max_tokens=4)
        assert [answer.text for answer in mixed[:3]] == answers
