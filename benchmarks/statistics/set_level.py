"""The simulation of `run.py` for macro-F1, and for the tests of equivalence.

Rows have classes, and a wrong answer is another class. The true macro-F1 of a strategy follows from the probability of
a correct answer in each class, integrated over the seeds; with one seed, it is that of the models of this seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import roots_hermitenorm
from scipy.stats import norm

from ragkit import Example
from ragkit.comparison import PairedBootstrap
from ragkit.metrics import load_metric
from ragkit_pipelines.compare.results import Cell, make_row
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.statistics.run_scores import MeanScores, SetScores

ITEM, OWN_ITEM = 1.0, 0.5  # standard deviations of an item's difficulty, as in `run.py`
HARDER = 0.3  # how much harder the rarest class is than the most frequent one
SPREAD = 1 + ITEM**2 + OWN_ITEM**2
METRIC = load_metric("macro_f1")
SHARES = {
    "4 equal classes": (0.25, 0.25, 0.25, 0.25),
    "6 unequal classes": (0.5, 0.2, 0.12, 0.08, 0.06, 0.04),
}


@dataclass(frozen=True)
class Setting:
    """Shares of the classes, levels of the strategies, and how many seeds and items there are."""

    shares: str
    levels: Sequence[float]
    seeds: int
    items: int
    seed_sd: float

    @property
    def share(self) -> np.ndarray:
        return np.array(SHARES[self.shares])

    def rng(self, salt: int) -> np.random.Generator:
        numbers = [salt, self.seeds, self.items, int(100 * self.seed_sd), len(self.share)]
        return np.random.default_rng([*numbers, *(int(1000 * (level + 5)) for level in self.levels)])

    def facts(self) -> dict[str, Any]:
        return {"classes": self.shares, "seeds": self.seeds, "items": self.items, "seed_sd": self.seed_sd}


def easier(share: np.ndarray) -> np.ndarray:
    return -HARDER * np.linspace(0, 1, len(share))


def macro_f1(level: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The macro-F1 of infinitely many rows, for levels f64[n] with the effects of their seeds."""
    recall = norm.cdf((level[:, None] + easier(share)) / SPREAD**0.5)
    wrong = share * (1 - recall) / (1 - share)  # of each class, per share of the class that is answered instead
    answered = share * recall + share * (wrong.sum(axis=1, keepdims=True) - wrong)
    return (2 * share * recall / (share + answered)).mean(axis=1)


def accuracy(level: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The accuracy of infinitely many rows."""
    return norm.cdf((level[:, None] + easier(share)) / SPREAD**0.5) @ share


@cache
def true_score(metric: Callable[..., np.ndarray], level: float, shares: str, seed_sd: float) -> float:
    """The mean of a metric over all seeds."""
    places, weights = roots_hermitenorm(41)
    return float(metric(level + seed_sd * places, np.array(SHARES[shares])) @ weights / weights.sum())


@dataclass(frozen=True)
class Simulated:
    """Answers of the strategies as int[strategies, seeds, items], and the true scores by metric."""

    expected: np.ndarray
    answers: np.ndarray
    true: dict[str, np.ndarray]

    @property
    def rows(self) -> list[Example]:
        return [Example("", str(output)) for output in self.expected]

    def scores(self, metric: str) -> MeanScores | SetScores:
        if metric == "accuracy":
            return MeanScores(self.answers == self.expected)
        return SetScores(METRIC, self.rows, self.answers.astype(str).tolist())


def simulate(rng: np.random.Generator, given: Setting) -> Simulated:
    """Draw classes, seeds and answers."""
    share, levels, arms = given.share, np.array(given.levels), len(given.levels)
    classes = len(share)
    of_seed = rng.normal(0, given.seed_sd, (arms, given.seeds, 1))
    expected = rng.choice(classes, given.items, p=share)
    shape = (arms, given.seeds, given.items)
    hidden = levels[:, None, None] + of_seed + easier(share)[expected] + rng.normal(0, ITEM, given.items)
    hidden = hidden + rng.normal(0, OWN_ITEM, (arms, 1, given.items)) + rng.normal(0, 1, shape)
    instead = rng.choice(classes, shape, p=share)
    while (again := instead == expected).any():
        instead[again] = rng.choice(classes, int(again.sum()), p=share)
    true = {}
    for name, metric in (("accuracy", accuracy), ("macro_f1", macro_f1)):
        if given.seeds == 1:
            true[name] = metric(levels + of_seed[:, 0, 0], share)
        else:
            true[name] = np.array([true_score(metric, level, given.shares, given.seed_sd) for level in given.levels])
    return Simulated(expected, np.where(hidden > 0, expected, instead), true)


def coverage(given: Setting, sets: int, draws: int) -> dict[str, Any]:
    """Coverage and mean width of the intervals of differences of macro-F1."""
    rng, hits, width = given.rng(1), 0, 0.0
    for number in range(sets):
        drawn = simulate(rng, given)
        found = PairedBootstrap(drawn.scores("macro_f1"), draws=draws, seed=number).difference(0, 1)
        hits += found.low <= drawn.true["macro_f1"][0] - drawn.true["macro_f1"][1] <= found.high
        width += found.high - found.low
    means = [round(true_score(macro_f1, level, given.shares, given.seed_sd), 3) for level in given.levels]
    return {**given.facts(), "true_scores": means, "sets": sets, "coverage": round(int(hits) / sets, 4),
            "width": round(float(width) / sets, 4)}  # fmt: skip


def at_margin(metric: Callable[..., np.ndarray], given: Setting, margin: float) -> Setting:
    """The same setting with a second strategy that is worse than the first by exactly the margin."""
    goal = true_score(metric, given.levels[0], given.shares, given.seed_sd) - margin
    level = brentq(lambda each: true_score(metric, each, given.shares, given.seed_sd) - goal, -5, given.levels[0])
    return Setting(given.shares, (given.levels[0], float(level)), given.seeds, given.items, given.seed_sd)


def equivalence(given: Setting, metric: str, margin: float, sets: int, draws: int) -> dict[str, Any]:
    """How often equivalence is claimed for strategies that differ by the margin, and for equally good ones.

    With one seed, the strategies of each set differ by what their seeds make of them, so a claim is false if the true
    difference of these models is the margin or more, and only such sets count.
    """
    shown = {}
    for name, setting in (
        ("false_equivalence", at_margin({"accuracy": accuracy, "macro_f1": macro_f1}[metric], given, margin)),
        ("power_if_equal", Setting(given.shares, (given.levels[0],) * 2, given.seeds, given.items, given.seed_sd)),
    ):
        rng, claims, counted = setting.rng(2), 0, 0
        for number in range(sets):
            drawn = simulate(rng, setting)
            far = abs(drawn.true[metric][0] - drawn.true[metric][1]) >= margin - 1e-9
            if name == "false_equivalence" and not far:
                continue
            counted += 1
            boot = PairedBootstrap(drawn.scores(metric), draws=draws, seed=number)
            claims += max(boot.not_worse(0, 1, margin), boot.not_worse(1, 0, margin)) < 0.05
        shown[name] = round(int(claims) / max(1, counted), 4)
        shown[f"{name}_sets"] = counted
    return {**given.facts(), "metric": metric, "margin": margin, **shown}


def false_winners(given: Setting, sets: int, draws: int) -> dict[str, Any]:
    """How often a strategy is recommended by macro-F1 that is not truly the best alone."""
    rng, false = given.rng(3), 0
    for _ in range(sets):
        drawn = simulate(rng, given)
        score = drawn.scores("macro_f1").by_seed
        cells = [
            Cell(
                key="",
                row=make_row(strategy=str(arm), model=None, size=1, seed=seed, n=given.items,
                             correct=float(np.sum(own == drawn.expected)), prompt_tokens=0, completion_tokens=0,
                             seconds=0, fit_seconds=0, cost=None)
                .model_copy(update={"score": float(score[arm, seed])}),
                answers=[str(each) for each in own],
                scores=(own == drawn.expected).astype(float).tolist(),
            )
            for arm, of_arm in enumerate(drawn.answers)
            for seed, own in enumerate(of_arm)
        ]  # fmt: skip
        found = summarise("", 0, cells, draws=draws, metric=METRIC, test=drawn.rows).recommendation
        if found.significant and found.best is not None:
            true = drawn.true["macro_f1"]
            false += int(np.sum(true >= true[int(found.best)] - 1e-12) > 1)
    return {**given.facts(), "strategies": len(given.levels), "sets": sets, "false_winners": round(false / sets, 4)}


def speed() -> dict[str, float]:
    """10,000 draws of macro-F1 over 20 strategies, 5 seeds, 3,000 items and 77 classes, with all 190 differences."""
    from time import perf_counter, process_time

    rng = np.random.default_rng(0)
    expected = rng.integers(0, 77, 3000)
    answers = np.where(rng.random((20, 5, 3000)) < 0.7, expected, rng.integers(0, 77, (20, 5, 3000)))
    drawn = Simulated(expected, answers, {})
    wall, cpu = perf_counter(), process_time()
    boot = PairedBootstrap(drawn.scores("macro_f1"))
    for a in range(20):
        for b in range(a):
            boot.difference(a, b)
    return {"wall_s": round(perf_counter() - wall, 3), "cpu_s": round(process_time() - cpu, 3)}


def jobs(sets: int, draws: int) -> list[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]]:
    """The part, the function and the arguments of every setting."""
    covered = [
        (Setting(shares, levels, seeds, items, seed_sd), sets, draws)
        for shares in SHARES
        for items in (60, 300)
        for seeds, seed_sd in ((1, 0.0), (3, 0.3), (5, 0.3))
        for levels in ((0.8, 0.8), (2.0, 1.2))
    ]
    equal = [
        (Setting("6 unequal classes", (2.0,), seeds, items, seed_sd), metric, 0.05, sets // 2, draws)
        for metric in ("accuracy", "macro_f1")
        for items, seeds, seed_sd in ((300, 1, 0.0), (1000, 1, 0.0), (1000, 3, 0.0), (1000, 5, 0.05))
    ]
    winners = [
        (Setting(shares, (0.8,) * strategies, seeds, 300, seed_sd), sets * 2 // 3, draws)
        for shares, strategies in (("4 equal classes", 2), ("6 unequal classes", 2), ("6 unequal classes", 3))
        for seeds, seed_sd in ((1, 0.0), (3, 0.3), (5, 0.3))
    ]
    return [
        *(("coverage", coverage, each) for each in covered),
        *(("equivalence", equivalence, each) for each in equal),
        *(("false_winners", false_winners, each) for each in winners),
    ]


def results(sets: int, workers: int, draws: int = 200) -> dict[str, Any]:
    """All parts, with their lowest and highest figures first."""
    found: dict[str, list[dict[str, Any]]] = {"coverage": [], "equivalence": [], "false_winners": []}
    with ProcessPoolExecutor(workers) as pool:
        running = [(part, pool.submit(function, *given)) for part, function, given in jobs(sets, draws)]
        for part, future in running:
            found[part].append(future.result())
            print(part, found[part][-1], flush=True)
    shares = [row["coverage"] for row in found["coverage"]]
    return {
        "claim": {
            "lowest_coverage": min(shares),
            "highest_coverage": max(shares),
            "most_false_winners": max(row["false_winners"] for row in found["false_winners"]),
            "most_false_equivalence": max(row["false_equivalence"] for row in found["equivalence"]),
        },
        "speed": speed(),
        **found,
    }
