"""Statistics against oracles that are written out by hand."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from ragkit.errors import DataFileError, InvalidInputError
from ragkit_pipelines.compare.options import CompareOptions
from ragkit_pipelines.compare.results import Cell, Results, make_row
from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap
from ragkit_pipelines.compare.statistics.calibration import brier, calibration_error
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.statistics.tests import holm, items_needed, mcnemar, mcnemar_counts, minimum_detectable


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_mcnemar_is_the_sum_of_binomial_terms(only_a, only_b, both):
    a = [1] * only_a + [0] * only_b + [1] * both
    b = [0] * only_a + [1] * only_b + [1] * both
    n, k = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(a, b) == (only_a, only_b, pytest.approx(expected))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_its_stepwise_rule_rejects(p_values):
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[place] > level / (len(p_values) - rank):
                break
            rejected.add(place)
        near = any(abs(value - level) < 1e-9 for value in adjusted)
        assert near or {place for place, value in enumerate(adjusted) if value <= level} == rejected


def test_minimum_detectable_and_items_needed_have_the_power_they_promise():
    effect = minimum_detectable(0.02)
    shown = 1 - norm.cdf(1.959964 - effect / 0.02) + norm.cdf(-1.959964 - effect / 0.02)
    assert shown == pytest.approx(0.8, abs=1e-4)
    n = items_needed(0.05, 0.2)
    assert n == 628
    rng = np.random.default_rng(0)
    tables = rng.multinomial(n, [0.125, 0.075, 0.8], 2000)
    score = (tables[:, 0] - tables[:, 1]) / np.sqrt(tables[:, 0] + tables[:, 1])
    assert np.mean(np.abs(score) > 1.96) == pytest.approx(0.8, abs=0.04)
    with pytest.raises(InvalidInputError, match=r"difference 0\.3 and discordant 0.2"):
        items_needed(0.3, 0.2)


def test_one_seed_is_the_bootstrap_of_all_resamples_of_the_items():
    a, b = np.array([1, 1, 1, 0, 1, 1.0]), np.array([0, 1, 0, 1, 0, 0.0])
    found = PairedBootstrap(np.array([a, b])[:, None, :], draws=200_000).difference(0, 1)
    means = np.array([np.mean((a - b)[list(drawn)]) for drawn in product(range(6), repeat=6)]) - 0.5
    factor = (6 / 5) ** 0.5 * t.ppf(0.975, 5) / norm.ppf(0.975)
    # Every resample is blurred by one item of doubt; the quantile is where the blurred distribution is 2.5 %.
    below = np.mean(norm.cdf((found.low - 0.5 - factor * means) * 6))
    above = np.mean(norm.cdf((found.high - 0.5 - factor * means) * 6)) if found.high < 1 else 0.975
    assert found.estimate == pytest.approx(0.5)
    assert below == pytest.approx(0.025, abs=0.002)
    assert above == pytest.approx(0.975, abs=0.002)
    assert found.p == pytest.approx(2 * np.mean(norm.cdf((-0.5 - factor * means) * 6)), abs=0.003)


def test_several_seeds_are_students_t_where_items_agree():
    scores = np.zeros((2, 3, 4000))
    for seed, right in enumerate((400, 480, 560)):
        scores[0, seed, :right] = 1
    scores[1, :, :2000:2] = 0
    # Items hardly matter among 4,000; the means of the seeds are 0.10, 0.12 and 0.14.
    found = PairedBootstrap(scores).difference(0, 1)
    half = t.ppf(0.975, 2) * 0.02 / 3**0.5
    assert found.estimate == pytest.approx(0.12)
    assert (found.low, found.high) == (pytest.approx(0.12 - half, abs=0.003), pytest.approx(0.12 + half, abs=0.003))
    assert found.p == pytest.approx(2 * t.sf(0.12 / (0.02 / 3**0.5), 2), abs=0.003)
    assert found.seeds == 3


def test_a_difference_is_the_same_from_the_other_side():
    scores = np.random.default_rng(0).integers(0, 2, (3, 4, 50))
    boot = PairedBootstrap(scores)
    there, back = boot.difference(0, 2), boot.difference(2, 0)
    assert there.estimate == -back.estimate
    assert (there.low, there.high) == (pytest.approx(-back.high, abs=0.01), pytest.approx(-back.low, abs=0.01))
    assert there.p == pytest.approx(back.p, abs=0.03)
    assert there == PairedBootstrap(scores).difference(0, 2)


def test_strategies_that_never_differ_are_not_known_to_be_equal():
    found = PairedBootstrap(np.ones((2, 2, 100))).difference(0, 1)
    assert (found.estimate, found.p) == (0.0, pytest.approx(1.0, abs=0.05))
    assert found.low == pytest.approx(-0.02, abs=0.002)
    assert found.high == pytest.approx(0.02, abs=0.002)


@pytest.mark.parametrize(
    ("scores", "draws", "message"),
    [
        (np.zeros((2, 3)), 1000, r"got shape \(2, 3\)"),
        (np.zeros((2, 0, 3)), 1000, "non-empty"),
        (np.full((2, 1, 3), 1.5), 1000, "between 0 and 1"),
        (np.full((2, 1, 3), np.nan), 1000, "between 0 and 1"),
        (np.zeros((2, 1, 3)), 10, "100 or more"),
    ],
)
def test_bad_scores(scores, draws, message):
    with pytest.raises(InvalidInputError, match=message):
        PairedBootstrap(scores, draws=draws)


def test_calibration_by_hand():
    assert brier([0.9, 0.6], [1, 0]) == pytest.approx((0.01 + 0.36) / 2)
    confidence, right = [0.9, 0.8, 0.3, 0.2], [1, 1, 1, 0]
    assert calibration_error(confidence, right, bins=2) == pytest.approx((abs(0.25 - 0.5) + abs(0.85 - 1)) / 2)
    assert calibration_error(confidence, right, bins=1) == pytest.approx(0.2)
    assert calibration_error(confidence, right) == pytest.approx((0.1 + 0.2 + 0.7 + 0.2) / 4)
    with pytest.raises(InvalidInputError, match="lists of the same length"):
        brier([0.5], [1, 0])
    with pytest.raises(InvalidInputError, match="`confidence` must be"):
        calibration_error([1.5], [1])
    with pytest.raises(InvalidInputError, match="`bins`"):
        calibration_error([0.5], [1], bins=0)


def cells_of(scores, size=10):
    """Cells from {strategy: {seed: scores}}."""
    return [
        Cell(
            key="",
            row=make_row(strategy=name, model=None, size=size, seed=seed, n=len(given), correct=sum(given),
                         prompt_tokens=0, completion_tokens=0, seconds=0, fit_seconds=0, cost=None),
            answers=[""] * len(given),
            scores=list(given),
        )
        for name, seeds in scores.items()
        for seed, given in seeds.items()
    ]  # fmt: skip


def test_seeds_are_not_pooled():
    """Four seeds, of which one is far better: McNemar over all 400 answers would be sure, the seeds are not."""
    base = [1.0] * 50 + [0.0] * 50
    better = {0: [1.0] * 90 + [0.0] * 10, 1: [1.0] * 51 + [0.0] * 49, 2: base, 3: base}
    pooled = mcnemar([x for seed in better.values() for x in seed], base * 4)
    assert pooled[2] < 1e-6
    results = summarise("t", 0, cells_of({"tuned": better, "prompted": dict.fromkeys(range(4), base)}))
    assert not results.recommendation.significant
    assert "not significantly better than prompted (" in results.recommendation.evidence
    assert "worst seed 50.0%" in results.recommendation.evidence
    assert results.differences[0].seeds == 4
    assert results.differences[0].low < 0 < results.differences[0].high


def test_an_even_gain_over_seeds_is_shown():
    base, better = [1.0] * 50 + [0.0] * 50, [1.0] * 80 + [0.0] * 20
    results = summarise("t", 0, cells_of({"a": dict.fromkeys(range(3), base), "b": dict.fromkeys(range(3), better)}))
    assert results.recommendation.strategy == "b"
    assert "paired bootstrap over seeds and items" in results.recommendation.evidence


def test_a_strategy_that_failed_in_one_seed_is_compared_in_the_others():
    base, better = [1.0] * 20 + [0.0] * 30, [1.0] * 40 + [0.0] * 10
    whole = dict.fromkeys(range(3), base)
    results = summarise("t", 0, cells_of({"a": whole, "b": {0: better, 2: better}, "c": whole}))
    assert {(d.a, d.b): d.seeds for d in results.differences} == {("a", "b"): 2, ("a", "c"): 3, ("b", "c"): 2}
    assert {(d.a, d.b): round(d.estimate, 9) for d in results.differences}["b", "c"] == 0.4


def priced(cells, seconds, costs=(None, None, None)):
    """The same cells with other times and costs of prediction."""
    return [
        cell.model_copy(update={"row": cell.row.model_copy(update={"seconds": time, "cost": cost})})
        for cell, time, cost in zip(cells, seconds, costs, strict=False)
    ]


def test_the_cheapest_strategy_that_is_not_shown_to_be_worse_is_recommended():
    right = {"best": 160, "close": 156, "far": 90}
    cells = cells_of({name: {0: [1.0] * count + [0.0] * (200 - count)} for name, count in right.items()})
    found = summarise("t", 0, priced(cells, [10.0, 2.5, 0.1])).recommendation
    assert (found.strategy, found.best, found.saved, found.significant) == ("close", "best", "seconds", False)
    assert found.saving == pytest.approx(0.75)
    costs = summarise("t", 0, priced(cells, [10.0, 2.5, 0.1], [1.0, 4.0, 0.5])).recommendation
    assert (costs.strategy, costs.saved, costs.saving, costs.rows_needed) == ("best", "cost", 0.0, None)
    unknown = summarise("t", 0, priced(cells, [10.0, 2.5, 0.1], [1.0, None, 0.5])).recommendation
    assert (unknown.strategy, unknown.saved) == ("close", "seconds")


def test_the_rows_needed_are_those_of_a_test_with_the_observed_share_of_discordant_rows():
    a, b = [1.0] * 60 + [0.0] * 40, [1.0] * 50 + [0.0] * 20 + [1.0] * 4 + [0.0] * 26
    found = summarise("t", 0, priced(cells_of({"a": {0: a}, "b": {0: b}}), [2.0, 1.0])).recommendation
    assert found.strategy == "b"
    assert found.rows_needed == pytest.approx(items_needed(0.06, 0.14), rel=0.1)


def test_a_margin_decides_which_losses_matter():
    right = {"best": 900, "close": 870}
    cells = priced(cells_of({name: {0: [1.0] * n + [0.0] * (1000 - n)} for name, n in right.items()}), [2.0, 1.0])
    strict, lenient = (
        summarise("t", 0, cells, options=CompareOptions(margin=margin)).recommendation for margin in (0.0, 0.05)
    )
    assert (strict.strategy, strict.significant) == ("best", True)
    assert (lenient.strategy, lenient.margin, lenient.significant) == ("close", 0.05, True)
    with pytest.raises(InvalidInputError):
        CompareOptions(margin=1.0)


def test_a_strategy_at_the_floor_is_never_recommended_for_its_price():
    cells = cells_of({"best": {0: [1.0] * 22 + [0.0] * 18}, "floor": {0: [1.0] * 19 + [0.0] * 21}})
    found = summarise("t", 0, priced(cells, [9.0, 0.0]), floor=0.38).recommendation
    assert (found.strategy, found.best) == ("best", "best")


def test_partial_scores_are_judged_by_the_bootstrap():
    rng = np.random.default_rng(0)
    low, high = rng.uniform(0.1, 0.4, 60), rng.uniform(0.5, 0.9, 60)
    results = summarise("t", 0, cells_of({"low": {0: low.tolist()}, "high": {0: high.tolist()}}))
    assert results.pairs == []
    assert results.recommendation.strategy == "high"
    assert "paired bootstrap" in results.recommendation.evidence


def test_an_arm_at_the_floor_is_labelled():
    same, weak = [1.0] * 40 + [0.0] * 60, [1.0] * 45 + [0.0] * 55
    results = summarise("t", 0, cells_of({"same": {0: same}, "weak": {0: weak}}), floor=0.4)
    assert [row.at_floor for row in results.rows] == [True, True]
    assert "not significantly better than the majority baseline" in results.recommendation.evidence
    assert "not above the baseline" in results.markdown()
    alone = summarise("t", 0, cells_of({"majority": {0: same}}), floor=0.4)
    assert "which is the majority baseline" in alone.recommendation.evidence
    three = summarise("t", 0, cells_of({"x": {0: [1.0, 1.0, 1.0]}, "y": {0: [0.0, 0.0, 0.0]}}))
    assert not three.recommendation.significant
    assert "not significantly better than" in three.recommendation.evidence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected the results of a comparison"),
        ("{", "expected the results of a comparison"),
        ('{"task": "t", "rows": []}', "expected schema version 2, got 1"),
        ("[]", "expected schema version 2, got None"),
        ('{"schema_version": 2, "task": "t"}', "`leaked_test_rows`: Field required"),
    ],
)
def test_results_that_cannot_be_read(tmp_path, text, message):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataFileError, match=message):
        Results.load(tmp_path)


def test_results_read_back(tmp_path):
    results = summarise("t", 0, cells_of({"a": {0: [1.0, 0.0]}, "b": {0: [1.0, 1.0]}}))
    (tmp_path / "results.json").write_text(results.model_dump_json())
    assert Results.load(tmp_path) == Results.load(tmp_path / "results.json") == results


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.3), (2, 0.3), (3, 1.0), (5, 0.0)])
def test_intervals_hold_the_truth_in_simulated_comparisons(seeds, seed_sd):
    """150 comparisons each: 136 of them or fewer would be 2.5 standard errors under 95 %."""
    rng = np.random.default_rng(seeds)
    held = sum(simulated_interval_holds(rng, seeds, seed_sd) for _ in range(150))
    assert held >= 137


def simulated_interval_holds(rng, seeds, seed_sd, items=80, level=(0.9, 0.4)):
    of_seed = rng.normal(0, seed_sd, (2, seeds, 1))
    hidden = np.array(level)[:, None, None] + of_seed + rng.normal(0, 1, items) + rng.normal(0, 1, (2, seeds, items))
    if seeds == 1:  # one seed speaks for itself only
        true = norm.cdf((np.array(level) + of_seed[:, 0, 0]) / 2**0.5)
    else:
        true = norm.cdf(np.array(level) / (2 + seed_sd**2) ** 0.5)
    found = PairedBootstrap(hidden > 0, draws=400).difference(0, 1)
    return found.low <= true[0] - true[1] <= found.high


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_what_is_called_detectable_is_shown_in_most_comparisons(seeds):
    """2.8 standard errors are shown in 80 of 100 comparisons of one seed, but in 17 of two and in 34 of three."""
    rng = np.random.default_rng(7)

    def compared(gain):
        level = np.array([0.3 + gain, 0.3])[:, None, None] + rng.normal(0, 0.02 * (seeds > 1), (2, seeds, 1))
        return PairedBootstrap(rng.random((2, seeds, 200)) < level, draws=400).difference(0, 1)

    gain = float(np.median([compared(0.0).detectable for _ in range(80)]))
    shown = [compared(gain).p < 0.05 for _ in range(120)]
    assert 0.5 <= np.mean(shown) <= 0.92


def failed_cell(strategy, seed, size=10):
    (cell,) = cells_of({strategy: {seed: [0.0]}}, size)
    return cell.model_copy(update={"row": cell.row.model_copy(update={"error": "gone"}), "answers": [], "scores": []})


def test_the_evidence_says_what_failed():
    good, bad = [1.0] * 40, [0.0] * 40
    lucky = [*cells_of({"lucky": {0: good}, "bad": dict.fromkeys(range(3), bad)}),
             failed_cell("lucky", 1), failed_cell("lucky", 2)]  # fmt: skip
    found = summarise("t", 0, [*lucky, failed_cell("other", 0), failed_cell("bad", 0, size=3)]).recommendation
    assert found.strategy == "lucky"
    assert found.evidence.endswith("; lucky failed in 2 of 3 seeds; other failed")


def test_parts_of_a_score_are_not_called_right_answers():
    results = summarise("t", 0, cells_of({"low": {0: [0.25] * 40}, "high": {0: [0.75, 0.7] * 20}}))
    assert (
        "high had a mean score of 0.725 on 40 test rows with a pool of 10 examples" in results.recommendation.evidence
    )
    assert results.measured == "mean score on 40 test rows, with 95 % interval"
    whole = summarise("t", 0, cells_of({"low": {0: [0.0] * 40}, "high": {0: [1.0] * 40}}))
    assert "high answered 100.0% of 40 test rows correctly" in whole.recommendation.evidence
    assert whole.measured == "accuracy on 40 test rows, with 95 % interval"


def test_what_a_single_test_shows_is_not_promised_of_several():
    same = {0: [1.0] * 20 + [0.0] * 20}
    two = summarise("t", 0, cells_of({"a": same, "b": same})).recommendation.evidence
    assert two.endswith("minimum detectable difference: 7.0 points")
    three = summarise("t", 0, cells_of({"a": same, "b": same, "c": same})).recommendation.evidence
    assert three.endswith("minimum detectable difference: 7.0 points in a single test")


def test_mcnemar_is_the_binomial_sum_for_every_small_table():
    for wins, losses in product(range(10), repeat=2):
        n, fewer = wins + losses, min(wins, losses)
        expected = min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)
        assert mcnemar_counts(wins, losses) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 3, 1), (2, 1, 40), (2, 3, 40)])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_all_or_nothing_right_shows_no_difference(shape, score):
    found = PairedBootstrap(np.full(shape, score)).difference(0, 1)
    assert found.low < 0 < found.high
    assert found.p > 0.9
    assert 0 < found.detectable <= 1


def test_one_row_shows_nothing():
    found = PairedBootstrap([[[1.0]], [[0.0]]]).difference(0, 1)
    assert (found.estimate, found.high, found.detectable) == (1, 1, 1)
    assert found.low < 0
    assert found.p > 0.05
