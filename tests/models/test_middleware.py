"""The layers before a model: what is kept, joined, waited for, tried again and paid for; over real HTTP with faults."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from faults import TROUBLES, no_file_past
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_server import OpenAIServer
from pydantic import BaseModel
from waiting import wait_for

from ragkit import Budget, ScriptedModel, load_model
from ragkit.errors import (
    BatchError,
    BudgetExceededError,
    CallCancelledError,
    EmptyAnswerError,
    IntegrityError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    RagkitWarning,
    TransientModelError,
    UnsupportedError,
)
from ragkit.models import AnswerCache, LayeredModel, Price, Prices, RateLimit, Retry
from ragkit.models._concurrency import Cancellation, Slots
from ragkit.models._sampling import Sampling
from ragkit.records import Chat, Completion, Message, Prompt
from ragkit.testing import LanguageModelContract


class TestAllLayers(LanguageModelContract):
    max_tokens = 8

    @pytest.fixture
    def model(self, tiny, tmp_path):
        return LayeredModel(
            tiny,
            budget=Budget(calls=10_000, tokens=10_000_000),
            cache=AnswerCache(tmp_path / "answers.sqlite"),
            limit=RateLimit(requests=1e9, tokens=1e12),
            retry=Retry(),
        )


def counting(answer="answer"):
    return ScriptedModel(lambda prompt: f"{answer} to {prompt}")


# The cache.


def test_answers_are_kept_by_everything_they_depend_on(tmp_path):
    inner = counting()
    model = load_model(inner, cache=tmp_path / "a" / "answers.sqlite")
    first = model.generate("q", max_tokens=50)
    again = load_model(counting(), cache=tmp_path / "a" / "answers.sqlite").generate("q", max_tokens=50)
    assert (first.cached, again.cached) == (False, True)
    assert (again.text, again.usage) == (first.text, first.usage)
    assert again.paid == 0.0
    for prompt, change in [("Q", {}), ("q", {"max_tokens": 51}), ("q", {"stop": ["x"]}), ("q", {"temperature": 1.0})]:
        assert not model.generate(prompt, **{"max_tokens": 50, **change}).cached
    assert not load_model(ScriptedModel(["other"]), cache=tmp_path / "a" / "answers.sqlite").generate("q").cached
    assert model.generate(Prompt("q", ""), max_tokens=50).cached
    assert len(model.cache) == 6


def test_a_conversation_is_not_its_text(tmp_path):
    model = load_model(counting(), cache=tmp_path / "answers.sqlite")
    two = Chat((Message("user", "a"), Message("user", "b")))
    one = Chat((Message("user", "a\n\nuser: b"),))
    assert [model.generate(prompt).cached for prompt in (two, one, "user: a\n\nuser: b", two)] == [False] * 3 + [True]


def test_scores_are_kept(tiny, tmp_path):
    model = load_model(tiny, cache=tmp_path / "answers.sqlite", budget=Budget(calls=3))
    expected = tiny.score(["one two", "a b"], [" three", " c"])
    assert (model.score(["one two", "a b"], [" three", " c"]) == expected).all()
    seconds = model.score_seconds
    assert seconds > 0
    assert (model.score(["a b", "one two"], [" three", " c"]) == expected[::-1]).all()
    assert model.score_seconds == pytest.approx(2 * seconds)  # cached scores count with the time that they took
    assert model.budget.spent["calls"] == 2
    with pytest.raises(UnsupportedError):
        load_model(counting(), budget=model.budget).score(["a"], ["b"])
    assert model.budget.spent["calls"] == 2


@pytest.mark.parametrize("bytes_there", [b"not a database at all, but long enough to be looked at " * 40, b"\0" * 5000])
def test_a_file_that_is_no_cache(tmp_path, bytes_there):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(bytes_there)
    with pytest.raises(IntegrityError, match=r"answers.sqlite is not a cache .* delete it or give another path"):
        AnswerCache(path)
    with pytest.raises(InvalidInputError, match="cannot be opened as a cache"):
        AnswerCache(path / "below")


def test_a_cache_of_a_later_format_is_refused(tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache._file.execute("PRAGMA user_version = 99")
    cache.close()
    with pytest.raises(IntegrityError, match="format 99, expected 2"):
        AnswerCache(tmp_path / "answers.sqlite")


def test_a_damaged_answer_ends_its_own_call_alone(tmp_path):
    path = tmp_path / "answers.sqlite"
    model = load_model(counting(), cache=path)
    model.generate(["a", "b"])
    with sqlite3.connect(path) as file:
        file.execute("UPDATE answers SET answer = replace(answer, 'answer to a', 'answer to z')")
    file.close()
    with pytest.raises(IntegrityError, match="an answer is not the one that was written"):
        model.generate("a")
    with pytest.raises(BatchError) as some:
        model.generate(["a", "b", "c"])
    damaged, kept, new = some.value.results
    assert isinstance(damaged, IntegrityError)
    assert (kept.text, kept.cached, new.text) == ("answer to b", True, "answer to c")


def test_an_answer_that_was_paid_for_is_given_back_where_the_disk_is_full(tmp_path):
    model = load_model(counting("x" * 9000), cache=tmp_path / "answers.sqlite", concurrency=2)
    prompts = [str(number) for number in range(20)]
    with no_file_past(60_000), pytest.warns(RagkitWarning, match="Answers are given back but not kept"):
        answers = model.generate(prompts, max_tokens=10_000)
    assert [answer.text for answer in answers] == [f"{'x' * 9000} to {prompt}" for prompt in prompts]
    again = model.generate(prompts, max_tokens=10_000)
    assert [answer.text for answer in again] == [answer.text for answer in answers]
    assert {answer.cached for answer in again} == {True, False}


# Joining.


def followers_of(model, monkeypatch):
    """The calls that a model has joined to equal ones so far."""
    joined, join = [], model._joined

    @contextmanager
    def counted(calls):
        with join(calls) as first:
            joined.extend(calls[len(first) :])
            yield first

    monkeypatch.setattr(model, "_joined", counted)
    return joined


@pytest.mark.parametrize("concurrency", [None, 4])
def test_equal_calls_in_progress_are_one(concurrency, monkeypatch):
    def answer(prompt):  # when all that are equal are under way
        wait_for(lambda: len(joined) == (9 if prompt == "c" else 2))
        return f"to {prompt}"

    inner = ScriptedModel(answer)
    model = LayeredModel(inner, concurrency=concurrency)
    joined = followers_of(model, monkeypatch)
    answers = model.generate(["a", "b", "a", "a"])
    assert [answer.text for answer in answers] == ["to a", "to b", "to a", "to a"]
    assert Counter(inner.asked) == {"a": 1, "b": 1}
    assert sorted(answer.cached for answer in answers) == [False, False, True, True]
    assert model.budget.spent["calls"] == 2
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(model.generate, ["c"] * 8))
    assert inner.asked.count("c") == 1
    assert sum(answer.cached for answer in together) == 7
    assert not model.generate("c").cached  # nothing is kept without a cache
    assert not model._in_progress


def test_a_failure_is_told_to_all_who_wait(monkeypatch):
    def fail(prompt):
        wait_for(lambda: len(joined) == 3)
        raise ModelError("no")

    model = LayeredModel(ScriptedModel(fail), concurrency=4)
    joined = followers_of(model, monkeypatch)
    with pytest.raises(ModelError, match=r"^no$"):
        model.generate(["a"] * 4)
    assert model.budget.spent["calls"] == 1
    assert not model._in_progress


def test_a_crash_leaves_nobody_waiting():
    def crash(prompt):
        raise ZeroDivisionError

    model = LayeredModel(ScriptedModel(crash))
    with pytest.raises(ZeroDivisionError):
        model.generate("a")
    assert not model._in_progress


# The rate limit.


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 500)), min_size=1, max_size=40),
    requests=st.sampled_from([None, 6.0, 60.0]),
    tokens=st.sampled_from([None, 600.0, 6000.0]),
)
def test_no_stretch_of_time_takes_more_than_its_share(steps, requests, tokens):
    limit = RateLimit(requests=requests, tokens=tokens, burst=1.0)
    now, taken = 1000.0, []
    for pause, size in steps:
        now += pause
        taken.append((now + limit.delay(size, now), size))
    starts = [start for start, _ in taken]
    for first, (begin, _) in enumerate(taken):
        for last in range(first, len(taken)):
            stretch = starts[last] - begin + 1.0 + 1e-6
            if requests:  # what begins in a stretch, but for the last, fits the stretch and a burst
                assert last - first <= stretch * requests / 60
            if tokens:
                assert sum(size for _, size in taken[first:last]) <= stretch * tokens / 60
    if requests is None and tokens is None:
        assert starts == sorted(starts)


def test_threads_share_a_limit():
    limit = RateLimit(requests=60 * 100, burst=0.0)  # one every 10 ms
    model = LayeredModel(counting(), limit=limit, concurrency=8)
    began = time.monotonic()
    model.generate([str(number) for number in range(21)])
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"tokens": -1}, {"burst": 61}, {"requests": float("nan")}])
def test_bad_limits(wrong):
    with pytest.raises(InvalidInputError, match="must be"):
        RateLimit(**wrong)


# Retries, and what they cost.


class Troubled(ScriptedModel):
    """Raises each trouble once, in turn, and then answers."""

    def __init__(self, *troubles) -> None:
        super().__init__(lambda prompt: "answer")
        self.troubles = list(troubles)

    def _complete(self, prompts, sampling):
        if self.troubles:
            self.asked.append(prompts[0])
            raise self.troubles.pop(0)
        return super()._complete(prompts, sampling)


QUICK = Retry(attempts=4, first_wait=0.001, longest_wait=0.01)


def test_attempts_that_may_have_been_paid_for_stay_reserved():
    unpaid, paid = TransientModelError("429", maybe_paid=False), TransientModelError("cut", maybe_paid=True)
    model = LayeredModel(Troubled(unpaid, paid, unpaid), retry=QUICK, budget=Budget(calls=10, tokens=10_000))
    answer = model.generate("q", max_tokens=36)
    assert answer.attempts == 4
    took = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert model.budget.spent == {"calls": 2, "tokens": took + 1 + 64 + 36, "money": 0}


def test_no_attempt_beyond_the_budget():
    inner = Troubled(*[TransientModelError("cut")] * 3)
    model = LayeredModel(inner, retry=QUICK, budget=Budget(calls=2))
    with pytest.raises(BudgetExceededError, match="3 calls would be spent"):
        model.generate("q")
    assert len(inner.asked) == 2 == model.budget.spent["calls"]


def test_trouble_that_stays():
    model = LayeredModel(Troubled(*[TransientModelError("busy", maybe_paid=False)] * 4), retry=QUICK)
    with pytest.raises(TransientModelError, match="busy"):
        model.generate("q")
    assert model.budget.spent["calls"] == 0
    inner = Troubled(TransientModelError("come back tomorrow", retry_after=86_400))
    with pytest.raises(TransientModelError, match="tomorrow"):
        LayeredModel(inner, retry=QUICK).generate("q")
    assert len(inner.asked) == 1
    inner = Troubled(ModelError("a bad request", maybe_paid=False))
    with pytest.raises(ModelError, match="a bad request"):
        LayeredModel(inner, retry=QUICK).generate("q")
    assert len(inner.asked) == 1
    with pytest.raises(InvalidInputError, match="at least 1 attempt"):
        Retry(attempts=0)


# What a model cannot do.


class Colour(BaseModel):
    name: str
    dark: bool


def test_schemas_and_choices_are_checked(tmp_path, tiny):
    said = json.dumps({"name": "navy", "dark": True})
    model = load_model(ScriptedModel({"a": said, "b": "{}", "c": "red"}), cache=tmp_path / "answers.sqlite")
    expected = Colour(name="navy", dark=True)
    assert model.generate("a", schema=Colour).parsed == expected
    again = model.generate("a", schema=Colour)
    assert (again.parsed, again.cached) == (expected, True)
    assert model.generate("a", schema=Colour.model_json_schema()).parsed == {"name": "navy", "dark": True}
    with pytest.raises(ModelError, match="did not follow the schema"):
        model.generate("b", schema=Colour)
    with pytest.raises(ModelError, match=r"did not follow the schema .*'name' is a required property"):
        model.generate("b", schema=Colour.model_json_schema())
    asked = len(model.model.asked)
    with pytest.raises(InvalidInputError, match="`schema` is not a valid JSON schema"):
        model.generate("d", schema={"type": "colour"})
    assert len(model.model.asked) == asked
    assert model.generate("c", choices=["red", "blue"]).text == "red"
    with pytest.raises(ModelError, match="none of the 2 choices"):
        model.generate("c", choices=["green", "blue"])
    with pytest.raises(InvalidInputError, match="pass one of them"):
        model.generate("c", choices=["red"], schema=Colour)
    with pytest.raises(InvalidInputError, match="pydantic model or a JSON schema"):
        model.generate("c", schema="Colour")
    with pytest.raises(InvalidInputError, match="`choices` must be"):
        model.generate("c", choices="red")


# Over HTTP.

PRICES = Prices({"openai:tiny": Price(input=1.0, output=1.0)})


@pytest.fixture
def server():
    with OpenAIServer(ScriptedModel(lambda prompt: f"answer to {prompt}")) as running:
        yield running


def api(server, **options):
    return load_model("openai:tiny", base_url=server.url, **{"retry": QUICK, **options})


def test_a_refused_key_is_asked_once_or_twice(server):
    server.trouble = "401"
    with pytest.raises(ModelAccessError):
        api(server, concurrency=2).generate([str(number) for number in range(50)])
    assert len(server.requests) <= 4


@pytest.mark.parametrize("trouble", ["half json", "empty", "cut", "500", "429 soon", "429"])
def test_each_trouble_passes(server, trouble):
    times = iter([trouble, trouble])
    server.trouble = lambda prompt: next(times, None)
    model = api(server)
    answer = model.generate("q")
    assert (answer.text, answer.attempts, len(server.requests)) == ("answer to q", 3, 3)  # nobody else tries again
    assert model.budget.spent["calls"] == (1 if trouble.startswith("429") else 3)


def test_a_hanging_server(server):
    times = iter(["hang"])
    server.trouble = lambda prompt: next(times, None)
    model = api(server, timeout=2)
    assert model.generate("q").attempts == 2
    assert model.budget.spent["calls"] == 2


def test_wrong_usage_is_no_usage(server):
    server.trouble = "wrong usage"
    model = api(server, prices=PRICES, budget=Budget(tokens=1000, money=1))
    answer = model.generate("q", max_tokens=10)
    assert (answer.text, answer.cost, answer.usage.prompt_tokens) == ("answer to q", None, 0)
    assert model.budget.spent["tokens"] == 1 + 64 + 10  # what it took is not known, so all of it stays


def faults(server, tmp_path, number, timeout):
    """Ask many prompts of a server in trouble; every fifth request fails, in all the ways there are."""
    draw, lock = random.Random(0), threading.Lock()

    def trouble(prompt):
        with lock:
            if draw.random() >= 0.2:
                return None
            return draw.choices(TROUBLES, weights=[8] * 7 + [1])[0]

    server.trouble = trouble
    budget = Budget(calls=int(number * 0.9), money=10.0)
    retry = Retry(attempts=3, first_wait=0.001, longest_wait=0.01)
    model = api(
        server,
        prices=PRICES,
        budget=budget,
        retry=retry,
        timeout=timeout,
        concurrency=16,
        cache=tmp_path / "answers.sqlite",
    )
    prompts = [f"question {place}" for place in range(number)]
    with pytest.raises(BatchError) as some:
        model.generate(prompts, max_tokens=20)
    results = some.value.results
    assert len(results) == number
    for prompt, result in zip(prompts, results, strict=True):
        if isinstance(result, Completion):
            assert (result.text, result.cached) == (f"answer to {prompt}", False)
        else:
            assert isinstance(result, BudgetExceededError | TransientModelError)
    assert any(isinstance(result, BudgetExceededError) for result in results)
    assert max(server.answered.values()) == 1  # nothing that was answered was sent again
    assert budget.spent["calls"] <= budget.calls
    assert sum(server.answered.values()) <= budget.spent["calls"] <= len(server.requests)
    # The rest, without trouble: what was answered comes from the cache.
    server.trouble = None
    before = Counter(server.answered)
    rest = api(server, cache=tmp_path / "answers.sqlite").generate(prompts, max_tokens=20)
    assert [answer.text for answer in rest] == [f"answer to {prompt}" for prompt in prompts]
    answered = [prompt for prompt, result in zip(prompts, results, strict=True) if isinstance(result, Completion)]
    assert all(server.answered[prompt] == before[prompt] == 1 for prompt in answered)
    assert max(server.answered.values()) == 1


def test_faults(server, tmp_path):
    faults(server, tmp_path, 400, 4)


@pytest.mark.slow
def test_many_faults(server, tmp_path):
    faults(server, tmp_path, 10_000, 4)


def test_layers_before_layers_keep_each_answer_as_it_comes(tmp_path):
    kept = AnswerCache(tmp_path / "answers.sqlite")
    seen = []
    behind = load_model(ScriptedModel(lambda prompt: f"{seen.append(len(kept))} {prompt}"), concurrency=1)
    assert len(LayeredModel(behind, cache=kept).generate([f"question {place}" for place in range(5)])) == 5
    assert seen == [0, 1, 2, 3, 4]  # a kill loses what is under way, not what came before it in the batch


KILLED = """
import sys
from ragkit import load_model
model = load_model("openai:tiny", base_url=sys.argv[1], cache=sys.argv[2], concurrency=4)
answers = model.generate([f"question {place}" for place in range(200)], max_tokens=20)
assert [answer.text for answer in answers] == [f"answer to question {place}" for place in range(200)]
"""


def test_a_killed_run_repeats_nothing_finished(server, tmp_path):
    key = "sk-very-secret-0123456789"
    environment = {**os.environ, "OPENAI_API_KEY": key}
    command = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "answers.sqlite")]
    killed = threading.Event()

    def trouble(prompt):  # stops the server in the middle, until the client is dead
        return "500" if len(server.answered) >= 80 and killed.wait(60) else None

    server.trouble = trouble
    first = subprocess.Popen(command, env=environment)
    wait_for(lambda: len(server.answered) >= 80 or first.poll() is not None)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    killed.set()
    server.trouble = None
    assert 80 <= len(server.answered) < 200
    subprocess.run(command, check=True, env=environment)
    assert set(server.keys) == {f"Bearer {key}"}
    again = [prompt for prompt, times in server.answered.items() if times > 1]
    assert len(again) <= 4  # those under way when the process died
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.encode() not in kept
    assert b"question 7" not in kept.replace(b"answer to question", b"")


# Streams.


@pytest.mark.parametrize("stop", [[], ["tion"], ["xyz"], ["q", "z"]])
def test_streams_are_the_answer_in_pieces(server, stop, tmp_path):
    model = api(server, prices=PRICES, cache=tmp_path / "answers.sqlite", budget=Budget(money=1.0))
    stream = model.stream("a question about queues", max_tokens=20, stop=stop)
    pieces = list(stream)
    plain = api(server, prices=PRICES).generate("a question about queues", max_tokens=20, stop=stop)
    assert "".join(pieces) == plain.text
    assert len(pieces) > 1 or stop == ["q", "z"]
    assert (stream.completion.usage, stream.completion.cost) == (plain.usage, plain.cost)
    assert model.budget.spent["money"] == pytest.approx(plain.cost)
    again = model.stream("a question about queues", max_tokens=20, stop=stop)
    assert ("".join(again), again.completion.cached) == (plain.text, True)


def test_a_stream_is_tried_again_before_it_begins(server):
    times = iter(["500", "429 soon"])
    server.trouble = lambda prompt: next(times, None)
    model = api(server)
    stream = model.stream("q")
    assert "".join(stream) == "answer to q"
    assert stream.completion.attempts == 3
    assert model.budget.spent["calls"] == 2


def test_a_stream_given_up_stays_reserved(server):
    model = api(server, budget=Budget(tokens=1000))
    stream = model.stream("q", max_tokens=10)
    next(stream)
    stream.close()
    assert model.budget.spent["tokens"] == 75


def test_streaming_on_the_event_loop(server):
    import asyncio

    async def collect():
        return [piece async for piece in api(server).astream("q")]

    assert "".join(asyncio.run(collect())) == "answer to q"


def test_what_a_provider_is_sent_for_a_schema(server):
    server.model = ScriptedModel(
        lambda prompt: '{"answer": "red"}' if prompt == "c" else '{"name": "navy", "dark": true}'
    )
    model = api(server)
    assert model.generate("a", schema=Colour).parsed == Colour(name="navy", dark=True)
    sent = server.requests[-1]["response_format"]
    assert sent["type"] == "json_schema"
    assert set(sent["json_schema"]["schema"]["properties"]) == {"name", "dark"}
    assert model.generate("c", choices=["red", "blue"]).text == "red"
    assert server.requests[-1]["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == [
        "red",
        "blue",
    ]
    assert server.requests[-1]["max_completion_tokens"] == 256
    with pytest.raises(ModelError, match="none of the 2 choices"):
        model.generate("c", choices=["green", "blue"])


# Timeouts, cancellation, shared limits, and retries of every failure.

PERSISTENT = Retry(attempts=3, first_wait=0.0, every_failure=True)


def test_a_request_that_hangs_is_abandoned_and_repeated():
    never, asked = threading.Event(), []

    def hang_once(prompt):
        asked.append(prompt)
        return "late" if len(asked) == 1 and never.wait(60) else "in time"

    budget = Budget(calls=5)
    model = LayeredModel(ScriptedModel(hang_once), retry=Retry(first_wait=0.0, timeout=0.5), budget=budget)
    answer = model.generate("q")
    never.set()
    assert (answer.text, answer.attempts) == ("in time", 2)
    assert budget.spent["calls"] == 2  # the abandoned request may have been billed
    with pytest.raises(InvalidInputError, match="timeout"):
        Retry(timeout=0)


def test_cancelled_calls_end_at_once_and_no_further_call_starts():
    off, never, begun = Cancellation(), threading.Event(), threading.Event()
    inner = ScriptedModel(lambda prompt: f"{begun.set()}{never.wait(60)}")
    model = LayeredModel(inner, concurrency=2, budget=Budget(calls=9), cancellation=off)
    threading.Thread(target=lambda: (begun.wait(60), off.cancel())).start()
    with pytest.raises(CallCancelledError):
        model.generate([str(number) for number in range(9)])
    never.set()
    assert len(inner.asked) <= 2
    assert model.budget.spent["calls"] == len(inner.asked)  # those under way may be billed, the others are not
    with pytest.raises(CallCancelledError):
        model.generate("another")
    assert len(inner.asked) <= 2


def test_models_share_a_limit_on_concurrent_calls():
    running, most, lock = [0], [0], threading.Lock()

    def slow(prompt):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1
        return "x"

    slots = Slots(3)
    models = [LayeredModel(ScriptedModel(slow), concurrency=slots) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda model: model.generate([str(number) for number in range(10)]), models))
    assert most[0] == 3


@pytest.mark.parametrize("failure", [ModelError("odd"), ZeroDivisionError("odd"), "", "<think>only thought</think>"])
def test_every_failure_is_repeated_if_requested(failure):
    first = []

    def fail_once(prompt):
        if not first:
            first.append(prompt)
            if isinstance(failure, str):
                return failure
            raise failure
        return "answer"

    assert LayeredModel(ScriptedModel(fail_once), retry=PERSISTENT).generate("q").text == "answer"
    results = []
    model = LayeredModel(
        ScriptedModel(lambda prompt: fail_always(failure)),
        retry=PERSISTENT,
        on_request=lambda key, result: results.append(result),
    )
    with pytest.raises(EmptyAnswerError if isinstance(failure, str) else ModelError):
        model.generate("q")
    assert len(results) == len(model.model.asked) == 3


def fail_always(failure):
    if isinstance(failure, str):
        return failure
    raise failure


def test_an_empty_answer_costs_what_it_used():
    answers = iter(["", "answer"])
    budget = Budget(tokens=1000)
    model = LayeredModel(ScriptedModel(lambda prompt: next(answers)), retry=PERSISTENT, budget=budget)
    model.generate("four", max_tokens=100)
    assert budget.spent["tokens"] == 1 + 1 + 2  # twice the prompt, and two tokens of the answer


def test_one_prompt_that_fails_a_whole_batch_is_found():
    def refuse(prompt):
        if prompt == "3":
            raise InvalidInputError("too long")
        return prompt

    inner = ScriptedModel(refuse)
    model = LayeredModel(inner, retry=PERSISTENT, batch=True, budget=Budget(calls=100))
    with pytest.raises(BatchError) as some:
        model.generate([str(number) for number in range(6)])
    assert [isinstance(result, InvalidInputError) for result in some.value.results] == [n == 3 for n in range(6)]
    assert model.budget.spent["calls"] == 5
    assert inner.asked.count("3") == 2  # with the others and alone; its error is final


def test_errors_that_the_wrapped_model_has_retried_are_final():
    inner = Troubled(*[TransientModelError("busy")] * 20)
    twice = LayeredModel(LayeredModel(inner, retry=QUICK), retry=PERSISTENT)
    with pytest.raises(TransientModelError, match="busy"):
        twice.generate("q")
    assert len(inner.asked) == QUICK.attempts


def test_requests_may_have_different_settings():
    model = LayeredModel(counting(), concurrency=2)
    short, long = model.results([("q", Sampling(max_tokens=1)), ("q", Sampling(max_tokens=50))])
    assert (short.text, long.text) == ("answ", "answer to q")
