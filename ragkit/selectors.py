"""Example selectors and stages: ``from ragkit.selectors import ContainmentSelector``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import names_of

if TYPE_CHECKING:
    from ragkit_selectors import AutoSelection as AutoSelection
    from ragkit_selectors import BaseSelector as BaseSelector
    from ragkit_selectors import BM25Selector as BM25Selector
    from ragkit_selectors import Candidates as Candidates
    from ragkit_selectors import ContainmentSelector as ContainmentSelector
    from ragkit_selectors import Coverage as Coverage
    from ragkit_selectors import Dpp as Dpp
    from ragkit_selectors import EmbeddingSelector as EmbeddingSelector
    from ragkit_selectors import EntropyOrder as EntropyOrder
    from ragkit_selectors import FacilityLocation as FacilityLocation
    from ragkit_selectors import FixedSelector as FixedSelector
    from ragkit_selectors import Guard as Guard
    from ragkit_selectors import HybridSelector as HybridSelector
    from ragkit_selectors import JaccardSelector as JaccardSelector
    from ragkit_selectors import LabelBalanced as LabelBalanced
    from ragkit_selectors import LabelNearest as LabelNearest
    from ragkit_selectors import MinScore as MinScore
    from ragkit_selectors import Mmr as Mmr
    from ragkit_selectors import NgramSelector as NgramSelector
    from ragkit_selectors import Order as Order
    from ragkit_selectors import Pinned as Pinned
    from ragkit_selectors import Pipeline as Pipeline
    from ragkit_selectors import PoolCheck as PoolCheck
    from ragkit_selectors import PoolSelector as PoolSelector
    from ragkit_selectors import RandomSelector as RandomSelector
    from ragkit_selectors import Rerank as Rerank
    from ragkit_selectors import SelectionContext as SelectionContext
    from ragkit_selectors import SelectorReport as SelectorReport
    from ragkit_selectors import Stage as Stage
    from ragkit_selectors import TfidfSelector as TfidfSelector
    from ragkit_selectors import TokenLimit as TokenLimit
    from ragkit_selectors import Upstream as Upstream
    from ragkit_selectors import VoteK as VoteK
    from ragkit_selectors import autoselect as autoselect
    from ragkit_selectors import best_of_pool as best_of_pool
    from ragkit_selectors import check_pool as check_pool
    from ragkit_selectors import entropy_order as entropy_order
    from ragkit_selectors import load_selector as load_selector
    from ragkit_selectors import score_examples as score_examples

__getattr__, __dir__ = names_of("ragkit_selectors")
