"""Selectors, which select the in-context examples of a prompt from a pool; `load_selector` creates one from a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit_selectors.annotation import FacilityLocation as FacilityLocation
    from ragkit_selectors.annotation import VoteK as VoteK
    from ragkit_selectors.autoselection import AutoSelection as AutoSelection
    from ragkit_selectors.autoselection import autoselect as autoselect
    from ragkit_selectors.base import BaseSelector as BaseSelector
    from ragkit_selectors.base import Pipeline as Pipeline
    from ragkit_selectors.base import PoolSelector as PoolSelector
    from ragkit_selectors.baselines import FixedSelector as FixedSelector
    from ragkit_selectors.baselines import RandomSelector as RandomSelector
    from ragkit_selectors.candidates import Candidates as Candidates
    from ragkit_selectors.candidates import best_of_pool as best_of_pool
    from ragkit_selectors.embedding import EmbeddingSelector as EmbeddingSelector
    from ragkit_selectors.hybrid import HybridSelector as HybridSelector
    from ragkit_selectors.lexical import BM25Selector as BM25Selector
    from ragkit_selectors.lexical import ContainmentSelector as ContainmentSelector
    from ragkit_selectors.lexical import JaccardSelector as JaccardSelector
    from ragkit_selectors.lexical import NgramSelector as NgramSelector
    from ragkit_selectors.lexical import TfidfSelector as TfidfSelector
    from ragkit_selectors.lm_ordering import EntropyOrder as EntropyOrder
    from ragkit_selectors.lm_ordering import entropy_order as entropy_order
    from ragkit_selectors.lm_ordering import score_examples as score_examples
    from ragkit_selectors.loading import load_selector as load_selector
    from ragkit_selectors.pool_check import PoolCheck as PoolCheck
    from ragkit_selectors.pool_check import check_pool as check_pool
    from ragkit_selectors.report import SelectorReport as SelectorReport
    from ragkit_selectors.stages.base import SelectionContext as SelectionContext
    from ragkit_selectors.stages.base import Stage as Stage
    from ragkit_selectors.stages.base import Upstream as Upstream
    from ragkit_selectors.stages.diversity_stages import Coverage as Coverage
    from ragkit_selectors.stages.diversity_stages import Dpp as Dpp
    from ragkit_selectors.stages.diversity_stages import LabelBalanced as LabelBalanced
    from ragkit_selectors.stages.diversity_stages import LabelNearest as LabelNearest
    from ragkit_selectors.stages.diversity_stages import Mmr as Mmr
    from ragkit_selectors.stages.filters import Guard as Guard
    from ragkit_selectors.stages.filters import MinScore as MinScore
    from ragkit_selectors.stages.filters import TokenLimit as TokenLimit
    from ragkit_selectors.stages.prompt_order import Order as Order
    from ragkit_selectors.stages.prompt_order import Pinned as Pinned
    from ragkit_selectors.stages.rerank import Rerank as Rerank

_EXPORTS = {
    "annotation": ("FacilityLocation", "VoteK"),
    "autoselection": ("AutoSelection", "autoselect"),
    "base": ("BaseSelector", "Pipeline", "PoolSelector"),
    "baselines": ("FixedSelector", "RandomSelector"),
    "candidates": ("Candidates", "best_of_pool"),
    "embedding": ("EmbeddingSelector",),
    "hybrid": ("HybridSelector",),
    "lexical": ("BM25Selector", "ContainmentSelector", "JaccardSelector", "NgramSelector", "TfidfSelector"),
    "lm_ordering": ("EntropyOrder", "entropy_order", "score_examples"),
    "loading": ("load_selector",),
    "pool_check": ("PoolCheck", "check_pool"),
    "report": ("SelectorReport",),
    "stages.base": ("SelectionContext", "Stage", "Upstream"),
    "stages.diversity_stages": ("Coverage", "Dpp", "LabelBalanced", "LabelNearest", "Mmr"),
    "stages.filters": ("Guard", "MinScore", "TokenLimit"),
    "stages.prompt_order": ("Order", "Pinned"),
    "stages.rerank": ("Rerank",),
}
_HOME_OF = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
_RENAMED = {"Asked": "SelectionContext", "Before": "Upstream", "Selecting": "BaseSelector"}
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF, renamed=_RENAMED)
