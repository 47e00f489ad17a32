"""Statistics of comparisons: intervals, tests, curves, costs and the recommendation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit_pipelines.compare.statistics.bootstrap import Interval as Interval
    from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap as PairedBootstrap
    from ragkit_pipelines.compare.statistics.calibration import Calibration as Calibration
    from ragkit_pipelines.compare.statistics.calibration import calibrated as calibrated
    from ragkit_pipelines.compare.statistics.costs import ModelSize as ModelSize
    from ragkit_pipelines.compare.statistics.costs import PromptShape as PromptShape
    from ragkit_pipelines.compare.statistics.costs import Upfront as Upfront
    from ragkit_pipelines.compare.statistics.costs import VolumeRange as VolumeRange
    from ragkit_pipelines.compare.statistics.costs import break_even_range as break_even_range
    from ragkit_pipelines.compare.statistics.crossovers import Crossover as Crossover
    from ragkit_pipelines.compare.statistics.crossovers import crossover as crossover
    from ragkit_pipelines.compare.statistics.learning_curves import Extrapolation as Extrapolation
    from ragkit_pipelines.compare.statistics.learning_curves import extrapolate as extrapolate
    from ragkit_pipelines.compare.statistics.prices import PriceRange as PriceRange
    from ragkit_pipelines.compare.statistics.published import PublishedResult as PublishedResult
    from ragkit_pipelines.compare.statistics.published import Verdict as Verdict
    from ragkit_pipelines.compare.statistics.published import judge_means as judge_means
    from ragkit_pipelines.compare.statistics.published import judge_wins as judge_wins
    from ragkit_pipelines.compare.statistics.run_scores import SetScores as SetScores
    from ragkit_pipelines.compare.statistics.tests import items_needed as items_needed
    from ragkit_pipelines.compare.statistics.tests import mcnemar as mcnemar

_HOME_OF = {
    "Calibration": "calibration",
    "Crossover": "crossovers",
    "Extrapolation": "learning_curves",
    "Interval": "bootstrap",
    "ModelSize": "costs",
    "PairedBootstrap": "bootstrap",
    "PriceRange": "prices",
    "PromptShape": "costs",
    "PublishedResult": "published",
    "SetScores": "run_scores",
    "Upfront": "costs",
    "Verdict": "published",
    "VolumeRange": "costs",
    "break_even_range": "costs",
    "calibrated": "calibration",
    "crossover": "crossovers",
    "extrapolate": "learning_curves",
    "items_needed": "tests",
    "judge_means": "published",
    "judge_wins": "published",
    "mcnemar": "tests",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
