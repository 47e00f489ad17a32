"""Volumes from which training pays, out of the rows of a comparison, against the published examples and by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

import pytest

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.models import Price
from ragkit.tiny.domains import HOME, task_of
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.reports.cost_tables import break_even_lines
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.results import make_row
from ragkit_pipelines.compare.statistics.break_even import break_even_of
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.strategies.base import Outcome

SMALL = Price(input=0.15, output=0.60, cached=0.075)
SMALL_TUNED = Price(input=0.30, output=1.20, training=3.0)
N = 1000


def row(strategy, k=0, **facts):
    """A thousand questions of 100 tokens, an instruction of 100, answers of 20, k examples of 150, the same for all."""
    given = {
        "strategy": strategy, "model": "m", "size": 500, "seed": 0, "n": N, "correct": 900.0,
        "prompt_tokens": N * (200 + 150 * k), "completion_tokens": N * 20, "shared_tokens": 100 + 150 * k,
        "seconds": 1.0, "fit_seconds": 0.0, "cost": None, "labels": 500, "label_cost": None,
    }  # fmt: skip
    return make_row(**(given | facts))


TRAINED = {"fit_tokens": 500 * 170 * 3, "trained_tokens": 500 * 170 * 3}
TUNED = row("lora", **TRAINED)


# Shots, and the volumes without and with prompt caching, as published for prices of the middle of 2025.
@pytest.mark.parametrize(
    ("k", "plain", "cached"),
    [(0, "never", None), (2, "255,000 predictions", None), (4, "15,938 predictions", None),
     (8, "5,543 predictions", "18,889 predictions"), (16, "2,406 predictions", "5,862 predictions"),
     (32, "1,128 predictions", "2,464 predictions")],
)  # fmt: skip
def test_the_published_volumes_come_out_of_rows(k, plain, cached):
    found = break_even_of([TUNED], [row("few-shot:fixed", k)], PriceRange(base=[SMALL], tuned=[SMALL_TUNED]))
    assert str(found.money) == plain
    if cached is not None:
        assert str(found.money_cached) == cached
    assert found.operations is None


def test_examples_chosen_for_each_question_are_charged_in_full():
    chosen = row("few-shot:bm25", 8, shared_tokens=100)
    found = break_even_of([TUNED], [chosen], PriceRange(base=[SMALL], tuned=[SMALL_TUNED]))
    assert str(found.money) == str(found.money_cached) == "5,543 predictions"


def test_a_range_over_prices_and_hosting():
    cheap = Price(input=0.05, output=0.20)
    prices = PriceRange(base=[SMALL, cheap], tuned=[SMALL_TUNED], hosting=[0.0, 10.0])
    found = break_even_of([TUNED], [row("few-shot", 8)], prices)
    each = (1400 * 0.15 + 20 * 0.6) / 1e6 - (200 * 0.3 + 20 * 1.2) / 1e6
    assert found.money.low == pytest.approx(0.765 / each)
    assert found.money.high is None  # at the cheap price an answer by prompting costs less than one of the tuned model
    dear = break_even_of([TUNED], [row("few-shot", 8)], prices.model_copy(update={"base": (SMALL,)}))
    assert dear.money.high == pytest.approx(10.765 / each)


def test_labels_count_for_both_sides_and_cancel_where_both_use_them():
    prices = PriceRange(base=[SMALL], tuned=[SMALL_TUNED])
    tuned, shown = (each.model_copy(update={"label_cost": 50.0}) for each in (TUNED, row("few-shot", 8)))
    assert str(break_even_of([tuned], [shown], prices).money) == "5,543 predictions"
    bare = row("rag", 8, labels=0, label_cost=0.0)
    each = (1400 * 0.15 + 20 * 0.6) / 1e6 - (200 * 0.3 + 20 * 1.2) / 1e6
    assert break_even_of([tuned], [bare], prices).money.low == pytest.approx(50.765 / each)


def test_a_search_for_a_prompt_is_charged_to_prompting():
    searched = row("optimised-prompt", 8, fit_tokens=1420 * 100)  # a hundred questions were asked to find it
    found = break_even_of([TUNED], [searched], PriceRange(base=[SMALL], tuned=[SMALL_TUNED]))
    each = (1400 * 0.15 + 20 * 0.6) / 1e6
    assert found.money.low == pytest.approx((0.765 - 100 * each) / (each - (200 * 0.3 + 20 * 1.2) / 1e6))


def test_operations_of_t_few():
    # 41 examples of 98 tokens and a query of 103 through 175e9 parameters, 11e9 tuned for 1,000 steps of 8 rows.
    shown = row("few-shot", flops=2 * 175e9 * (41 * 98 + 103) * N, cached_flops=2 * 175e9 * 103 * N, fit_flops=0.0)
    tuned = row("tuned", flops=11e9 * 103 * N, cached_flops=11e9 * 103 * N, fit_flops=3 * 11e9 * 1000 * 8 * 103)
    found = break_even_of([tuned], [shown], None)
    assert round(found.operations.low) == 19
    assert found.operations_cached.low == pytest.approx(2.7192e16 / (2 * 175e9 * 103 - 11e9 * 103))
    assert found.money is None
    assert str(break_even_of([shown], [tuned], None).operations) == "never"


def test_a_comparison_counts_labels_operations_and_says_what_it_rests_on(tiny, tmp_path):
    task = task_of(HOME, Random(5), pool=40, test=12)
    prices = PriceRange(base=[SMALL], tuned=[SMALL_TUNED])
    result = compare(task, ["zero-shot", "few-shot:fixed", "lora"], model=tiny, embedder="hash:16", sizes=[20, None],
                     out=tmp_path, options=CompareOptions(label_price=0.5, prices=prices))  # fmt: skip
    rows = {(each.strategy, each.size): each for each in result.results.rows}
    assert [rows[name, 20].label_cost for name in ("zero-shot", "few-shot:fixed", "lora")] == [0.0, 10.0, 10.0]
    assert rows["lora", 40].label_cost == 20.0
    zero, shots, lora = (rows[name, 40] for name in ("zero-shot", "few-shot:fixed", "lora"))
    assert lora.trained_tokens == lora.fit_tokens > 0 == shots.trained_tokens
    # The examples and the instruction before them begin every prompt, and the examples are read by every question.
    assert zero.shared_tokens < shots.shared_tokens < shots.prompt_tokens / shots.n
    weights = sum(w.numel() for w in tiny.module.parameters())  # tied, so all of them are multiplied with
    length = (shots.prompt_tokens + shots.completion_tokens) / 12
    config = tiny.module.config
    attending = sum(kind == "full_attention" for kind in config.layer_types)  # the other blocks are convolutions
    attention = 4 * attending * config.hidden_size * length
    assert shots.flops == pytest.approx(12 * length * (2 * weights + attention))
    assert shots.cached_flops < shots.flops
    assert lora.fit_flops > lora.trained_tokens * 2 * weights
    lines = break_even_lines(result.results)
    assert [line[:2] for line in lines] == [["lora", lines[0][1]]]
    assert None not in lines[0]
    report = markdown_report(result.results)
    assert "## Break-even" in report
    assert "Labels are included. Providers do not cache prefixes of fewer than 1,024 tokens." in report


@dataclass(frozen=True)
class Counted:
    name: str
    trained: int
    cost: float | None

    def run(self, setting):
        return Outcome([""] * len(setting.task.test), prompt_tokens=10, cost=self.cost, trained_tokens=self.trained)


def test_what_is_not_known_is_left_out():
    task = Task("", [Example("a", "b")], [Example(f"q {n}", "b") for n in range(40)])
    arms = [Counted("asked", 0, None), Counted("trained", 5, None)]
    result = compare(task, arms, model=ScriptedModel([]), embedder="hash:8")
    assert break_even_lines(result.results) == [["trained", "asked", *[None] * 4]]
    report = markdown_report(result.results)
    assert "Break-even" not in report
    assert "| trained | scripted | 250 | 0.0 | 0.0 |" in report
    assert "unknown" not in report
    free = [Counted("asked", 0, 0.2), Counted("trained", 5, 0.1)]
    priced = PriceRange(base=[SMALL], tuned=[SMALL_TUNED])
    result = compare(task, free, model=ScriptedModel([]), embedder="hash:8", options=CompareOptions(prices=priced))
    report = markdown_report(result.results)
    heading = "| trained strategy | prompted strategy | break-even (US$) | with prompt cache |\n"
    assert heading in report.partition("## Break-even")[2]
    assert "Ranges cover all combinations of prices. No label price was given, so labels are not included." in report


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "Invalid JSON"), ('{"base": []}', "`base`"), ('{"base": [{"input": -1, "output": 1}]}', "0 or more"),
     ('{"base": [{"input": 1}]}', "output"), ('{"base": [{"input": 1, "output": 1}], "x": 1}', "`x`")],
)  # fmt: skip
def test_bad_prices(tmp_path, text, message):
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises((DataFileError, InvalidInputError), match=message):
        PriceRange.load(path)


def test_prices_are_read_and_kept(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"base": [{"input": 0.15, "output": 0.6, "cached": 0.075}], "hosting": [0, 5]}))
    prices = PriceRange.load(path)
    assert (prices.base[0], prices.hosting) == (SMALL, (0.0, 5.0))
    assert PriceRange.model_validate_json(prices.model_dump_json()) == prices
    with pytest.raises(InvalidInputError, match="label_price"):
        CompareOptions(label_price=-1)
