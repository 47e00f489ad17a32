"""What is heard while a model writes: pieces, log-probabilities, and rows whose listener has gone."""

import numpy as np
import pytest
from random_llama import save_random_llama

from ragkit import load_model
from ragkit._progress import quiet_transformers
from ragkit.errors import ModelError
from ragkit.models import AdapterSet
from ragkit.models._sampling import Sampling
from ragkit.models._streaming import Listener

PROMPTS = ["Input: dim the lamp\nOutput:", "red", "one two three one two", "naïve 東京 🙂"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_model(save_random_llama(tmp_path_factory.mktemp("llama")))


class Heard:
    def __init__(self, until=10**9, **options) -> None:
        self.pieces, self.tokens, self.until = [], [], until
        self.listener = Listener(hear=self.hear, is_gone=lambda: len(self.pieces) >= self.until, **options)

    def hear(self, piece, tokens):
        self.pieces.append(piece)
        self.tokens.extend(tokens)


def listened(model, sampling, heard, **options):
    rows = [model.encode_prompt(prompt) for prompt in PROMPTS]
    return model.complete_rows(rows, sampling, listeners=[one.listener for one in heard], **options)


@pytest.mark.parametrize("settings", [{}, {"stop": ("e", "t")}, {"temperature": 2.0, "seed": 3}])
def test_pieces_join_to_the_answer(llama, tiny, settings):
    for model in (llama, tiny):
        heard = [Heard() for _ in PROMPTS]
        answers = listened(model, Sampling(max_tokens=24, **settings), heard)
        assert ["".join(one.pieces) for one in heard] == [answer.text for answer in answers]
        assert [answer.text for answer in answers] == [
            answer.text for answer in model.generate(PROMPTS, max_tokens=24, **settings)
        ]
        assert max(len(one.pieces) for one in heard) > 1


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.5, "seed": 3}, {"choices": (" fade lamp", " red")}])
def test_logprobs_are_those_of_score(llama, settings):
    heard = [Heard(top_logprobs=3) for _ in PROMPTS]
    answers = listened(llama, Sampling(max_tokens=6, **settings), heard)
    for prompt, answer, one in zip(PROMPTS, answers, heard, strict=True):
        assert "".join(token.text for token in one.tokens) == answer.text or "\ufffd" in answer.text
        written = llama.encode_text(answer.text)
        if len(written) == len(one.tokens):  # else the text would be cut into other tokens
            expected = llama.score([prompt], [answer.text])[0, 0]
            assert sum(token.logprob for token in one.tokens) == pytest.approx(expected, abs=1e-3)
        for token in one.tokens:
            values = [value for _, value in token.top]
            assert (len(values), values) == (3, sorted(values, reverse=True))
            assert token.logprob <= values[0] + 1e-6
    if not settings:
        assert all(token.logprob == token.top[0][1] for one in heard for token in one.tokens)


def test_no_tokens_past_a_stop_sequence(llama):
    whole = llama.generate(PROMPTS[0], max_tokens=12).text
    stop = whole[len(whole) // 2 :][:3]
    heard = [Heard(top_logprobs=0) for _ in PROMPTS]
    answer = listened(llama, Sampling(max_tokens=12, stop=(stop,)), heard)[0]
    assert answer.text == whole[: whole.index(stop)]
    told = "".join(token.text for token in heard[0].tokens)
    assert told.startswith(answer.text)
    assert len(told) - len(heard[0].tokens[-1].text) < len(answer.text)


def test_one_that_goes_away_disturbs_no_other(llama):
    alone = llama.generate(PROMPTS, max_tokens=30)
    heard = [Heard(), Heard(until=2), Heard(), Heard()]
    answers = listened(llama, Sampling(max_tokens=30), heard)
    assert [answers[place].text for place in (0, 2, 3)] == [alone[place].text for place in (0, 2, 3)]
    assert answers[1].usage.completion_tokens < 30
    assert alone[1].text.startswith(answers[1].text)


def test_each_row_has_its_own_seed(llama):
    rows = [llama.encode_prompt("red")] * 4
    sampling = Sampling(max_tokens=8, temperature=1.5)
    answers = [answer.text for answer in llama.complete_rows(rows, sampling, seeds=[1, 2, 1, 2**70])]
    assert answers[0] == answers[2] == llama.generate("red", max_tokens=8, temperature=1.5, seed=1).text
    assert answers[1] == llama.generate("red", max_tokens=8, temperature=1.5, seed=2).text
    assert len(set(answers)) == 3


def test_draws_follow_the_softmax():
    import torch

    from ragkit.models._streaming import Draw

    logits = torch.tensor([[2.0, 0.0, -1.0, float("-inf")]])
    counts = np.zeros(4)
    draw = Draw(2.0, [5], "cpu")
    for _ in range(4000):
        counts[int(draw(None, logits).argmax())] += 1
    expected = torch.softmax(logits[0] / 2, -1).numpy()
    assert np.abs(counts / 4000 - expected).max() < 4 * 0.5 / 4000**0.5
    cold = Draw(1e-30, [1], "cpu")
    assert int(cold(None, logits).argmax()) == 0


def test_mixed_adapters_held_to_a_form_and_heard(llama, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    for seed, name in enumerate("ab", 1):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        with quiet_transformers():
            get_peft_model(load_model(llama.name).module, config).save_pretrained(tmp_path / name)
    adapters = AdapterSet(llama.name, {name: tmp_path / name for name in "ab"})
    names = ["a", None, "b", "a"]
    models = [adapters.base if name is None else adapters[name] for name in names]
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2, 3]}}, "required": ["a"]}
    for held in ({"schema": schema}, {"choices": [" fade lamp", " red", " one"]}):
        mixed = adapters.generate_mixed(PROMPTS, names, max_tokens=40, **held)
        alone = [model.generate(prompt, max_tokens=40, **held) for model, prompt in zip(models, PROMPTS, strict=True)]
        assert [(one.text, one.parsed) for one in mixed] == [(one.text, one.parsed) for one in alone]
    with pytest.raises(ModelError, match="truncated"):
        adapters.generate_mixed(PROMPTS, names, max_tokens=2, schema=schema)
    heard = [Heard(top_logprobs=0) for _ in PROMPTS]
    rows = [adapters.base.encode_prompt(prompt) for prompt in PROMPTS]
    listeners = [one.listener for one in heard]
    sampling = Sampling(max_tokens=5, temperature=1.0)
    answers = adapters.complete_rows(rows, names, sampling, seeds=[4, 5, 6, 7], listeners=listeners)
    for seed, model, prompt, answer, one in zip([4, 5, 6, 7], models, PROMPTS, answers, heard, strict=True):
        assert answer.text == model.generate(prompt, max_tokens=5, temperature=1.0, seed=seed).text
        assert "".join(one.pieces) == answer.text
        if llama.encode_text(answer.text) and len(llama.encode_text(answer.text)) == len(one.tokens):
            expected = model.score([prompt], [answer.text])[0, 0]
            assert sum(token.logprob for token in one.tokens) == pytest.approx(expected, abs=1e-3)
