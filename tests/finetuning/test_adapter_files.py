"""Settings of adapters: PEFT's own are read as PEFT reads them, and a user's regular expressions become names."""

import json

import peft
import pytest
import torch
from random_llama import save_random_llama
from transformers import AutoModelForCausalLM

from ragkit import Example, finetune, load_model
from ragkit.errors import IntegrityError, UnsupportedError
from ragkit.finetuning._adapter_files import read_settings
from ragkit.finetuning._adapters import add_adapter

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of PEFT
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
LAYERS = ["q_proj", "v_proj"]
KINDS = {
    "lora": peft.LoraConfig(r=4, target_modules="all-linear", rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3}),
    "rslora": peft.LoraConfig(r=4, target_modules=LAYERS, use_rslora=True, layers_to_transform=[0]),
    "dora": peft.LoraConfig(r=4, target_modules=LAYERS, use_dora=True),
    "whole layers": peft.LoraConfig(r=4, target_modules=LAYERS, modules_to_save=["lm_head"]),
    "tokens": peft.LoraConfig(r=4, target_modules=LAYERS, trainable_token_indices=[1, 2]),
    "pissa": peft.LoraConfig(r=4, target_modules=LAYERS, init_lora_weights="pissa"),
    "ia3": peft.IA3Config(target_modules=LAYERS, feedforward_modules=[]),
    "loha": peft.LoHaConfig(r=4, target_modules=LAYERS),
    "lokr": peft.LoKrConfig(r=4, target_modules=LAYERS),
    "adalora": peft.AdaLoraConfig(target_modules=LAYERS, total_step=10),
    "vera": peft.VeraConfig(r=4, target_modules=LAYERS),
    "road": peft.RoadConfig(target_modules=LAYERS, group_size=8),
    "norms": peft.LNTuningConfig(target_modules=["input_layernorm"]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("base")).removeprefix("hf:")


def whole(base):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def logits(module):
    with torch.inference_mode():
        return module(torch.arange(5, 15)[None]).logits


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_computes_what_it_was_trained_to(base, tmp_path, kind):
    torch.manual_seed(0)
    trained = peft.get_peft_model(whole(base), KINDS[kind]).eval()
    with torch.no_grad():
        for weight in trained.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    trained.save_pretrained(tmp_path)
    loaded = add_adapter(whole(base), tmp_path, name="default", source=base)
    assert torch.equal(logits(loaded), logits(trained))
    assert not torch.allclose(logits(loaded), logits(whole(base)), atol=1e-3)


def test_regular_expressions_of_the_user_are_stored_as_names(base, tmp_path):
    config = peft.LoraConfig(
        r=4, target_modules=r".*\.(q|v)_proj", exclude_modules=r".*\.1\..*", rank_pattern={r"\w+\.q_proj": 2}
    )
    rows = [Example("dim the lamp", "fade lamp")] * 2
    tuned = finetune(f"hf:{base}", rows, peft_config=config, epochs=1, output_dir=tmp_path)
    settings = read_settings(tmp_path / "model")
    names = [f"model.layers.0.self_attn.{layer}" for layer in LAYERS]
    assert sorted(settings["target_modules"]) == names
    assert settings["rank_pattern"] == {names[0]: 2}
    assert tuned.model.module.base_model.targeted_module_names == names
    assert torch.allclose(logits(load_model(f"hf:{tmp_path}").module), logits(tuned.model.module))
    assert config.target_modules == r".*\.(q|v)_proj"  # the user's own object is unchanged


def test_errors_name_the_setting_and_what_to_do(tmp_path):
    settings = {"peft_type": "LORA", "target_modules": "(a+)+"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedError, match="`target_modules` must be a list of names"):
        read_settings(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["a"], "r": [None]}))
    with pytest.raises(IntegrityError, match="`r` must be a finite number"):
        read_settings(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "XLORA"}))
    with pytest.raises(UnsupportedError, match="'XLORA'"):
        read_settings(tmp_path)
