"""What prompts begin with is read once: answers, scores and streams are those of each prompt alone."""

import asyncio
import json
import threading
from typing import Annotated

import pytest
from pydantic import BaseModel, Field
from random_llama import save_random_llama

from ragkit import Prompt, load_model
from ragkit.errors import InvalidInputError, ModelError
from ragkit.models import _prefix_cache as prefix_cache
from ragkit.models._prefix_cache import NO_PREFIX, Prefix, PrefixCache, shared_length
from ragkit.testing import LanguageModelContract

DOCUMENT = "lamp fan vent red blue one two three dim fade " * 12
PROMPTS = [
    Prompt(DOCUMENT, f"Input: {word}\nOutput:") for word in ("lamp", "the red fan", "é 🙂", "one two three four")
]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def llama(spec):
    return load_model(spec)


class TestLlama(LanguageModelContract):
    @pytest.fixture
    def model(self, llama):
        return llama


def alone(model, prompt, max_tokens=12):
    """What plain transformers writes."""
    import torch

    ids = torch.tensor([model.encode_prompt(prompt)])
    mask = torch.ones_like(ids)
    written = model.module.generate(ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False)
    return model.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)


def counted(model, monkeypatch):
    """The tokens of every forward pass."""
    sizes, forward = [], model.module.forward

    def counting(*args, **arguments):
        ids = arguments.get("input_ids", args[0] if args else None)
        sizes.append(tuple(ids.shape))
        return forward(*args, **arguments)

    counting.__signature__ = __import__("inspect").signature(forward)
    monkeypatch.setattr(model.module, "forward", counting)
    return sizes


def test_a_prefix_is_read_once_and_changes_nothing(llama, monkeypatch):
    expected = [alone(llama, prompt) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    sizes = counted(llama, monkeypatch)
    answers = llama.generate(PROMPTS, max_tokens=12)
    assert [answer.text for answer in answers] == expected
    length = len(llama.encode_prompt(DOCUMENT))
    assert sizes[0] == (1, length)
    assert all(width < 30 for _, width in sizes[1:])
    assert sorted(answer.usage.cached_tokens for answer in answers) == [0, *[length] * 3]
    # The next call finds it.
    sizes.clear()
    again = llama.generate(PROMPTS[1], max_tokens=12)
    assert (again.text, again.usage.cached_tokens) == (expected[1], length)
    assert all(width < 30 for _, width in sizes)
    assert again.usage.prompt_tokens == len(llama.encode_prompt(PROMPTS[1]))


def test_strings_share_within_a_call_only(llama, monkeypatch):
    sizes = counted(llama, monkeypatch)
    texts = [prompt.text for prompt in PROMPTS]
    answers = llama.generate(texts, max_tokens=12)
    assert sizes[0][0] == 1
    assert sizes[0][1] > 100
    monkeypatch.undo()
    assert [answer.text for answer in answers] == [alone(llama, text) for text in texts]
    assert llama.generate(texts[0], max_tokens=2).usage.cached_tokens == 0


def test_different_prefixes_in_one_call(llama):
    other = Prompt("blue " + DOCUMENT, "Input: lamp\nOutput:")
    prompts = [PROMPTS[0], other, "Input: red\nOutput:", PROMPTS[1], Prompt(DOCUMENT)]
    assert [answer.text for answer in llama.generate(prompts, max_tokens=8)] == [
        alone(llama, prompt, 8) for prompt in prompts
    ]


def test_sampling_and_stops_with_a_prefix(llama):
    settings = {"max_tokens": 12, "temperature": 2.0, "seed": 3}
    texts = [prompt.text for prompt in PROMPTS]
    apart = [llama.generate(text, **settings).text for text in texts]
    assert [answer.text for answer in llama.generate(PROMPTS, **settings)] == apart
    whole = alone(llama, PROMPTS[0])
    stop = whole[4:6]
    assert llama.generate(PROMPTS[0], max_tokens=12, stop=[stop]).text == whole[: whole.find(stop)]


GEMMA = {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.parametrize(
    ("kind", "sizes"), [("Mistral", {"sliding_window": 16}), ("Qwen3", {"head_dim": 16}), ("Gemma3", GEMMA)]
)
def test_prefixes_under_other_kinds_of_attention(tmp_path, monkeypatch, kind, sizes):
    model = load_model(save_random_llama(tmp_path, kind=kind, **sizes))
    expected = [alone(model, prompt, 8) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    passes = counted(model, monkeypatch)
    assert [answer.text for answer in model.generate(PROMPTS, max_tokens=8)] == expected
    assert passes[0] == (1, len(model.encode_prompt(DOCUMENT)))
    assert all(width < 30 for _, width in passes[1:])


def test_the_longest_unused_goes_first(llama):
    import torch

    def prefix(word):
        ids = llama.encode_prompt(word * 40)
        with torch.inference_mode():
            return Prefix(ids, llama.network.forward(torch.tensor([ids])).past_key_values)

    a, b, c = map(prefix, (" lamp", " fan", " vent"))
    kept = PrefixCache(max_bytes=2 * a.bytes)
    kept.put("base", a)
    kept.put("adapter", a)
    assert kept.longest("other", a.ids) is NO_PREFIX
    assert kept.longest("base", a.ids) is a
    kept.put("base", b)  # the one of the adapter goes
    found = [kept.longest("adapter", a.ids), kept.longest("base", a.ids), kept.longest("base", b.ids)]
    assert found == [NO_PREFIX, a, b]
    kept.put("base", c)
    assert [kept.longest("base", a.ids), kept.longest("base", b.ids)] == [NO_PREFIX, b]
    PrefixCache(max_bytes=10).put("base", a)  # too large to keep, and no error


def test_shared_length():
    assert shared_length([[1, 2, 3], [1, 2, 3, 4]]) == 2
    assert shared_length([[1, 2, 9, 9], [1, 2, 3, 4], [1, 5, 3, 4]]) == 1
    assert shared_length([[7], [7]]) == 0
    assert prefix_cache.MIN_SHARED > 1


# Streams.


@pytest.mark.parametrize("name", ["llama", "tiny"])
def test_streams_come_in_pieces(request, name):
    model = request.getfixturevalue(name)
    for prompt in (PROMPTS[0], "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:"):
        stream = model.stream(prompt, max_tokens=12)
        pieces = list(stream)
        whole = model.generate(prompt, max_tokens=12)
        assert "".join(pieces) == whole.text == stream.completion.text
        assert len(pieces) > 1 or len(whole.text.split()) < 3
        assert stream.completion.usage.completion_tokens == whole.usage.completion_tokens
        assert stream.completion.finish_reason == whole.finish_reason


def test_a_stream_given_up_ends_the_work(llama):
    stream = llama.stream(PROMPTS[0], max_tokens=1000)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ragkit-stream"]
    assert llama.generate("Input:", max_tokens=1)  # the lock is free


def test_an_error_in_a_stream_reaches_the_caller(llama, monkeypatch):
    def fail(*args, **arguments):
        raise ModelError("broken")

    monkeypatch.setattr(llama.generator, "complete", fail)
    with pytest.raises(ModelError, match="broken"):
        list(llama.stream("a"))


def test_async_streams(llama):
    async def collect():
        return [piece async for piece in llama.astream(PROMPTS[0], max_tokens=6)]

    assert "".join(asyncio.run(collect())) == llama.generate(PROMPTS[0], max_tokens=6).text


# Answers held to a form.


class Lamp(BaseModel):
    colour: str = Field(max_length=12)
    lit: bool
    sizes: list[Annotated[int, Field(ge=0, le=99)]] = Field(max_length=2)


@pytest.mark.parametrize("name", ["llama", "tiny"])
def test_schemas_are_followed_whatever_the_weights(request, name):
    model = request.getfixturevalue(name)
    answers = model.generate(["Input: lamp\nOutput:", *PROMPTS], max_tokens=200, schema=Lamp)
    for answer in answers:
        assert Lamp.model_validate_json(answer.text) == answer.parsed
        assert answer.finish_reason == "stop"
    one_or_two = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    answer = model.generate("x", max_tokens=60, schema={**one_or_two, "additionalProperties": False})
    assert answer.parsed["a"] in {1, 2}
    assert json.loads(answer.text) == answer.parsed
    with pytest.raises(ModelError, match="truncated, so raise `max_tokens`"):
        model.generate("x", max_tokens=3, schema=Lamp)
    with pytest.raises(InvalidInputError, match="`schema` is not a valid JSON schema"):
        model.generate("x", schema={"type": "no such type"})


@pytest.mark.parametrize("name", ["llama", "tiny"])
def test_choices_are_kept_to(request, name):
    model = request.getfixturevalue(name)
    choices = [" fade", " fade lamp", " one two", " é 🙂"]
    answers = model.generate([*PROMPTS, "Input: red\nOutput:"] * 3, max_tokens=20, choices=choices)
    assert {answer.text for answer in answers} <= set(choices)
    assert all(answer.finish_reason == "stop" for answer in answers)
    drawn = {
        model.generate("Input:", max_tokens=20, choices=choices, temperature=5.0, seed=seed).text for seed in range(12)
    }
    assert len(drawn) > 1
    (only,) = model.generate(["x"], max_tokens=20, choices=[" one two"])
    assert only.text == " one two"
    with pytest.raises(InvalidInputError, match="the longest choice takes 9"):
        model.generate("x", max_tokens=2, choices=choices)


def test_a_single_token_choice_is_the_likelier_one(tiny):
    prompt = "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:"
    choices = [" fade", " lamp", " fan", " red"]
    best = choices[int(tiny.score([prompt], choices)[0].argmax())]
    assert tiny.generate(prompt, choices=choices).text == best


def test_what_suffixes_share_is_read_once_too(llama, monkeypatch):
    rules = "red blue one two three dim fade lamp fan vent " * 6
    prompts = [Prompt(DOCUMENT, f"{rules} {prompt.suffix}") for prompt in PROMPTS]
    expected = [alone(llama, prompt) for prompt in prompts]
    sizes = counted(llama, monkeypatch)
    answers = llama.generate(prompts, max_tokens=12)
    assert [answer.text for answer in answers] == expected
    (_, first), (rows, second) = sizes[:2]
    whole = len(llama.encode_prompt(DOCUMENT))
    assert (whole - first in {0, 1}, rows) == (True, 1)  # the last space of the one is the first of the other
    assert second > 50
    assert all(width < 30 for _, width in sizes[2:])
    # Only the prefix that was named is kept.
    assert llama.generate(prompts[0], max_tokens=2).usage.cached_tokens == first
