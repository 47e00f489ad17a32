"""Comparisons, their statistics and reports, advice, and data: ``from ragkit.comparison import Strategy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import names_of

if TYPE_CHECKING:
    from ragkit_pipelines.advise import Advice as Advice
    from ragkit_pipelines.advise import Advised as Advised
    from ragkit_pipelines.advise import Needs as Needs
    from ragkit_pipelines.advise import advise as advise
    from ragkit_pipelines.compare import CompareOptions as CompareOptions
    from ragkit_pipelines.compare import Comparison as Comparison
    from ragkit_pipelines.compare import Estimate as Estimate
    from ragkit_pipelines.compare import Judgement as Judgement
    from ragkit_pipelines.compare import Outcome as Outcome
    from ragkit_pipelines.compare import PriceRange as PriceRange
    from ragkit_pipelines.compare import Recommendation as Recommendation
    from ragkit_pipelines.compare import Results as Results
    from ragkit_pipelines.compare import Row as Row
    from ragkit_pipelines.compare import Setting as Setting
    from ragkit_pipelines.compare import Strategy as Strategy
    from ragkit_pipelines.compare import StrategyEstimate as StrategyEstimate
    from ragkit_pipelines.compare import Tracker as Tracker
    from ragkit_pipelines.compare import compare as compare
    from ragkit_pipelines.compare import estimate as estimate
    from ragkit_pipelines.compare import export_items as export_items
    from ragkit_pipelines.compare import judge_files as judge_files
    from ragkit_pipelines.compare import timed as timed
    from ragkit_pipelines.compare.reports import break_even_lines as break_even_lines
    from ragkit_pipelines.compare.reports import html_report as html_report
    from ragkit_pipelines.compare.reports import markdown_report as markdown_report
    from ragkit_pipelines.compare.statistics import Calibration as Calibration
    from ragkit_pipelines.compare.statistics import Crossover as Crossover
    from ragkit_pipelines.compare.statistics import Extrapolation as Extrapolation
    from ragkit_pipelines.compare.statistics import Interval as Interval
    from ragkit_pipelines.compare.statistics import ModelSize as ModelSize
    from ragkit_pipelines.compare.statistics import PairedBootstrap as PairedBootstrap
    from ragkit_pipelines.compare.statistics import PromptShape as PromptShape
    from ragkit_pipelines.compare.statistics import PublishedResult as PublishedResult
    from ragkit_pipelines.compare.statistics import SetScores as SetScores
    from ragkit_pipelines.compare.statistics import Upfront as Upfront
    from ragkit_pipelines.compare.statistics import Verdict as Verdict
    from ragkit_pipelines.compare.statistics import VolumeRange as VolumeRange
    from ragkit_pipelines.compare.statistics import break_even_range as break_even_range
    from ragkit_pipelines.compare.statistics import calibrated as calibrated
    from ragkit_pipelines.compare.statistics import crossover as crossover
    from ragkit_pipelines.compare.statistics import extrapolate as extrapolate
    from ragkit_pipelines.compare.statistics import items_needed as items_needed
    from ragkit_pipelines.compare.statistics import judge_means as judge_means
    from ragkit_pipelines.compare.statistics import judge_wins as judge_wins
    from ragkit_pipelines.compare.statistics import mcnemar as mcnemar
    from ragkit_pipelines.data_quality import DataCheck as DataCheck
    from ragkit_pipelines.data_quality import check_data as check_data
    from ragkit_pipelines.data_quality import clean_data as clean_data
    from ragkit_pipelines.datasets import support_requests as support_requests

__getattr__, __dir__ = names_of(
    "ragkit_pipelines.advise",
    "ragkit_pipelines.compare",
    "ragkit_pipelines.compare.reports",
    "ragkit_pipelines.compare.statistics",
    "ragkit_pipelines.data_quality",
    "ragkit_pipelines.datasets",
)
