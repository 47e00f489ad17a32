"""Selectors: which examples of a pool go into a prompt. `load_selector` turns a spec into one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit_selectors.checking import PoolCheck as PoolCheck
    from ragkit_selectors.checking import check_pool as check_pool
    from ragkit_selectors.diverse import Coverage as Coverage
    from ragkit_selectors.diverse import Dpp as Dpp
    from ragkit_selectors.diverse import LabelBalanced as LabelBalanced
    from ragkit_selectors.diverse import LabelNearest as LabelNearest
    from ragkit_selectors.diverse import Mmr as Mmr
    from ragkit_selectors.embedding import EmbeddingSelector as EmbeddingSelector
    from ragkit_selectors.filters import Guard as Guard
    from ragkit_selectors.filters import MinScore as MinScore
    from ragkit_selectors.filters import TokenLimit as TokenLimit
    from ragkit_selectors.hybrid import HybridSelector as HybridSelector
    from ragkit_selectors.labelling import FacilityLocation as FacilityLocation
    from ragkit_selectors.labelling import VoteK as VoteK
    from ragkit_selectors.lexical import BM25Selector as BM25Selector
    from ragkit_selectors.lexical import ContainmentSelector as ContainmentSelector
    from ragkit_selectors.lexical import JaccardSelector as JaccardSelector
    from ragkit_selectors.lexical import NgramSelector as NgramSelector
    from ragkit_selectors.lexical import TfidfSelector as TfidfSelector
    from ragkit_selectors.loading import load_selector as load_selector
    from ragkit_selectors.order import Order as Order
    from ragkit_selectors.order import Pinned as Pinned
    from ragkit_selectors.ordering import EntropyOrder as EntropyOrder
    from ragkit_selectors.ordering import entropy_order as entropy_order
    from ragkit_selectors.ordering import score_examples as score_examples
    from ragkit_selectors.report import AutoSelection as AutoSelection
    from ragkit_selectors.report import SelectorReport as SelectorReport
    from ragkit_selectors.report import autoselect as autoselect
    from ragkit_selectors.rerank import Rerank as Rerank
    from ragkit_selectors.selecting import Pipeline as Pipeline
    from ragkit_selectors.selecting import PoolSelector as PoolSelector
    from ragkit_selectors.selecting import Selecting as Selecting
    from ragkit_selectors.stage import Stage as Stage
    from ragkit_selectors.uniform import FixedSelector as FixedSelector
    from ragkit_selectors.uniform import RandomSelector as RandomSelector

_HOME_OF = {
    "AutoSelection": "report",
    "BM25Selector": "lexical",
    "ContainmentSelector": "lexical",
    "Coverage": "diverse",
    "Dpp": "diverse",
    "EmbeddingSelector": "embedding",
    "EntropyOrder": "ordering",
    "FacilityLocation": "labelling",
    "FixedSelector": "uniform",
    "Guard": "filters",
    "HybridSelector": "hybrid",
    "JaccardSelector": "lexical",
    "LabelBalanced": "diverse",
    "LabelNearest": "diverse",
    "MinScore": "filters",
    "Mmr": "diverse",
    "NgramSelector": "lexical",
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
    "TfidfSelector": "lexical",
    "TokenLimit": "filters",
    "VoteK": "labelling",
    "autoselect": "report",
    "check_pool": "checking",
    "entropy_order": "ordering",
    "load_selector": "loading",
    "score_examples": "ordering",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
