"""Extrapolated curves against power laws whose answer is known."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.reports.tables import gap_lines
from ragkit_pipelines.compare.statistics.learning_curves import extrapolate
from ragkit_pipelines.compare.strategies.base import Outcome

SIZES = (20, 60, 180, 540)


def law(rng, seeds=3, items=2000, exponent=0.4, sizes=SIZES, seed_sd=0.0):
    return {
        size: {
            seed: (rng.random(items) > np.clip(0.9 * size**-exponent + rng.normal(0, seed_sd), 0, 1)).astype(float)
            for seed in range(seeds)
        }
        for size in sizes
    }


def test_the_size_is_that_of_the_law():
    found = extrapolate(law(np.random.default_rng(0)), 0.95)
    true = (0.9 / 0.05) ** (1 / 0.4)
    assert found.low < true < found.high
    assert found.size == pytest.approx(true, rel=0.25)
    assert found.exponent == pytest.approx(0.4, abs=0.03)
    assert abs(found.missed_by) < 0.02
    assert str(found).endswith("for a score of 0.950")


@pytest.mark.parametrize("seed_sd", [0.0, 0.01])
def test_intervals_hold_the_truth(seed_sd):
    rng = np.random.default_rng(1)
    true = (0.9 / 0.06) ** (1 / 0.4)
    found = [extrapolate(law(rng, items=400, seed_sd=seed_sd), 0.94, draws=400) for _ in range(100)]
    assert sum(each.low <= true <= each.high for each in found) >= 89


def test_a_curve_that_does_not_rise_never_gets_there():
    flat = {size: {0: [1.0] * 50 + [0.0] * 50} for size in (10, 100, 1000)}
    found = extrapolate(flat, 0.9)
    assert (found.size, found.high, found.missed_by) == (float("inf"), float("inf"), None)
    assert str(found) == "more than 10,000 examples (10 times the pool) for a score of 0.900"


@dataclass(frozen=True)
class Learner:
    """Right on as many rows as a power law of the pool's size says."""

    name: str
    factor: float

    def run(self, setting):
        test = setting.task.test
        wrong = round(len(test) * self.factor * len(setting.pool) ** -0.5)
        return Outcome([""] * wrong + [row.output for row in test[wrong:]])


def test_a_comparison_says_what_would_close_the_gap():
    pool = [Example(f"pool {n}", "yes") for n in range(64)]
    task = Task("", pool, [Example(f"test {n}", "no") for n in range(400)])
    result = compare(task, [Learner("slow", 0.8), Learner("quick", 0.4)], model=ScriptedModel([]), embedder="hash:8",
                     sizes=[4, 16, 64])  # fmt: skip
    needed = result.examples_needed("slow", "quick")
    assert needed.target == pytest.approx(0.95)
    assert needed.size == pytest.approx(256)
    assert needed.low < 256 < needed.high
    assert result.examples_needed("slow", 0.98).size == pytest.approx(1600)
    (line,) = gap_lines(result.items)
    assert line[:3] == ["slow", "0.900", "0.950 (quick)"]
    assert re.fullmatch(r"256 examples \[\d+, .*\]", line[3])
    assert "## Labelled examples needed" in markdown_report(result.results, result.items)
    assert "Labelled examples needed" in result.html()
    with pytest.raises(InvalidInputError, match="'slw'"):
        result.examples_needed("slw", "quick")


def test_a_gap_is_not_closed_by_guessing():
    pool = [Example(f"pool {n}", "yes") for n in range(64)]
    task = Task("", pool, [Example(f"test {n}", "no") for n in range(400)])
    arms = [Learner("slow", 0.8), Learner("perfect", 0.0), Learner("also", 0.0)]
    three, two = (
        compare(task, arms, model=ScriptedModel([]), embedder="hash:8", sizes=sizes).items
        for sizes in ([4, 16, 64], [16, 64])
    )
    (line,) = gap_lines(three)
    assert line[2:] == ["0.999 (perfect)", "more than 640 examples (10 times the pool)"]
    assert gap_lines(two) == []


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        ({10: {0: [1.0]}, 20: {0: [1.0]}}, 0.9, "at least three"),
        ({size: {0: [1.0, 0.0]} for size in (1, 2, 3)}, 1.0, "`target`"),
        ({1: {0: [1.0]}, 2: {1: [1.0]}, 3: {0: [1.0]}}, 0.9, "same seeds"),
        ({1: {0: [1.0]}, 2: {0: [1.0, 0.0]}, 3: {0: [1.0]}}, 0.9, "same items"),
    ],
)
def test_what_cannot_be_extrapolated(scores, target, message):
    with pytest.raises(InvalidInputError, match=message):
        extrapolate(scores, target)
