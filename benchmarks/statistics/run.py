"""Are the intervals and recommendations of comparisons as sure as they say? A simulation with known truth.

Two strategies differ by seed (as training does), by item, by both and by chance. For 1 to 10 seeds and several seed
variances, the share of 95 % intervals that hold the true difference is counted, for ours and for ways that were not
chosen; and how often a winner is named where all strategies are equally good. With one seed the truth is that of the
models of that seed: no interval from one seed can speak for others, and the last figure shows what happens if it does.

``set_level.py`` does the same for macro-F1 and for the tests of equivalence; ``--only`` runs one of the two parts, and
keeps the stored results of the other.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import set_level  # the script next to this one
from scipy.stats import norm, t

from ragkit.comparison import PairedBootstrap
from ragkit_pipelines.compare.results import Cell, make_row
from ragkit_pipelines.compare.statistics.recommendation import summarise

RESULTS = Path(__file__).parent / "results/statistics.json"
ITEM, OWN_ITEM = 1.0, 0.5  # standard deviations of an item's difficulty: for all strategies, and for one of them


def simulate(
    rng: np.random.Generator, levels: list[float], seeds: int, items: int, seed_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores f64[strategies, seeds, items] and the true means: over all seeds, or of the one seed drawn."""
    arms = len(levels)
    of_seed = rng.normal(0, seed_sd, (arms, seeds, 1))
    hidden = np.array(levels)[:, None, None] + of_seed + rng.normal(0, ITEM, (1, 1, items))
    hidden = hidden + rng.normal(0, OWN_ITEM, (arms, 1, items)) + rng.normal(0, 1, (arms, seeds, items))
    spread = 1 + ITEM**2 + OWN_ITEM**2
    if seeds == 1:
        true = norm.cdf((np.array(levels) + of_seed[:, 0, 0]) / spread**0.5)
    else:
        true = norm.cdf(np.array(levels) / (spread + seed_sd**2) ** 0.5)
    return (hidden > 0).astype(float), true


def not_chosen(rng: np.random.Generator, scores: np.ndarray, draws: int) -> dict[str, tuple[float, float]]:
    """Percentile intervals of drawing seeds and items; plain, and widened by t with seeds - 1 degrees of freedom."""
    gap = scores[0] - scores[1]
    seeds, items = gap.shape
    weights = rng.multinomial(items, np.full(items, 1 / items), draws) / items
    means = np.einsum("ds,ds->d", weights @ gap.T, rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds)
    low, high = np.quantile(means, [0.025, 0.975])
    factor = 1.0 if seeds == 1 else (seeds / (seeds - 1)) ** 0.5 * t.ppf(0.975, seeds - 1) / norm.ppf(0.975)
    mean = gap.mean()
    return {
        "seeds and items drawn": (low, high),
        "the same, widened by t": (mean + factor * (low - mean), mean + factor * (high - mean)),
    }


def coverage(sets: int, seeds: int, items: int, seed_sd: float, levels: list[float], draws: int) -> dict[str, Any]:
    """Coverage and mean width of each kind of interval."""
    rng = np.random.default_rng([seeds, items, int(100 * seed_sd), int(100 * levels[0])])
    hits: dict[str, int] = {}
    widths: dict[str, float] = {}
    for number in range(sets):
        scores, true = simulate(rng, levels, seeds, items, seed_sd)
        ours = PairedBootstrap(scores, draws=draws, seed=number).difference(0, 1)
        for name, (low, high) in {"ours": (ours.low, ours.high), **not_chosen(rng, scores, draws)}.items():
            hits[name] = hits.get(name, 0) + int(low <= true[0] - true[1] <= high)
            widths[name] = widths.get(name, 0.0) + min(1.0, high) - max(-1.0, low)
    return {
        "seeds": seeds,
        "items": items,
        "seed_sd": seed_sd,
        "true_means": [round(float(norm.cdf(level / (1 + ITEM**2 + OWN_ITEM**2 + seed_sd**2) ** 0.5)), 3)
                       for level in levels],
        "sets": sets,
        "coverage": {name: round(count / sets, 4) for name, count in hits.items()},
        "width": {name: round(total / sets, 4) for name, total in widths.items()},
    }  # fmt: skip


def false_winners(sets: int, seeds: int, items: int, seed_sd: float, levels: list[float]) -> dict[str, Any]:
    """How often a strategy is recommended that is not truly the best alone; ``levels`` has its highest value twice."""
    rng = np.random.default_rng([7, seeds, items, int(100 * seed_sd), len(levels)])
    named = false = other_seeds = 0
    for _ in range(sets):
        scores, true = simulate(rng, levels, seeds, items, seed_sd)
        cells = [
            Cell(
                key="",
                row=make_row(strategy=str(arm), model=None, size=1, seed=seed, n=items, correct=row.sum(),
                             prompt_tokens=0, completion_tokens=0, seconds=0, fit_seconds=0, cost=None),
                answers=[],
                scores=row.tolist(),
            )
            for arm, of_arm in enumerate(scores)
            for seed, row in enumerate(of_arm)
        ]  # fmt: skip
        found = summarise("", 0, cells, draws=2000).recommendation
        winner = found.best if found.significant else None
        if winner is not None:
            named += 1
            other_seeds += 1  # over all seeds two are equally good, so every winner is false
            false += int(np.sum(true >= true[int(winner)] - 1e-12) > 1)
    return {
        "seeds": seeds,
        "items": items,
        "seed_sd": seed_sd,
        "strategies": len(levels),
        "sets": sets,
        "false_winners": round(false / sets, 4),
        "winners_of_no_worth_over_seeds": round(other_seeds / sets, 4),
    }


def speed() -> dict[str, float]:
    """10,000 draws over 20 strategies, 5 seeds and 3,000 items, with all 190 differences."""
    scores = np.random.default_rng(0).integers(0, 2, (20, 5, 3000))
    PairedBootstrap(scores[:, :, :10]).difference(0, 1)
    wall, cpu = perf_counter(), process_time()
    boot = PairedBootstrap(scores)
    for a in range(20):
        for b in range(a):
            boot.difference(a, b)
    return {"wall_s": round(perf_counter() - wall, 3), "cpu_s": round(process_time() - cpu, 3)}


def means(sets: int) -> dict[str, Any]:
    """The part on mean scores."""
    covered = [
        coverage(sets, seeds, items, seed_sd, levels, draws=500)
        for items in (30, 200)
        for seed_sd in (0.0, 0.1, 0.3, 1.0)
        for seeds in (1, 2, 3, 5, 10)
        for levels in ([0.8, 0.8], [2.0, 1.2])
    ]
    winners = [
        # Two strategies are the hard case; how many sets a setting gets does not depend on what comes out.
        false_winners(3 * sets if len(levels) == 2 else sets // 2, seeds, 200, seed_sd, levels)
        for seed_sd in (0.0, 0.3, 1.0)
        for seeds in (1, 2, 3, 5, 10)
        for levels in ([0.8, 0.8], [0.8, 0.8, 0.8, 0.8, -0.5])
    ]
    ours = [row["coverage"]["ours"] for row in covered]
    return {
        "claim": {
            "lowest_coverage": min(ours),
            "highest_coverage": max(ours),
            "mean_coverage": round(float(np.mean(ours)), 4),
            "lowest_coverage_not_chosen": {
                name: min(row["coverage"][name] for row in covered)
                for name in ("seeds and items drawn", "the same, widened by t")
            },
            "most_false_winners": max(row["false_winners"] for row in winners),
            "most_winners_of_one_seed_that_are_none_over_seeds": max(
                row["winners_of_no_worth_over_seeds"] for row in winners if row["seeds"] == 1
            ),
        },
        "speed": speed(),
        "coverage": covered,
        "false_winners": winners,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000, help="simulated comparisons for each setting")
    parser.add_argument("--only", choices=["means", "set-level"], help="the part that runs; both by default")
    parser.add_argument("--workers", type=int, default=2, help="processes of the part on set-level metrics")
    given = parser.parse_args()
    facts = json.loads(RESULTS.read_text(encoding="utf-8")) if given.only else {}
    if given.only != "set-level":
        facts.update(means(given.sets))
    if given.only != "means":
        facts["set_level"] = set_level.results(given.sets, given.workers)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({part: facts.get(part, {}).get("claim") for part in ("set_level",)} | {"claim": facts["claim"]},
                     indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
