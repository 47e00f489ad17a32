"""Prices and budgets: costs by hand, limits that hold under concurrency, and over real HTTP."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai_server import OpenAIServer

from ragkit import Budget, ScriptedModel, Usage, load_model
from ragkit.errors import BatchError, BudgetExceededError, InvalidInputError, ModelError
from ragkit.models import LayeredModel, Price, Prices, Retry
from ragkit.testing import LanguageModelContract


def test_costs_by_hand():
    usage = Usage(prompt_tokens=1000, cached_tokens=900, completion_tokens=10)
    assert Price(input=0.15, output=0.6, cached=0.075).cost(usage) == pytest.approx(0.0000885)
    assert Price(input=0.15, output=0.6).cost(usage) == pytest.approx(0.000156)
    assert Prices().cost("openai:gpt-4o-mini", usage) == pytest.approx(0.0000885)
    assert Prices().cost("openai:unheard-of", usage) is None
    assert Prices({"openai:gpt-4o-mini": Price(input=0, output=1)}).cost("openai:gpt-4o-mini", usage) == pytest.approx(
        1e-5
    )
    for wrong in (
        {"input": -1, "output": 0},
        {"input": 0, "output": float("inf")},
        {"input": 0, "output": 0, "cached": -1},
    ):
        with pytest.raises(InvalidInputError, match="must be a price of 0 or more"):
            Price(**wrong)


class TestBudgeted(LanguageModelContract):
    max_tokens = 8

    @pytest.fixture
    def model(self, tiny):
        return LayeredModel(tiny, budget=Budget(calls=10_000, tokens=10_000_000, money=1.0, seconds=600))


def test_what_is_not_taken_is_given_back(tiny):
    budget = Budget(calls=10, tokens=500, money=0.01)
    model = LayeredModel(tiny, budget=budget)
    answer = model.generate("one two three one two three one two", max_tokens=8)
    took = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert budget.spent == {"calls": 1, "tokens": took, "money": 0}
    model.score(["one two"], [" three", " four"])
    assert budget.spent["calls"] == 2  # a prompt is one call, however many the choices
    with pytest.raises(BudgetExceededError, match="tokens would be spent, the budget is 500") as caught:
        model.generate("one two three", max_tokens=500)
    assert (caught.value.kind, caught.value.limit) == ("tokens", 500)
    with pytest.raises(BatchError, match="2 of 10 prompts got no answer, the first at place 8: 11 calls") as some:
        model.generate([f"{number}" for number in range(10)], max_tokens=1)
    assert [isinstance(result, BudgetExceededError) for result in some.value.results] == [False] * 8 + [True] * 2
    before = budget.spent
    with pytest.raises(BudgetExceededError, match="calls"):
        model.generate(["a", "b"], max_tokens=1)
    assert budget.spent == before  # nothing was made


class Slow(ScriptedModel):
    made, running, most = 0, 0, 0
    lock = threading.Lock()

    def _complete(self, prompts, sampling):
        with self.lock:
            type(self).made += len(prompts)
        time.sleep(0.001)
        return super()._complete(prompts, sampling)


def test_limits_hold_under_concurrency():
    Slow.made = 0
    budget = Budget(calls=100)
    model = LayeredModel(Slow(lambda prompt: "answer"), budget=budget)
    refused = []

    def ask(number):
        try:
            model.generate([f"{number} {part}" for part in range(1 + number % 3)], max_tokens=4)
        except (BatchError, BudgetExceededError):
            refused.append(number)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(200)))
    assert refused
    assert Slow.made == budget.spent["calls"] == 100


def test_money_and_time():
    priced = Prices({"openai:tiny": Price(input=1_000_000, output=1_000_000)})  # a dollar a token
    budget = Budget(money=100)
    with pytest.raises(InvalidInputError, match="price of openai:nothing is not known"):
        LayeredModel(load_model("openai:nothing", base_url="http://127.0.0.1:9"), budget=budget).generate(
            "x", max_tokens=1
        )
    once = Retry(attempts=1)
    model = load_model("openai:tiny", base_url="http://127.0.0.1:9", prices=priced, budget=budget, retry=once)
    with pytest.raises(BudgetExceededError, match="money"):
        model.generate("x" * 99, max_tokens=8)
    with pytest.raises(ModelError, match="Connection"):  # no server, so nothing was paid for
        model.generate("x", max_tokens=8)
    assert budget.spent == {"calls": 0, "tokens": 0, "money": 0}
    short = Budget(seconds=0.01)
    quick = LayeredModel(ScriptedModel(lambda prompt: "a"), budget=short)
    quick.generate("x")
    time.sleep(0.02)
    with pytest.raises(BudgetExceededError, match="seconds"):
        quick.generate("x")
    with pytest.raises(InvalidInputError, match="`calls` must be 0 or more"):
        Budget(calls=-1)


def test_a_cached_answer_needs_no_budget(tmp_path):
    model = load_model(ScriptedModel(["a", "b"]), budget=Budget(calls=1), cache=tmp_path / "answers.sqlite")
    assert model.generate("one").text == "a"
    assert model.generate("one").cached
    with pytest.raises(BudgetExceededError):
        model.generate("two")
    assert model.budget.spent["calls"] == 1


def test_costs_and_budget_over_http(tiny):
    prices = Prices({"openai:tiny": Price(input=2.0, output=10.0)})
    with OpenAIServer(tiny) as server:
        unknown = load_model("openai:tiny", base_url=server.url)
        assert unknown.generate("one two three one two", max_tokens=4).cost is None
        api = load_model("openai:tiny", base_url=server.url, prices=prices)
        answer = api.generate("one two three one two", max_tokens=4)
        expected = (answer.usage.prompt_tokens * 2 + answer.usage.completion_tokens * 10) / 1e6
        assert answer.cost == pytest.approx(expected)
        budget = Budget(money=0.01)
        LayeredModel(api, budget=budget).generate("one two three one two", max_tokens=4)
        assert budget.spent["money"] == pytest.approx(expected)
