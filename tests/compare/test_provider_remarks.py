"""What a comparison notes about the answers of API models."""

from types import SimpleNamespace

import pytest

from ragkit.models import Price
from ragkit.records import Completion, Usage
from ragkit_pipelines.compare.statistics.costs import cache_saving
from ragkit_pipelines.compare.strategies.base import remarks

PRICE = Price(input=1.0, output=2.0, cached=0.1, cache_write=1.25)
MODEL = SimpleNamespace(cost_of=PRICE.cost)
USAGES = [
    Usage(prompt_tokens=2_000, cache_written_tokens=1_500),
    *[Usage(prompt_tokens=2_000, cached_tokens=1_500)] * 3,
]


def test_answers_that_may_vary_are_noted():
    done = [Completion(text="a"), Completion(text="b", omitted_settings=("temperature",))]
    assert remarks(done, MODEL) == "the model does not accept temperature; its answers may vary between runs"
    assert remarks(done[:1], MODEL) == ""


def test_the_saving_of_a_prompt_cache_is_net_of_storing():
    saved = (3 * 1_500 * 0.9 - 1_500 * 0.25) / 1e6
    assert cache_saving(MODEL, USAGES) == pytest.approx(saved)
    assert cache_saving(SimpleNamespace(cost_of=lambda usage: None), USAGES) is None
    said = remarks([Completion(text="a", usage=usage) for usage in USAGES], MODEL)
    assert said == "4,500 of 8,000 prompt tokens came from the prompt cache, which saved $0.003675"
