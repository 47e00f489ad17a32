"""Local models: `tiny` through ragkit must be what plain transformers computes."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragkit.errors import InvalidInputError, PromptTooLongError, UnsupportedError
from ragkit.models._local import LocalModel
from ragkit.records import Chat, Message, Prompt
from ragkit.testing import LanguageModelContract

PROMPTS = [
    "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:",
    "Input: red\nOutput:",
    "naïve café 東京 🙂",
    "",
    " ".join(["lamp fan vent"] * 60),
    "Input: {input}\nOutput: {output}\n\nInput: a\u2028b\x00\nOutput:",
]


class TestTiny(LanguageModelContract):
    @pytest.fixture
    def model(self, tiny: LocalModel):
        return tiny


class TestTinyInSmallBatches(LanguageModelContract):
    @pytest.fixture
    def model(self, tiny: LocalModel):
        return LocalModel(tiny.module, tiny.tokenizer, name="t", fingerprint="t", source="tiny", batch_size=2)


@pytest.fixture(scope="module")
def plain():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ragkit.tiny import WEIGHTS

    module = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    return module, AutoTokenizer.from_pretrained(WEIGHTS)


def ids_by_hand(tokenizer: Any, text: str):
    return [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]


def test_greedy_equals_plain_transformers(tiny: LocalModel, plain: tuple[Any, Any]):
    import torch

    module, tokenizer = plain
    answers = tiny.generate(PROMPTS, max_tokens=24)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([ids_by_hand(tokenizer, prompt)])
        written = module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        written = written[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(written, skip_special_tokens=True)
        assert answer.usage.prompt_tokens == ids.shape[1]
        assert answer.usage.completion_tokens == len(written)
        ended = tokenizer.eos_token_id in written.tolist()
        assert answer.finish_reason == ("stop" if ended else "length")


def test_padding_changes_no_distribution(tiny: LocalModel):
    import torch

    rows = [tiny.encode_prompt(prompt) for prompt in PROMPTS]
    ids, mask = tiny.network.padded(rows, left=True)
    with torch.inference_mode():
        together = tiny.module(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
        for place, row in enumerate(rows):
            alone = tiny.module(input_ids=torch.tensor([row])).logits[0, -1]
            assert torch.allclose(together.logits[place, -1], alone, atol=1e-3)


def test_batches_equal_singles(tiny: LocalModel):
    prompts = PROMPTS * 4
    batch = tiny.generate(prompts, max_tokens=12, stop=["\n\n"])
    singles = [tiny.generate(prompt, max_tokens=12, stop=["\n\n"]) for prompt in prompts]
    assert [(answer.text, answer.usage) for answer in batch] == [(answer.text, answer.usage) for answer in singles]


def test_score_equals_a_forward_pass(tiny: LocalModel, plain: tuple[Any, Any]):
    import torch

    module, tokenizer = plain
    choices = [" fade", " fade lamp", " 東京", "", "\n\nInput: x"]
    scores = tiny.score(PROMPTS, choices)
    for row, prompt in enumerate(PROMPTS):
        head = ids_by_hand(tokenizer, prompt)
        for column, choice in enumerate(choices):
            tail = tokenizer(choice, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logits = module(torch.tensor([head + tail])).logits[0].double().numpy()
            expected = 0.0
            for place, token in enumerate(tail, start=len(head)):
                line = logits[place - 1]
                expected += line[token] - line.max() - np.log(np.exp(line - line.max()).sum())
            assert abs(scores[row, column] - expected) < 1e-3


def test_scores_of_single_tokens_are_a_distribution(tiny: LocalModel):
    words = [tiny.tokenizer.decode([token]) for token in range(3, len(tiny.tokenizer))]
    known = [word for word in words if "\ufffd" not in word and len(tiny.encode_text(word)) == 1]
    (scores,) = tiny.score(PROMPTS[:1], known)
    assert 0.9 < np.exp(scores).sum() <= 1 + 1e-6
    assert known[int(scores.argmax())] == tiny.generate(PROMPTS[0], max_tokens=1).text


def test_seeds(tiny: LocalModel):
    settings = {"max_tokens": 12, "temperature": 1.5}
    first = [answer.text for answer in tiny.generate(PROMPTS, seed=1, **settings)]
    assert first == [answer.text for answer in tiny.generate(PROMPTS, seed=1, **settings)]
    assert first == [tiny.generate(prompt, seed=1, **settings).text for prompt in PROMPTS]
    assert first != [answer.text for answer in tiny.generate(PROMPTS, seed=2, **settings)]
    greedy = [answer.text for answer in tiny.generate(PROMPTS, max_tokens=12)]
    assert greedy != first
    assert greedy == [answer.text for answer in tiny.generate(PROMPTS, max_tokens=12, seed=2)]


def test_sampling_follows_the_distribution(tiny: LocalModel):
    prompt, draws = "Input: red\nOutput:", 200
    texts = [tiny.generate(prompt, max_tokens=1, temperature=1.0, seed=seed).text for seed in range(draws)]
    likeliest = max(set(texts), key=texts.count)
    share = float(np.exp(tiny.score([prompt], [likeliest])[0, 0]))
    assert abs(texts.count(likeliest) / draws - share) < 4 * (share * (1 - share) / draws) ** 0.5 + 0.01


def test_sampling_leaves_the_shared_generator_alone(tiny: LocalModel):
    import torch

    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    tiny.generate(PROMPTS[0], max_tokens=3, temperature=1.0, seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_threads_encode_as_one(tiny: LocalModel):
    text = f"a {' '.join(tiny.tokenizer.all_special_tokens)} b"
    expected, interval = tiny.encode_prompt(text), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: tiny.encode_prompt(text), range(2000)))
    finally:
        sys.setswitchinterval(interval)
    assert all(ids == expected for ids in found)


def test_the_window(tiny: LocalModel):
    window = tiny.capabilities.window
    prompt = " lamp" * (window - 9)
    assert tiny.count_tokens(prompt) == window - 9
    assert tiny.generate(prompt, max_tokens=8).usage.prompt_tokens == window - 8
    with pytest.raises(PromptTooLongError, match="shorten the prompt") as caught:
        tiny.generate(["short", prompt], max_tokens=9)
    assert (caught.value.tokens, caught.value.window) == (window + 1, window)
    with pytest.raises(PromptTooLongError):
        tiny.score([prompt], [" lamp" * 9])
    assert tiny.score([prompt], [" lamp" * 8]).shape == (1, 1)


@pytest.mark.parametrize("text", ["<eos>", "a <eos> b", "<bos><pad>", "x<pad>"])
def test_special_tokens_in_a_text_are_text(tiny: LocalModel, text: str):
    ids = tiny.encode_text(text)
    assert not {tiny.tokenizer.bos_token_id, tiny.tokenizer.eos_token_id, tiny.tokenizer.pad_token_id} & set(ids)
    assert tiny.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tiny.encode_prompt(text) == [tiny.tokenizer.bos_token_id, *ids]
    assert tiny.generate(text, max_tokens=1).usage.prompt_tokens == 1 + len(ids) == 1 + tiny.count_tokens(text)


def test_a_prompt_is_its_text(tiny: LocalModel):
    split, whole = Prompt("Input: dim the la", "mp\nOutput:"), "Input: dim the lamp\nOutput:"
    assert tiny.encode_prompt(split) == tiny.encode_prompt(whole)


def test_a_chat_needs_a_template(tiny: LocalModel):
    with pytest.raises(UnsupportedError, match="no chat template"):
        tiny.generate(Chat((Message("user", "hi"),)))


def test_a_chat_template_is_used(tiny: LocalModel, plain: tuple[Any, Any]):
    from copy import deepcopy

    tokenizer = deepcopy(plain[1])
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}Output:"
    model = LocalModel(tiny.module, tokenizer, name="c", fingerprint="c", source="tiny")
    turns = Chat((Message("system", "s {{ x }}"), Message("user", "u")))
    expected = plain[1]("system: s {{ x }}\n\nuser: u\n\nOutput:", add_special_tokens=False)["input_ids"]
    assert model.encode_prompt(turns) == expected
    assert model.encode_prompt("u") == plain[1]("user: u\n\nOutput:", add_special_tokens=False)["input_ids"]
    assert model.generate(turns, max_tokens=2).usage.prompt_tokens == len(expected)


def test_an_end_of_text_ends_an_answer(tiny: LocalModel):
    import torch

    class Ending(torch.nn.Module):
        """The model, but for one thing: after ``stop_after`` tokens it ends the text."""

        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module, self.config, self.generation_config = module, module.config, module.generation_config
            self.device = module.device

        def generate(self, **settings: Any):
            ids = self.module.generate(**settings)
            ids[0, settings["input_ids"].shape[1] + 2 :] = self.config.eos_token_id
            return ids

    model = LocalModel(Ending(tiny.module), tiny.tokenizer, name="e", fingerprint="e", source="tiny")
    whole = tiny.generate(PROMPTS[0], max_tokens=2)
    answer = model.generate(PROMPTS[0], max_tokens=8)
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == (whole.text, "stop", 3)


def test_the_fingerprint_follows_the_weights(tiny: LocalModel, tmp_path: Path):
    import shutil

    from safetensors.torch import load_file, save_file

    from ragkit.models import load_model
    from ragkit.tiny import WEIGHTS

    folder = tmp_path / "copy"
    shutil.copytree(WEIGHTS, folder)
    copy = load_model(f"hf:{folder}")
    assert copy.name == f"hf:{folder}"
    assert copy.fingerprint == tiny.fingerprint
    assert copy.generate(PROMPTS[0], max_tokens=6).text == tiny.generate(PROMPTS[0], max_tokens=6).text
    weights = load_file(folder / "model.safetensors")
    first = sorted(weights)[0]
    weights[first] = weights[first] * 1.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(f"hf:{folder}").fingerprint != tiny.fingerprint


def test_half_of_a_character_is_named(tiny: LocalModel):
    for ask in (tiny.generate, tiny.count_tokens, lambda prompt: tiny.score([prompt], [" a"])):
        with pytest.raises(InvalidInputError, match="lone surrogate at index 1"):
            ask("a\ud83d")


@pytest.mark.parametrize("depth", [200, 2000])
def test_a_schema_that_is_too_deep_is_refused(tiny: LocalModel, depth: int):
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"anyOf": [schema]}
    with pytest.raises(InvalidInputError, match=r"`schema` (cannot be followed|is nested)"):
        tiny.generate("a", schema=schema)


def test_a_conversation_that_a_chat_template_refuses_is_told(tiny: LocalModel):
    from copy import deepcopy

    tokenizer = deepcopy(tiny.tokenizer)
    tokenizer.chat_template = (
        "{% for turn in messages %}{{ raise_exception('no assistant') if turn.role == 'assistant' }}{% endfor %}"
        "{{ messages[0].content }}"
    )
    model = LocalModel(tiny.module, tokenizer, name="c", fingerprint="c", source="tiny")
    for turns, said in ((("user", "assistant"), "no assistant"), ((), "rejects the conversation")):
        with pytest.raises(InvalidInputError, match=said):
            model.generate(Chat(tuple(Message(role, "a") for role in turns)))


@pytest.mark.parametrize(
    ("written", "allowed"), [([], {5, 7}), ([5], {2, 6}), ([5, 6], {2}), ([7], {8}), ([7, 8], {2}), ([5, 2], {2})]
)
def test_a_choice_goes_on_or_ends(written: list[int], allowed: set[int]):
    import torch

    from ragkit.models._constrained_decoding import OneOf

    held = OneOf([[5], [5, 6], [7, 8]], ends=[2], start=1)  # one choice begins another
    scores = held(torch.tensor([[0, *written]]), torch.arange(10.0)[None])
    assert {place for place, score in enumerate(scores[0].tolist()) if score == place} == allowed
    assert scores.isneginf().sum() == 10 - len(allowed)
