"""Answers that are constrained to a grammar, and generation that stops when its call is cancelled."""

import asyncio
import re

import pytest

from ragkit.errors import AnswerFormError, BatchError, CallCancelledError, InvalidInputError, UnsupportedError
from ragkit.models import load_model
from ragkit.models._concurrency import Cancellation
from ragkit.models._grammar_check import GrammarCheck
from ragkit.models._middleware import LayeredModel
from ragkit.models._rate_limit import Retry
from ragkit.models._replay import ReplayModel
from ragkit.models._sampling import Sampling
from ragkit.models._scripted import ScriptedModel
from ragkit.models._streaming import Listener
from ragkit.protocols import Capabilities

ROOMS = r"""
start: "lamp " STATE ("; lamp " STATE)* "."
STATE: /on|off/ | "in room " /[0-9]{1,2}/
"""
FOLLOWED = re.compile(r"lamp (on|off|in room \d{1,2})(; lamp (on|off|in room \d{1,2}))*\.")
PROMPTS = ["dim the lamp", "Input: a\nOutput:", "東京 naïve \U0001f600"]


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny")


@pytest.fixture
def layered(tmp_path):
    return load_model("tiny", cache=str(tmp_path / "cache.sqlite"))


class Grammatical(ScriptedModel):
    """A scripted model that may be called with a grammar, and does not follow it by itself."""

    @property
    def capabilities(self):
        return Capabilities(grammar=True)


def test_every_answer_of_a_batch_follows_the_grammar(tiny):
    for settings in ({}, {"temperature": 2.0, "seed": 3}):
        answers = tiny.generate(PROMPTS, grammar=ROOMS, max_tokens=200, **settings)
        assert all(FOLLOWED.fullmatch(answer.text) for answer in answers)
        assert {answer.finish_reason for answer in answers} == {"stop"}
        alone = [tiny.generate(prompt, grammar=ROOMS, max_tokens=200, **settings).text for prompt in PROMPTS]
        assert [answer.text for answer in answers] == alone


def test_async_and_streamed_answers_are_the_same(tiny, layered):
    for model in (tiny, layered):
        expected = model.generate(PROMPTS[0], grammar=ROOMS, max_tokens=200).text
        assert asyncio.run(model.agenerate(PROMPTS[0], grammar=ROOMS, max_tokens=200)).text == expected
        pieces = list(model.stream(PROMPTS[0], grammar=ROOMS, max_tokens=200))
        assert "".join(pieces) == expected

    async def streamed():
        return [piece async for piece in tiny.astream(PROMPTS[0], grammar=ROOMS, max_tokens=200)]

    assert "".join(asyncio.run(streamed())) == tiny.generate(PROMPTS[0], grammar=ROOMS, max_tokens=200).text


def test_the_grammar_is_part_of_the_cache_key(layered):
    first = layered.generate(PROMPTS[0], grammar=ROOMS, max_tokens=200)
    assert not first.cached
    assert layered.generate(PROMPTS[0], grammar=ROOMS, max_tokens=200).cached
    other = layered.generate(PROMPTS[0], grammar='start: "b"', max_tokens=200)
    assert (other.text, other.cached) == ("b", False)
    assert not layered.generate(PROMPTS[0], max_tokens=200).cached


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("start: lamp", 'unknown name: "lamp"'),
        ("lamp: /a/", "start"),
        ("start: (", "Expected"),
        ("start: /(/", "grammar"),
        ("  ", "in Lark's notation"),
        (7, "in Lark's notation"),
    ],
)
def test_an_invalid_grammar_is_an_error_before_any_call(grammar, message):
    model = Grammatical(["lamp on."])
    for call in (model.generate, lambda prompt, **given: list(model.stream(prompt, **given))):
        with pytest.raises(InvalidInputError, match="`grammar`") as caught:
            call("x", grammar=grammar)
        assert message in str(caught.value)
    assert model.asked == []
    with pytest.raises(InvalidInputError, match="`grammar`"):
        load_model("tiny").generate("x", grammar=grammar)


@pytest.mark.parametrize("other", [{"schema": {"type": "integer"}}, {"choices": ["a"]}])
def test_constraints_exclude_each_other(tiny, other):
    with pytest.raises(InvalidInputError, match="cannot be combined"):
        tiny.generate("x", grammar=ROOMS, **other)


def test_a_grammar_that_does_not_fit_is_a_truncated_answer(tiny, layered):
    for model in (tiny, layered):
        with pytest.raises(AnswerFormError, match="truncated, so raise `max_tokens`") as caught:
            model.generate("x", grammar='start: "lamp " /[a-z]{300}/', max_tokens=8)
        assert caught.value.completion.finish_reason == "length"
        assert caught.value.completion.text.startswith("lamp")
        stream = model.stream("x", grammar='start: "lamp " /[a-z]{300}/', max_tokens=8)
        assert "".join(stream).startswith("lamp")
        assert stream.completion.finish_reason == "length"


def test_an_answer_that_is_complete_but_truncated_is_accepted(tiny):
    answer = tiny.generate("x", grammar='start: "a"{1,300}', max_tokens=1)
    assert set(answer.text) == {"a"}


def test_answers_of_any_model_are_validated():
    model = Grammatical(["lamp on.", "on", "lamp off."])
    with pytest.raises(BatchError) as caught:
        model.generate(["1", "2", "3"], grammar=ROOMS)
    texts = [getattr(result, "text", type(result).__name__) for result in caught.value.results]
    assert texts == ["lamp on.", "AnswerFormError", "lamp off."]


def test_a_truncated_answer_is_not_requested_again():
    model = Grammatical(lambda _: "lamp in room 12; lamp")
    layered = LayeredModel(model, retry=Retry(attempts=3, first_wait=0, every_failure=True))
    with pytest.raises(AnswerFormError):
        layered.generate("x", grammar=ROOMS, max_tokens=2)
    assert len(model.asked) == 1


def test_a_model_without_grammars_refuses_them():
    assert not ScriptedModel([]).capabilities.grammar
    with pytest.raises(UnsupportedError, match="`grammar`"):
        ScriptedModel(["a"]).generate("x", grammar=ROOMS)
    with pytest.raises(UnsupportedError, match="`grammar`"):
        load_model("minilm").generate("x", grammar=ROOMS)


def test_recorded_answers_are_found_by_their_grammar(tmp_path, tiny):
    path = tmp_path / "recorded.jsonl"
    recording = ReplayModel(path, record_from=tiny)
    said = recording.generate(PROMPTS[0], grammar=ROOMS, max_tokens=200).text
    replayed = ReplayModel(path)
    assert recording.capabilities.grammar
    assert replayed.capabilities.grammar
    assert replayed.generate(PROMPTS[0], grammar=ROOMS, max_tokens=200).text == said
    with pytest.raises(Exception, match="holds no answer"):
        replayed.generate(PROMPTS[0], max_tokens=200)


def test_the_check_reads_complete_texts_only():
    check = GrammarCheck('start: "é" "x"?')
    assert [check.accepts(text) for text in ("é", "éx", "e", "éxx", "", " é", "\ud800")] == [True, True] + [False] * 5
    assert GrammarCheck('start: " a"').accepts("a")  # as a tokenizer that omits the first space decodes it


def test_a_local_model_stops_when_its_call_is_cancelled(tiny):
    cancellation, pieces = Cancellation(), []

    def hear(piece, _tokens):
        pieces.append(piece)
        if len(pieces) == 3:
            cancellation.cancel()

    row = tiny.encode_prompt("one two three one two three")
    sampling = Sampling(max_tokens=300, grammar="start: /[a-z]{900}/")
    with cancellation.applied(), pytest.raises(CallCancelledError):
        tiny.complete_rows([row], sampling, listeners=[Listener(hear=hear)])
    assert len(pieces) < 10
    with cancellation.applied(), pytest.raises(CallCancelledError):  # also before the first step
        tiny.generate("x")
    assert tiny.generate("x", max_tokens=1).usage.completion_tokens == 1  # outside of the block


def test_a_call_that_exceeds_its_timeout_releases_the_model(tiny):
    slow = LayeredModel(tiny, retry=Retry(attempts=1, timeout=0.2))
    with pytest.raises(Exception, match="did not respond within"):
        slow.generate("one two three", grammar="start: /[a-z]{4000}/", max_tokens=900)
    # The model would be busy for several seconds; its lock is free as soon as the step in progress ends.
    assert tiny.generate("x", max_tokens=1).usage.completion_tokens == 1
    assert tiny._lock.acquire(timeout=60)
    tiny._lock.release()
