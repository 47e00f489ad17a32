"""A folder's ``generation_config.json`` recommends settings; they change nothing that the caller does not ask for."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
from random_llama import save_random_llama
from transformers import AutoModelForCausalLM

from ragkit import load_model
from ragkit.models._sampling import Sampling
from ragkit.models._streaming import Listener
from ragkit.records import Chat, Message

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT

PROMPTS = ["Input: dim the lamp\nOutput:", "red", "Input: dim the lamp\nOutput: fade\n\nInput: dim the fan\nOutput:"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
RECOMMENDED = {
    "penalties": {"repetition_penalty": 5.0, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 2.0},
    "sampling": {"do_sample": True, "temperature": 3.0, "top_p": 0.1, "top_k": 1, "min_p": 0.5, "typical_p": 0.3},
    "beams": {"num_beams": 3, "length_penalty": 4.0, "early_stopping": True},
    "several sequences": {"do_sample": True, "num_return_sequences": 3},
    "beams and sequences": {"num_beams": 4, "num_return_sequences": 4},
    "lengths": {"min_length": 500, "min_new_tokens": 12, "max_length": 5, "max_new_tokens": 3},
    "tokens": {"suppress_tokens": list(range(5, 900)), "begin_suppress_tokens": list(range(5, 900))},
    "forced": {"forced_bos_token_id": 7, "forced_eos_token_id": 2, "bad_words_ids": [[n] for n in range(5, 900)]},
    "output": {"return_dict_in_generate": True, "output_scores": True, "output_logits": True},
    "stops": {"stop_strings": ["a", "e", " "], "max_time": 1e-9},
    "caches": {"use_cache": False, "cache_implementation": "static"},
    "decoding": {"guidance_scale": 3.0, "prompt_lookup_num_tokens": 3, "renormalize_logits": True},
    "own": {"chat_format": "chatml", "max_window_size": 6144},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("model")).removeprefix("hf:")


@pytest.fixture(scope="module")
def plain(folder):
    return load_model(f"hf:{folder}")


def with_config(folder, path, **settings):
    """A copy of a model folder with other generation settings."""
    shutil.copytree(folder, path)
    file = path / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return load_model(f"hf:{path}")


def answers(model):
    asked = [
        {"max_tokens": 10},
        {"max_tokens": 10, "stop": ["a"]},
        {"max_tokens": 10, "temperature": 1.0, "seed": 3},
        {"max_tokens": 24, "schema": SCHEMA},
        {"max_tokens": 10, "choices": ["red lamp", "blue"]},
    ]
    found = [[(one.text, one.finish_reason) for one in model.generate(PROMPTS, **settings)] for settings in asked]
    return [*found, ["".join(model.stream(prompt, max_tokens=10)) for prompt in PROMPTS]]


@pytest.mark.parametrize("name", RECOMMENDED)
def test_recommended_settings_change_nothing(folder, plain, tmp_path, name):
    model = with_config(folder, tmp_path / "model", **RECOMMENDED[name])
    assert answers(model) == answers(plain)
    assert model.score(PROMPTS, [" a", " b"]).tolist() == plain.score(PROMPTS, [" a", " b"]).tolist()


def test_nor_do_they_below_an_adapter(folder, plain, tmp_path):
    base, own = tmp_path / "base", str(tmp_path / "adapter")
    with_config(folder, base)
    adapter = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), adapter).save_pretrained(own)
    over_plain = answers(load_model(f"hf:{own}"))
    shutil.rmtree(base)
    with_config(folder, base, **RECOMMENDED["penalties"], **RECOMMENDED["beams"])
    assert answers(load_model(f"hf:{own}")) == over_plain
    assert over_plain != answers(plain)


def test_any_token_may_end_an_answer_and_is_not_part_of_it(folder, plain, tmp_path):
    prompt = PROMPTS[0]
    ids = plain.encode_prompt(prompt)
    written = plain.module.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    place = next(n for n in range(3, 12) if written[n] not in written[:n])
    ends = [plain.tokenizer.eos_token_id, written[place]]
    model = with_config(folder, tmp_path / "model", eos_token_id=ends)
    expected = plain.tokenizer.decode(written[:place], skip_special_tokens=True)
    answer = model.generate(prompt, max_tokens=12)
    assert (answer.text, answer.finish_reason) == (expected, "stop")
    assert answer.usage.completion_tokens == place + 1
    assert "".join(model.stream(prompt, max_tokens=12)) == expected
    heard = []
    model.complete_rows([ids], Sampling(max_tokens=12), listeners=[Listener(hear=lambda piece, _: heard.append(piece))])
    assert "".join(heard) == expected


def test_a_chat_model_ends_its_turn_at_a_token_that_is_not_special(folder, tmp_path):
    model = with_config(folder, tmp_path / "model")
    tokenizer = model.tokenizer
    end = tokenizer("lamp", add_special_tokens=False)["input_ids"][-1]
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [2, end], "repetition_penalty": 9.0}))
    chat = load_model(f"hf:{tmp_path / 'model'}")
    text = chat.generate(Chat((Message("user", "dim"),)), max_tokens=40)
    ids = chat.encode_prompt(Chat((Message("user", "dim"),)))
    written = chat.module.generate(
        torch.tensor([ids]), max_new_tokens=40, do_sample=False, repetition_penalty=1.0, eos_token_id=[2, end]
    )[0, len(ids) :].tolist()
    kept = [token for token in written if token not in {2, end}]
    assert text.text == tokenizer.decode(kept, skip_special_tokens=True)
