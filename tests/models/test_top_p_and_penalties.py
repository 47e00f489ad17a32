"""``top_p`` and penalties: the tokens of `tiny` against those that NumPy chooses from its logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from openai_server import OpenAIServer
from scripted_server import Reply, ScriptedServer, failed, whole

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models import ReplayModel, Sampling, ScriptedModel, load_model
from ragkit.models._local import LocalModel
from ragkit.models._response_cache import key_of
from ragkit.models._streaming import Draw, Penalties

PROMPTS = ["Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:", "one two three one two", "é 🙂 red"]


def greedy(tiny: LocalModel, prompt: str, steps: int, presence: float, frequency: float) -> str:
    """Decode without cache: the logit of each token minus its count times one penalty, minus the other if it occurs."""
    prefix, written = tiny.encode_prompt(prompt), []
    ends = set(tiny.network.end_ids)
    for _ in range(steps):
        with torch.no_grad():
            logits = tiny.module(torch.tensor([[*prefix, *written]])).logits[0, -1].double().numpy()
        counts = np.bincount(written, minlength=len(logits))
        written.append(int((logits - frequency * counts - presence * np.minimum(counts, 1)).argmax()))
        if written[-1] in ends:
            written.pop()
            break
    return str(tiny.tokenizer.decode(written, skip_special_tokens=True))


@pytest.mark.parametrize(("presence", "frequency"), [(0.0, 0.0), (2.0, 0.0), (0.0, 2.0), (1.5, 1.0), (-2.0, -1.0)])
def test_penalties_by_value(tiny: LocalModel, presence: float, frequency: float):
    found = tiny.generate(PROMPTS, max_tokens=16, presence_penalty=presence, frequency_penalty=frequency)
    assert [each.text for each in found] == [greedy(tiny, prompt, 16, presence, frequency) for prompt in PROMPTS]


def test_penalties_change_answers(tiny: LocalModel):
    plain = [each.text for each in tiny.generate(PROMPTS, max_tokens=16)]
    for name in ("presence_penalty", "frequency_penalty"):
        assert [each.text for each in tiny.generate(PROMPTS, max_tokens=16, **{name: 2.0})] != plain


def test_penalties_count_only_the_answer():
    scores = torch.zeros(2, 4)
    found = Penalties(presence=0.5, frequency=0.25, start=2)(torch.tensor([[3, 3, 1, 1], [0, 0, 2, 3]]), scores)
    assert found.tolist() == [[0, -1.0, 0, 0], [0, 0, -0.75, -0.75]]


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_nucleus_by_value(top_p: float, temperature: float):
    scores = np.random.default_rng(0).normal(size=(20, 50))
    probabilities = np.exp(scores / temperature)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = np.zeros(scores.shape, dtype=bool)
    for row, line in enumerate(probabilities):
        total = 0.0
        for token in np.argsort(-line, kind="stable"):
            expected[row, token] = True
            total += line[token]
            if total >= top_p:
                break
    drawn = Draw(temperature, range(20), "cpu", top_p=top_p)(None, torch.tensor(scores))
    assert np.array_equal(np.isfinite(drawn.numpy()), expected)
    assert expected.sum() < expected.size


def test_sampling_stays_in_the_nucleus(tiny: LocalModel):
    prompt = PROMPTS[1]
    with torch.no_grad():
        logits = tiny.module(torch.tensor([tiny.encode_prompt(prompt)])).logits[0, -1]
    probabilities = logits.double().softmax(-1).numpy()
    order = np.argsort(-probabilities)
    top_p = float(probabilities[order[:2]].sum()) - 1e-3  # the two most probable tokens
    allowed = {str(tiny.tokenizer.decode([int(token)])) for token in order[:2]}
    settings = {"max_tokens": 1, "temperature": 1.0}
    inside = {tiny.generate(prompt, seed=seed, top_p=top_p, **settings).text for seed in range(60)}
    assert inside <= allowed
    hot = {"max_tokens": 1, "temperature": 3.0}
    assert not {tiny.generate(prompt, seed=seed, **hot).text for seed in range(60)} <= allowed
    assert tiny.generate(prompt, max_tokens=8, temperature=2.0, seed=1, top_p=0.0).text == (
        tiny.generate(prompt, max_tokens=8).text
    )


def test_one_prompt_a_batch_and_a_stream_agree(tiny: LocalModel):
    settings = {
        "max_tokens": 10, "temperature": 1.0, "seed": 3, "top_p": 0.8,
        "presence_penalty": 1.0, "frequency_penalty": 0.5,
    }  # fmt: skip
    batch = [each.text for each in tiny.generate(PROMPTS, **settings)]
    assert batch == [tiny.generate(prompt, **settings).text for prompt in PROMPTS]
    assert batch == ["".join(tiny.stream(prompt, **settings)) for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_p", 1.1), ("top_p", -0.1), ("top_p", math.nan), ("top_p", True), ("presence_penalty", 2.1),
     ("frequency_penalty", -2.1), ("frequency_penalty", "1")],
)  # fmt: skip
def test_values_out_of_range_are_refused(tiny: LocalModel, name: str, value: object):
    with pytest.raises(InvalidInputError, match=f"`{name}` must be a number between"):
        tiny.generate("a", **{name: value})


def test_they_are_part_of_cache_keys_only_if_they_have_an_effect(tmp_path):
    plain = Sampling().options()
    assert set(plain) == {"max_tokens", "temperature", "stop", "seed"}
    keys = {key_of("m", "p", options) for options in (
        plain, Sampling(top_p=0.5).options(), Sampling(presence_penalty=1).options(),
        Sampling(frequency_penalty=1).options(),
    )}  # fmt: skip
    assert len(keys) == 4
    replies = iter(["first", "second"])
    model = ReplayModel(tmp_path / "r.jsonl", record_from=ScriptedModel(lambda _: next(replies)))
    assert [model.generate("p").text, model.generate("p", top_p=0.5).text] == ["first", "second"]
    again = ReplayModel(tmp_path / "r.jsonl")
    assert [again.generate("p", top_p=0.5).text, again.generate("p").text] == ["second", "first"]


def test_they_are_sent_to_an_api_only_if_they_have_an_effect(tiny: LocalModel):
    with OpenAIServer(tiny) as server:
        model = load_model("openai:tiny", base_url=server.url)
        model.generate("a", max_tokens=1)
        model.generate("a", max_tokens=1, top_p=0.5, presence_penalty=1.0, frequency_penalty=-0.5)
        "".join(model.stream("a", max_tokens=1, top_p=0.25))
    first, second, third = server.requests
    assert not {"top_p", "presence_penalty", "frequency_penalty"} & first.keys()
    assert (second["top_p"], second["presence_penalty"], second["frequency_penalty"]) == (0.5, 1.0, -0.5)
    assert third["top_p"] == 0.25


def test_a_setting_that_the_api_rejects_is_not_dropped():
    refused = failed("Unsupported parameter: 'top_p'", param="top_p", code="unsupported_parameter")
    with ScriptedServer(Reply(refused, 400), Reply(whole("hi"))) as server:
        model = load_model("openai:m", base_url=server.url)
        with pytest.raises(UnsupportedError, match="does not accept `top_p`"):
            model.generate("a", top_p=0.5, max_tokens=1)
