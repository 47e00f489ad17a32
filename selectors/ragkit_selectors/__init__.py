"""Selectors: which examples of a pool go into a prompt. `load_selector` turns a spec into one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit_selectors.checking import PoolCheck, check_pool
    from ragkit_selectors.diverse import Coverage, Dpp, LabelBalanced, LabelNearest, Mmr
    from ragkit_selectors.embedding import EmbeddingSelector
    from ragkit_selectors.filters import Guard, MinScore, TokenLimit
    from ragkit_selectors.hybrid import HybridSelector
    from ragkit_selectors.labelling import FacilityLocation, VoteK
    from ragkit_selectors.loading import load_selector
    from ragkit_selectors.ngram import NgramSelector
    from ragkit_selectors.order import Order, Pinned
    from ragkit_selectors.ordering import EntropyOrder, entropy_order, score_examples
    from ragkit_selectors.overlap import ContainmentSelector, JaccardSelector
    from ragkit_selectors.report import AutoSelection, SelectorReport, autoselect
    from ragkit_selectors.rerank import Rerank
    from ragkit_selectors.selecting import Pipeline, PoolSelector, Selecting
    from ragkit_selectors.stage import Stage
    from ragkit_selectors.uniform import FixedSelector, RandomSelector
    from ragkit_selectors.weighted import BM25Selector, TfidfSelector

_HOME = {
    "AutoSelection": "report",
    "BM25Selector": "weighted",
    "ContainmentSelector": "overlap",
    "Coverage": "diverse",
    "Dpp": "diverse",
    "EmbeddingSelector": "embedding",
    "EntropyOrder": "ordering",
    "FacilityLocation": "labelling",
    "FixedSelector": "uniform",
    "Guard": "filters",
    "HybridSelector": "hybrid",
    "JaccardSelector": "overlap",
    "LabelBalanced": "diverse",
    "LabelNearest": "diverse",
    "MinScore": "filters",
    "Mmr": "diverse",
    "NgramSelector": "ngram",
    "Order": "order",
    "Pinned": "order",
    "Pipeline": "selecting",
    "PoolCheck": "checking",
    "PoolSelector": "selecting",
    "RandomSelector": "uniform",
    "Rerank": "rerank",
    "Selecting": "selecting",
    "SelectorReport": "report",
    "Stage": "stage",
    "TfidfSelector": "weighted",
    "TokenLimit": "filters",
    "VoteK": "labelling",
    "autoselect": "report",
    "check_pool": "checking",
    "entropy_order": "ordering",
    "load_selector": "loading",
    "score_examples": "ordering",
}
__all__ = [
    "AutoSelection",
    "BM25Selector",
    "ContainmentSelector",
    "Coverage",
    "Dpp",
    "EmbeddingSelector",
    "EntropyOrder",
    "FacilityLocation",
    "FixedSelector",
    "Guard",
    "HybridSelector",
    "JaccardSelector",
    "LabelBalanced",
    "LabelNearest",
    "MinScore",
    "Mmr",
    "NgramSelector",
    "Order",
    "Pinned",
    "Pipeline",
    "PoolCheck",
    "PoolSelector",
    "RandomSelector",
    "Rerank",
    "Selecting",
    "SelectorReport",
    "Stage",
    "TfidfSelector",
    "TokenLimit",
    "VoteK",
    "autoselect",
    "check_pool",
    "entropy_order",
    "load_selector",
    "score_examples",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
