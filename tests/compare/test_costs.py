"""Costs against worked examples that others published."""

import pytest

from ragkit.errors import DataFileError, InvalidInputError
from ragkit.models import Price
from ragkit_pipelines.compare.results import make_row
from ragkit_pipelines.compare.statistics.costs import (
    ModelSize,
    PromptShape,
    Upfront,
    VolumeRange,
    break_even,
    break_even_range,
    per_thousand,
)
from ragkit_pipelines.compare.statistics.prices import PriceRange

BASE, TUNED = Price(input=0.15, output=0.60, cached=0.075), Price(input=0.30, output=1.20)
TRAINING = Upfront(tokens=500 * 170, price=3.0, epochs=3)


def shape(k, *, same=True):
    return PromptShape(system=100, demonstrations=150 * k, query=100, output=20, same_demonstrations=same)


@pytest.mark.parametrize(
    ("k", "plain", "cached"),
    [
        (0, None, None),
        (2, 255_000, 255_000),  # too short a beginning to be cached
        (4, 15_938, 15_938),
        (8, 5_543, 18_889),
        (16, 2_406, 5_862),
        (32, 1_128, 2_464),
    ],
)
def test_break_even_of_a_small_api_model(k, plain, cached):
    """gpt-4o-mini against its tuned form, 500 examples of 170 tokens, 3 epochs."""
    assert TRAINING.money == pytest.approx(0.765)
    for with_cache, expected in ((False, plain), (True, cached)):
        found = break_even_range(shape(k), shape(0), base_prices=[BASE], tuned_prices=[TUNED], upfront=[TRAINING],
                                 prompt_cache=with_cache)  # fmt: skip
        assert found.low == found.high
        assert found.low == (expected and pytest.approx(expected, abs=0.51))
    chosen = break_even_range(shape(k, same=False), shape(0), base_prices=[BASE], tuned_prices=[TUNED],
                              upfront=[TRAINING], prompt_cache=True)  # fmt: skip
    assert chosen.low == (plain and pytest.approx(plain, abs=0.51))


def test_break_even_in_operations_of_t_few():
    """T-Few (Liu et al., 2022): T0-11B trained with IA3 against GPT-3 with 41 examples."""
    small = ModelSize(parameters=11e9, encoder_decoder=True)
    large = ModelSize(parameters=175e9)
    asked, shown = PromptShape(query=103, output=0), PromptShape(demonstrations=41 * 98, query=103, output=0)
    assert small.answer(asked) == pytest.approx(1.1e12, rel=0.05)
    assert small.training(1000 * 8 * 103, method="full") == pytest.approx(2.7e16, rel=0.02)
    assert large.answer(shown) == pytest.approx(1.4e15, rel=0.05)
    volume = break_even(small.training(1000 * 8 * 103, method="full"), large.answer(shown), small.answer(asked))
    assert volume == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize(("length", "forward", "full"), [(128, 2.07, 6.22), (1024, 2.60, 7.79)])
def test_operations_equal_those_counted_on_a_small_llama(length, forward, full):
    model = ModelSize(parameters=21e6, layers=8, width=384)
    assert model.forward(length) / (21e6 * length) == pytest.approx(forward, abs=0.01)
    counted = model.training(10 * length, length=length, method="full") / (21e6 * 10 * length)
    assert counted == pytest.approx(full, abs=0.01)
    share = model.training(10, length=length) / model.training(10, length=length, method="full")
    assert share == pytest.approx(2 / 3)


def test_a_cached_beginning_is_read_once():
    model = ModelSize(parameters=1e6, layers=2, width=64)
    given = PromptShape(system=50, demonstrations=450, query=40, output=10)
    by_hand = 50 * 2e6 + 4 * 2 * 64 * 550 * 50
    assert model.answer(given, prompt_cache=True) == pytest.approx(by_hand)
    once = model.answer(given, prompt_cache=True, reuse=1)
    assert once == pytest.approx(by_hand + 500 * 2e6 + 4 * 2 * 64 * 500 * 500)
    assert once < model.answer(given)
    # Whole sequences attend both ways in this count; what is left out is what the beginning pays to the rest.
    assert model.answer(given) - once == pytest.approx(4 * 2 * 64 * 500 * 50)


def test_a_range_of_prices():
    cheap = Price(input=0.05, output=0.2)
    both = break_even_range(shape(8), shape(0), base_prices=[BASE, cheap], tuned_prices=[TUNED], upfront=[TRAINING])
    assert round(both.low) == 5543
    assert both.high is None
    assert str(both) == "5,543 predictions at the best prices, never at the worst"
    dear = Upfront(tokens=85_000, price=3.0, epochs=3, trials=3, labels=500, label_price=0.1, hosting=20)
    assert dear.money == pytest.approx(0.765 * 4 + 50 + 20)
    found = break_even_range(shape(8), shape(0), base_prices=[BASE], tuned_prices=[TUNED], upfront=[TRAINING, dear])
    assert found.high / found.low == pytest.approx(dear.money / TRAINING.money)
    assert str(found) == f"5,543 to {found.high:,.0f} predictions"
    assert str(VolumeRange(None, None)) == "never"


def test_a_thousand_answers():
    facts = {"strategy": "s", "model": "m", "size": 1, "seed": 0, "n": 50, "correct": 1, "seconds": 0, "fit_seconds": 0}
    row = make_row(**facts, prompt_tokens=5000, cached_tokens=1000, completion_tokens=500, cost=0.02)
    assert per_thousand(row) == pytest.approx(0.4)
    assert per_thousand(row, BASE) == pytest.approx((4000 * 0.15 + 1000 * 0.075 + 500 * 0.6) / 1e6 * 20)
    unknown = make_row(**facts, prompt_tokens=0, completion_tokens=0, cost=None)
    assert per_thousand(unknown) is None


def test_bad_shapes():
    with pytest.raises(InvalidInputError, match="`query` must be"):
        PromptShape(query=-1, output=0)
    with pytest.raises(InvalidInputError, match="`method` must be one of"):
        ModelSize(parameters=1).training(1, method="ful")
    with pytest.raises(InvalidInputError, match="`base_prices`"):
        break_even_range(shape(1), shape(0), base_prices=[], tuned_prices=[TUNED], upfront=[TRAINING])


def test_what_is_cheaper_from_the_first_answer_pays_from_the_first():
    assert break_even(-5.0, 2.0, 2.0) == 0
    assert break_even(-5.0, 3.0, 2.0) == 0
    assert break_even(0.0, 2.0, 2.0) is None
    assert break_even(-5.0, 1.0, 2.0) is None  # cheaper at first, dearer in the end


@pytest.mark.parametrize("hosting", ["-5", "NaN", "Infinity"])
def test_hosting_has_a_price_of_0_or_more(tmp_path, hosting):
    path = tmp_path / "prices.json"
    path.write_text(f'{{"base": [{{"input": 1, "output": 1}}], "hosting": [{hosting}]}}')
    with pytest.raises(DataFileError, match=r"prices.json.*`hosting.0`"):
        PriceRange.load(path)
