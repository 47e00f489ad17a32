"""The pool size at which training overtakes in-context examples, and the plots of curves."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pytest

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.predictions import Answers, Items
from ragkit_pipelines.compare.reports.html import html_report
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.reports.plots import plots
from ragkit_pipelines.compare.reports.tables import crossover_lines
from ragkit_pipelines.compare.results import Cell, make_row
from ragkit_pipelines.compare.statistics.crossovers import crossover
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.strategies.base import Outcome

SIZES = (10, 100, 1000)


def items_of(right, n=100, seeds=(0,)):
    """Items from the number of correct answers by strategy and size, the same in every seed."""
    answers = [
        Answers(strategy=name, size=size, seed=seed, answers=[""] * n, scores=[1.0] * count + [0.0] * (n - count))
        for name, counts in right.items()
        for size, count in zip(SIZES, counts, strict=True)
        for seed in seeds
    ]
    return Items(inputs=[""] * n, expected=[""] * n, answers=answers)


def test_the_crossover_is_interpolated_in_the_logarithm_of_the_size():
    # The difference is -20, -10 and +30: it is 0 after a quarter of the way from log 100 to log 1000.
    found = crossover(items_of({"lora": (40, 60, 90), "few": (60, 70, 60)}), "lora", "few")
    assert found.size == pytest.approx(10**2.25)
    assert found.low < found.size < found.high
    assert str(found).startswith("178 examples [")


def test_a_strategy_that_is_always_or_never_ahead_has_no_crossover_between_the_sizes():
    items = items_of({"lora": (60, 70, 90), "few": (20, 20, 20)})
    ahead, behind = crossover(items, "lora", "few"), crossover(items, "few", "lora")
    assert (ahead.size, ahead.low, ahead.high) == (10, 10, 10)
    assert str(ahead) == "at most 10 examples [at most 10, at most 10]"
    assert (behind.size, behind.high) == (float("inf"), float("inf"))
    assert str(behind) == "more than 1,000 examples [more than 1,000, more than 1,000]"


def test_the_last_of_several_crossings_counts():
    found = crossover(items_of({"lora": (60, 40, 70), "few": (50, 50, 50)}), "lora", "few")
    assert found.size == pytest.approx(10 ** (2 + 1 / 3))


def test_equal_curves_are_not_a_crossover():
    found = crossover(items_of({"lora": (50, 50, 50), "few": (50, 50, 50)}), "lora", "few")
    assert found.size == float("inf")


def simulated(rng, curves, items, seeds):
    difficulty = rng.normal(0, 1, items)
    answers = [
        Answers(strategy=name, size=size, seed=seed, answers=[""] * items,
                scores=(rng.normal(0, 1, items) + difficulty < level).astype(float).tolist())
        for name, levels in curves.items() for size, level in zip(SIZES, levels, strict=True) for seed in range(seeds)
    ]  # fmt: skip
    return Items(inputs=[""] * items, expected=[""] * items, answers=answers)


@pytest.mark.parametrize(("items", "seeds"), [(200, 1), (200, 3)])
def test_intervals_hold_the_true_crossover(items, seeds):
    """100 comparisons: 89 or fewer would be 2.5 standard errors under 95 %."""
    from scipy.stats import norm

    curves = {"lora": (-1.0, 0.0, 1.2), "few": (0.4, 0.5, 0.6)}
    shares = {name: norm.cdf(np.array(levels) / 2**0.5) for name, levels in curves.items()}
    gap = shares["lora"] - shares["few"]
    true = 100 * 10 ** (-gap[1] / (gap[2] - gap[1]))
    rng = np.random.default_rng(seeds)
    found = [crossover(simulated(rng, curves, items, seeds), "lora", "few", draws=300) for _ in range(100)]
    assert sum(each.low <= true <= each.high for each in found) >= 90


def test_strategies_without_common_sizes_or_seeds_are_refused():
    items = items_of({"lora": (40, 60, 90), "few": (60, 70, 60)})
    one = items.model_copy(update={"answers": [each for each in items.answers if each.size == 10]})
    with pytest.raises(InvalidInputError, match=r"at least two pool sizes at which both 'lora' and 'few' fin"):
        crossover(one, "lora", "few")
    with pytest.raises(InvalidInputError, match="at least two pool sizes"):
        crossover(items, "lora", "other")
    moved = [each.model_copy(update={"seed": 7}) if each.strategy == "few" else each for each in items.answers]
    with pytest.raises(InvalidInputError, match="expected runs with a common seed"):
        crossover(items.model_copy(update={"answers": moved}), "lora", "few")


# -- reports -----------------------------------------------------------------------------------------------------------


def compared(right, n=100, trained=("lora",), prompted=("few-shot:bm25",)):
    cells = [
        Cell(
            key="",
            row=make_row(strategy=name, model="m", size=size, seed=0, n=n, correct=count, seconds=1, fit_seconds=0,
                         prompt_tokens=100 * (name in (*trained, *prompted)), completion_tokens=10, cost=None,
                         labels=size, trained_tokens=50 * (name in trained)),
            answers=["x"] * n, scores=[1.0] * count + [0.0] * (n - count),
        )
        for name, counts in right.items() for size, count in zip(SIZES, counts, strict=True)
    ]  # fmt: skip
    test = [Example(f"row {number}", "x") for number in range(n)]
    return summarise("t", 0, cells, draws=100), Items.of(test, cells)


CURVES = {"lora": (40, 60, 90), "tfidf": (10, 65, 80), "few-shot:bm25": (60, 70, 60), "few-shot:random": (50, 50, 50)}


def test_reports_state_where_training_overtakes_in_context_examples():
    results, items = compared(CURVES, prompted=("few-shot:bm25", "few-shot:random"))
    lora, tfidf = crossover_lines(results, items)
    assert lora[:2] == ["lora", "few-shot:bm25"]
    assert re.fullmatch(r"178 \[.+, .+\]", lora[2])
    assert tfidf[:2] == ["tfidf", "few-shot:bm25"]
    text = markdown_report(results, items)
    assert "## Pool size at which training overtakes in-context examples" in text
    assert "| lora | few-shot:bm25 | 178 \\[" in text or "| lora | few-shot:bm25 | 178 [" in text
    page = html_report(results, items)
    assert "lora overtakes few-shot:bm25, with its 95 % interval: 178 examples" in page
    assert crossover_lines(*compared({name: CURVES[name] for name in ("lora", "tfidf")})) == []
    assert crossover_lines(results, None) == []


def elements(image):
    return list(ElementTree.fromstring(image).iter())  # noqa: S314 - our own image


def marks(image):
    return [each for each in elements(image) if "mark" in each.get("class", "")]


def test_the_learning_curves_show_the_crossover():
    results, items = compared(CURVES)
    with_bar, without = plots(results, items)[0], plots(results)[0]
    assert with_bar.title == "Accuracy by pool size"
    for wide, plain in ((with_bar.wide, without.wide), (with_bar.narrow, without.narrow)):
        assert len(marks(wide)) == len(marks(plain)) + 1
        assert wide.count('class="interval') == 1
    assert "overtakes" not in without.caption
    # Diamond of the crossover: at log10(178) between the ticks of 100 and 1,000.
    ticks = [float(each.get("x1")) for each in elements(with_bar.wide) if each.get("class") == "tick"]
    spots = sorted(ticks)
    corners = [point.split(",") for point in marks(with_bar.wide)[0].get("points").split()]
    middle = np.mean([float(x) for x, _ in corners])
    assert middle == pytest.approx(spots[1] + 0.25 * (spots[2] - spots[1]), abs=0.3)


def test_scores_are_drawn_by_the_number_of_shots():
    right = {"zero-shot": (30,) * 3, "few-shot:bm25@2": (40,) * 3, "few-shot:bm25": (60,) * 3,
             "few-shot:bm25@32": (50,) * 3, "few-shot:random@2": (20,) * 3, "score:bm25@1+batch": (35,) * 3,
             "score:bm25@4+batch": (45,) * 3}  # fmt: skip
    results, items = compared(right)
    (shots,) = [plot for plot in plots(results, items) if plot.title == "Accuracy by number of shots"]
    described = next(each.text for each in elements(shots.wide) if each.tag.endswith("desc"))
    assert described == (
        "few-shot:bm25: 0.300 with 0 examples, 0.400 with 2 examples, 0.600 with 8 examples, 0.500 with 32 examples; "
        "score:bm25+batch: 0.350 with 1 examples, 0.450 with 4 examples"
    )
    texts = [each.text for each in elements(shots.wide) if each.get("class") == "axis"]
    assert {"0", "1", "2", "4", "8", "32", "in-context examples"} <= set(texts)
    assert "few-shot:random" not in described  # one number of examples is not a curve
    assert "Accuracy by number of shots" in html_report(results, items)
    assert not [plot for plot in plots(*compared(CURVES)) if "shots" in plot.title]


@dataclass(frozen=True)
class Learner:
    """Gives as many correct answers as a function of the pool's size."""

    name: str
    right: tuple[int, int]

    def run(self, setting):
        test = setting.task.test
        count = self.right[len(setting.pool) > 10]
        return Outcome([row.output if place < count else "?" for place, row in enumerate(test)])


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_comparison_computes_a_crossover_by_its_metric(metric):
    pool = [Example(f"pool {n}", "ab"[n % 2]) for n in range(90)]
    test = [Example(f"test {n}", "ab"[n % 2]) for n in range(200)]
    task = Task("", pool, test, metric=metric, labels=["a", "b"])
    result = compare(task, [Learner("trained", (60, 160)), Learner("shown", (100, 120))], model=ScriptedModel([]),
                     embedder="hash:8", sizes=[10, None])  # fmt: skip
    by_size = {(row.strategy, row.size): row.score for row in result.results.rows}
    gap = [by_size["trained", size] - by_size["shown", size] for size in (10, 90)]
    true = 10 * 9 ** (gap[0] / (gap[0] - gap[1]))
    found = result.crossover("trained", "shown")
    assert found.size == pytest.approx(true, rel=1e-6)
    assert 10 < found.low < true < found.high < 90
    with pytest.raises(InvalidInputError, match="'other' has no results"):
        result.crossover("other", "shown")
