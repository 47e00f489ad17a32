"""Compare prompting, example selection and fine-tuning on one task, through one model interface.

This package exports the names that most programs use; the packages that are listed below export the others. Names are
imported on first use, so ``import ragkit`` takes milliseconds and loads no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ragkit._renamed import PACKAGE_OF, refuse

if TYPE_CHECKING:
    from ragkit.answers import read_option as read_option
    from ragkit.embedders import load_embedder as load_embedder
    from ragkit.errors import RagkitError as RagkitError
    from ragkit.evaluation import evaluate_retrieval as evaluate_retrieval
    from ragkit.finetuning import finetune as finetune
    from ragkit.index import Index as Index
    from ragkit.ingest import load_chunker as load_chunker
    from ragkit.ingest import load_documents as load_documents
    from ragkit.models import Budget as Budget
    from ragkit.models import Retry as Retry
    from ragkit.models import ScriptedModel as ScriptedModel
    from ragkit.models import load_model as load_model
    from ragkit.records import Completion as Completion
    from ragkit.records import Document as Document
    from ragkit.records import Example as Example
    from ragkit.records import Hit as Hit
    from ragkit.records import Prompt as Prompt
    from ragkit.records import Selection as Selection
    from ragkit.records import Usage as Usage
    from ragkit.retrievers import BM25Retriever as BM25Retriever
    from ragkit.retrievers import DenseRetriever as DenseRetriever
    from ragkit.retrievers import HybridRetriever as HybridRetriever
    from ragkit.retrievers import RerankingRetriever as RerankingRetriever
    from ragkit.tasks import Task as Task
    from ragkit.templates import Template as Template
    from ragkit_pipelines.advise import advise as advise
    from ragkit_pipelines.compare import Comparison as Comparison
    from ragkit_pipelines.compare import compare as compare
    from ragkit_pipelines.extraction import Extract as Extract
    from ragkit_pipelines.few_shot import FewShot as FewShot
    from ragkit_pipelines.pearl import ActionLibrary as ActionLibrary
    from ragkit_pipelines.pearl import Pearl as Pearl
    from ragkit_pipelines.pearl import Plan as Plan
    from ragkit_pipelines.rag import RetrieveThenAnswer as RetrieveThenAnswer
    from ragkit_selectors import BM25Selector as BM25Selector
    from ragkit_selectors import Coverage as Coverage
    from ragkit_selectors import Dpp as Dpp
    from ragkit_selectors import EmbeddingSelector as EmbeddingSelector
    from ragkit_selectors import FixedSelector as FixedSelector
    from ragkit_selectors import Guard as Guard
    from ragkit_selectors import HybridSelector as HybridSelector
    from ragkit_selectors import JaccardSelector as JaccardSelector
    from ragkit_selectors import LabelNearest as LabelNearest
    from ragkit_selectors import MinScore as MinScore
    from ragkit_selectors import Mmr as Mmr
    from ragkit_selectors import NgramSelector as NgramSelector
    from ragkit_selectors import Order as Order
    from ragkit_selectors import RandomSelector as RandomSelector
    from ragkit_selectors import TfidfSelector as TfidfSelector
    from ragkit_selectors import TokenLimit as TokenLimit
    from ragkit_selectors import VoteK as VoteK
    from ragkit_selectors import autoselect as autoselect
    from ragkit_selectors import load_selector as load_selector

__version__ = "0.2.0"

_EXPORTS = {
    "ragkit.answers": ("read_option",),
    "ragkit.embedders": ("load_embedder",),
    "ragkit.errors": ("RagkitError",),
    "ragkit.evaluation": ("evaluate_retrieval",),
    "ragkit.finetuning": ("finetune",),
    "ragkit.index": ("Index",),
    "ragkit.ingest": ("load_chunker", "load_documents"),
    "ragkit.models": ("Budget", "Retry", "ScriptedModel", "load_model"),
    "ragkit.records": ("Completion", "Document", "Example", "Hit", "Prompt", "Selection", "Usage"),
    "ragkit.retrievers": ("BM25Retriever", "DenseRetriever", "HybridRetriever", "RerankingRetriever"),
    "ragkit.tasks": ("Task",),
    "ragkit.templates": ("Template",),
    "ragkit_pipelines.advise": ("advise",),
    "ragkit_pipelines.compare": ("Comparison", "compare"),
    "ragkit_pipelines.extraction": ("Extract",),
    "ragkit_pipelines.few_shot": ("FewShot",),
    "ragkit_pipelines.pearl": ("ActionLibrary", "Pearl", "Plan"),
    "ragkit_pipelines.rag": ("RetrieveThenAnswer",),
    "ragkit_selectors": (
        "BM25Selector", "Coverage", "Dpp", "EmbeddingSelector", "FixedSelector", "Guard", "HybridSelector",
        "JaccardSelector", "LabelNearest", "MinScore", "Mmr", "NgramSelector", "Order", "RandomSelector",
        "TfidfSelector", "TokenLimit", "VoteK", "autoselect", "load_selector",
    ),
}  # fmt: skip
_HOME_OF = {name: package for package, names in _EXPORTS.items() for name in names}
_PACKAGES = {
    "answers", "comparison", "embedders", "errors", "evaluation", "finetuning", "index", "ingest", "langchain",
    "metrics", "models", "pearl", "pipelines", "protocols", "records", "registry", "retriever_training", "retrievers",
    "selectors", "serving", "tasks", "templates", "testing", "workers",
}  # fmt: skip
__all__ = [*_HOME_OF, "__version__"]  # noqa: PLE0604, RUF100 - names are the table above


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f"ragkit.{name}")
    if name in PACKAGE_OF:
        refuse(name)
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ragkit' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
