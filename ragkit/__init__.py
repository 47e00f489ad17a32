"""One task through prompting, example selection and fine-tuning, behind one model interface, measured.

Names are imported on first use, so that ``import ragkit`` costs milliseconds and loads no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.embedders import load_embedder as load_embedder
    from ragkit.embedders.hashing import HashingEmbedder as HashingEmbedder
    from ragkit.errors import RagkitError as RagkitError
    from ragkit.errors import RagkitWarning as RagkitWarning
    from ragkit.evaluation.comparison import compare_retrieval as compare_retrieval
    from ragkit.evaluation.measures import RetrievalReport as RetrievalReport
    from ragkit.evaluation.measures import evaluate_retrieval as evaluate_retrieval
    from ragkit.finetuning import FineTuned as FineTuned
    from ragkit.finetuning import finetune as finetune
    from ragkit.finetuning.exporting import export_merged as export_merged
    from ragkit.finetuning.imitation import Imitation as Imitation
    from ragkit.finetuning.imitation import imitate as imitate
    from ragkit.finetuning.memorization import Memorisation as Memorisation
    from ragkit.finetuning.memorization import memorisation as memorisation
    from ragkit.finetuning.mixing import Mixture as Mixture
    from ragkit.finetuning.mixing import mix as mix
    from ragkit.finetuning.remote import cancel_finetuning as cancel_finetuning
    from ragkit.index import Index as Index
    from ragkit.index.rebuilding import rebuild_index as rebuild_index
    from ragkit.index.sharded import ShardedIndex as ShardedIndex
    from ragkit.ingest.chunking import load_chunker as load_chunker
    from ragkit.ingest.duplicates import near_duplicates as near_duplicates
    from ragkit.ingest.loading import load_documents as load_documents
    from ragkit.models import load_model as load_model
    from ragkit.models.adapters import AdapterSet as AdapterSet
    from ragkit.models.budget import Budget as Budget
    from ragkit.models.middleware import LayeredModel as LayeredModel
    from ragkit.models.pricing import Price as Price
    from ragkit.models.pricing import Prices as Prices
    from ragkit.models.rate_limit import RateLimit as RateLimit
    from ragkit.models.rate_limit import Retry as Retry
    from ragkit.models.replay import ReplayModel as ReplayModel
    from ragkit.models.response_cache import AnswerCache as AnswerCache
    from ragkit.models.scripted import ScriptedModel as ScriptedModel
    from ragkit.options import read_option as read_option
    from ragkit.records import Chat as Chat
    from ragkit.records import Completion as Completion
    from ragkit.records import Document as Document
    from ragkit.records import Example as Example
    from ragkit.records import Hit as Hit
    from ragkit.records import Message as Message
    from ragkit.records import Preference as Preference
    from ragkit.records import Prompt as Prompt
    from ragkit.records import Selection as Selection
    from ragkit.records import Usage as Usage
    from ragkit.retriever_training import TrainedRetriever as TrainedRetriever
    from ragkit.retriever_training import distill_embedder as distill_embedder
    from ragkit.retriever_training import finetune_embedder as finetune_embedder
    from ragkit.retriever_training import finetune_reranker as finetune_reranker
    from ragkit.retriever_training.mining import mine_hard_negatives as mine_hard_negatives
    from ragkit.retriever_training.reader import score_passages as score_passages
    from ragkit.retriever_training.rows import ScoredPassages as ScoredPassages
    from ragkit.retriever_training.rows import TrainingPair as TrainingPair
    from ragkit.retrievers.bm25 import BM25Retriever as BM25Retriever
    from ragkit.retrievers.chroma_filters import chroma_filter as chroma_filter
    from ragkit.retrievers.dense import DenseRetriever as DenseRetriever
    from ragkit.retrievers.expand import ExpandingRetriever as ExpandingRetriever
    from ragkit.retrievers.hybrid import HybridRetriever as HybridRetriever
    from ragkit.retrievers.langchain_store import LangChainRetriever as LangChainRetriever
    from ragkit.retrievers.mmr import MmrRetriever as MmrRetriever
    from ragkit.retrievers.multi_query import MultiQueryRetriever as MultiQueryRetriever
    from ragkit.retrievers.rerank import RerankingRetriever as RerankingRetriever
    from ragkit.tasks import Task as Task
    from ragkit.templates import Template as Template
    from ragkit.workers import Batch as Batch
    from ragkit.workers import EmbedTexts as EmbedTexts
    from ragkit.workers import GenerateTexts as GenerateTexts
    from ragkit.workers import WorkerPool as WorkerPool
    from ragkit.workers import generate_many as generate_many
    from ragkit_pipelines.advise import Advice as Advice
    from ragkit_pipelines.advise import Needs as Needs
    from ragkit_pipelines.advise import advise as advise
    from ragkit_pipelines.compare import Comparison as Comparison
    from ragkit_pipelines.compare import compare as compare
    from ragkit_pipelines.data_quality.data_check import check_data as check_data
    from ragkit_pipelines.data_quality.data_check import clean_data as clean_data
    from ragkit_pipelines.extraction.pipeline import Extract as Extract
    from ragkit_pipelines.extraction.records import Extraction as Extraction
    from ragkit_pipelines.few_shot import FewShot as FewShot
    from ragkit_pipelines.parity import Parity as Parity
    from ragkit_pipelines.parity import parity as parity
    from ragkit_pipelines.pearl.mine.mining import mine as mine
    from ragkit_pipelines.pearl.mine.refine import refine as refine
    from ragkit_pipelines.pearl.pipeline import Pearl as Pearl
    from ragkit_pipelines.pearl.plan.library import ActionLibrary as ActionLibrary
    from ragkit_pipelines.pearl.plan.plan import Plan as Plan
    from ragkit_pipelines.pearl.plan.planner import PromptPlanner as PromptPlanner
    from ragkit_pipelines.pearl.plan.planner import ZeroShot as ZeroShot
    from ragkit_pipelines.pearl.router import Router as Router
    from ragkit_pipelines.pearl.run.concurrency import Cancellation as Cancellation
    from ragkit_pipelines.pearl.run.context import WholeText as WholeText
    from ragkit_pipelines.pearl.run.context import Windows as Windows
    from ragkit_pipelines.pearl.run.executor import PlanExecutor as PlanExecutor
    from ragkit_pipelines.pearl.run.option_mapper import OptionMapper as OptionMapper
    from ragkit_pipelines.pearl.run.retrieval_contexts import GistPages as GistPages
    from ragkit_pipelines.pearl.run.retrieval_contexts import Retrieved as Retrieved
    from ragkit_pipelines.pearl.run.trace import Trace as Trace
    from ragkit_pipelines.rag.answers import Citation as Citation
    from ragkit_pipelines.rag.answers import CitedAnswer as CitedAnswer
    from ragkit_pipelines.rag.extractive import ExtractiveReader as ExtractiveReader
    from ragkit_pipelines.rag.pipeline import RetrieveThenAnswer as RetrieveThenAnswer
    from ragkit_pipelines.serving import Server as Server
    from ragkit_selectors.annotation import FacilityLocation as FacilityLocation
    from ragkit_selectors.annotation import VoteK as VoteK
    from ragkit_selectors.autoselection import autoselect as autoselect
    from ragkit_selectors.baselines import FixedSelector as FixedSelector
    from ragkit_selectors.baselines import RandomSelector as RandomSelector
    from ragkit_selectors.embedding import EmbeddingSelector as EmbeddingSelector
    from ragkit_selectors.hybrid import HybridSelector as HybridSelector
    from ragkit_selectors.lexical import BM25Selector as BM25Selector
    from ragkit_selectors.lexical import ContainmentSelector as ContainmentSelector
    from ragkit_selectors.lexical import JaccardSelector as JaccardSelector
    from ragkit_selectors.lexical import NgramSelector as NgramSelector
    from ragkit_selectors.lexical import TfidfSelector as TfidfSelector
    from ragkit_selectors.lm_ordering import entropy_order as entropy_order
    from ragkit_selectors.loading import load_selector as load_selector
    from ragkit_selectors.pool_check import check_pool as check_pool
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

__version__ = "0.2.0"

_HOME_OF = {
    "ActionLibrary": "ragkit_pipelines.pearl.plan.library",
    "AdapterSet": "ragkit.models.adapters",
    "Advice": "ragkit_pipelines.advise",
    "AnswerCache": "ragkit.models.response_cache",
    "BM25Retriever": "ragkit.retrievers.bm25",
    "BM25Selector": "ragkit_selectors.lexical",
    "Batch": "ragkit.workers.batches",
    "Budget": "ragkit.models.budget",
    "Cancellation": "ragkit_pipelines.pearl.run.concurrency",
    "Chat": "ragkit.records",
    "Citation": "ragkit_pipelines.rag.answers",
    "CitedAnswer": "ragkit_pipelines.rag.answers",
    "Comparison": "ragkit_pipelines.compare",
    "Completion": "ragkit.records",
    "ContainmentSelector": "ragkit_selectors.lexical",
    "Coverage": "ragkit_selectors.stages.diversity_stages",
    "DenseRetriever": "ragkit.retrievers.dense",
    "Document": "ragkit.records",
    "Dpp": "ragkit_selectors.stages.diversity_stages",
    "EmbedTexts": "ragkit.workers.embedding",
    "EmbeddingSelector": "ragkit_selectors.embedding",
    "Example": "ragkit.records",
    "ExpandingRetriever": "ragkit.retrievers.expand",
    "Extract": "ragkit_pipelines.extraction.pipeline",
    "Extraction": "ragkit_pipelines.extraction.records",
    "ExtractiveReader": "ragkit_pipelines.rag.extractive",
    "FacilityLocation": "ragkit_selectors.annotation",
    "FewShot": "ragkit_pipelines.few_shot",
    "FineTuned": "ragkit.finetuning",
    "FixedSelector": "ragkit_selectors.baselines",
    "GenerateTexts": "ragkit.workers.generating",
    "GistPages": "ragkit_pipelines.pearl.run.retrieval_contexts",
    "Guard": "ragkit_selectors.stages.filters",
    "HashingEmbedder": "ragkit.embedders.hashing",
    "Hit": "ragkit.records",
    "HybridRetriever": "ragkit.retrievers.hybrid",
    "HybridSelector": "ragkit_selectors.hybrid",
    "Imitation": "ragkit.finetuning.imitation",
    "Index": "ragkit.index",
    "JaccardSelector": "ragkit_selectors.lexical",
    "LabelBalanced": "ragkit_selectors.stages.diversity_stages",
    "LabelNearest": "ragkit_selectors.stages.diversity_stages",
    "LangChainRetriever": "ragkit.retrievers.langchain_store",
    "LayeredModel": "ragkit.models.middleware",
    "Memorisation": "ragkit.finetuning.memorization",
    "Message": "ragkit.records",
    "MinScore": "ragkit_selectors.stages.filters",
    "Mixture": "ragkit.finetuning.mixing",
    "Mmr": "ragkit_selectors.stages.diversity_stages",
    "MmrRetriever": "ragkit.retrievers.mmr",
    "MultiQueryRetriever": "ragkit.retrievers.multi_query",
    "Needs": "ragkit_pipelines.advise",
    "NgramSelector": "ragkit_selectors.lexical",
    "OptionMapper": "ragkit_pipelines.pearl.run.option_mapper",
    "Order": "ragkit_selectors.stages.prompt_order",
    "Parity": "ragkit_pipelines.parity",
    "Pearl": "ragkit_pipelines.pearl.pipeline",
    "Pinned": "ragkit_selectors.stages.prompt_order",
    "Plan": "ragkit_pipelines.pearl.plan.plan",
    "PlanExecutor": "ragkit_pipelines.pearl.run.executor",
    "Preference": "ragkit.records",
    "Price": "ragkit.models.pricing",
    "Prices": "ragkit.models.pricing",
    "Prompt": "ragkit.records",
    "PromptPlanner": "ragkit_pipelines.pearl.plan.planner",
    "RagkitError": "ragkit.errors",
    "RagkitWarning": "ragkit.errors",
    "RandomSelector": "ragkit_selectors.baselines",
    "RateLimit": "ragkit.models.rate_limit",
    "ReplayModel": "ragkit.models.replay",
    "Rerank": "ragkit_selectors.stages.rerank",
    "RerankingRetriever": "ragkit.retrievers.rerank",
    "RetrievalReport": "ragkit.evaluation.measures",
    "RetrieveThenAnswer": "ragkit_pipelines.rag.pipeline",
    "Retrieved": "ragkit_pipelines.pearl.run.retrieval_contexts",
    "Retry": "ragkit.models.rate_limit",
    "Router": "ragkit_pipelines.pearl.router",
    "ScoredPassages": "ragkit.retriever_training.rows",
    "ScriptedModel": "ragkit.models.scripted",
    "Selection": "ragkit.records",
    "Server": "ragkit_pipelines.serving",
    "ShardedIndex": "ragkit.index.sharded",
    "Task": "ragkit.tasks",
    "Template": "ragkit.templates",
    "TfidfSelector": "ragkit_selectors.lexical",
    "TokenLimit": "ragkit_selectors.stages.filters",
    "Trace": "ragkit_pipelines.pearl.run.trace",
    "TrainedRetriever": "ragkit.retriever_training",
    "TrainingPair": "ragkit.retriever_training.rows",
    "Usage": "ragkit.records",
    "VoteK": "ragkit_selectors.annotation",
    "WholeText": "ragkit_pipelines.pearl.run.context",
    "Windows": "ragkit_pipelines.pearl.run.context",
    "WorkerPool": "ragkit.workers.pool",
    "ZeroShot": "ragkit_pipelines.pearl.plan.planner",
    "advise": "ragkit_pipelines.advise",
    "autoselect": "ragkit_selectors.autoselection",
    "cancel_finetuning": "ragkit.finetuning.remote",
    "check_data": "ragkit_pipelines.data_quality.data_check",
    "check_pool": "ragkit_selectors.pool_check",
    "chroma_filter": "ragkit.retrievers.chroma_filters",
    "clean_data": "ragkit_pipelines.data_quality.data_check",
    "compare": "ragkit_pipelines.compare",
    "compare_retrieval": "ragkit.evaluation.comparison",
    "distill_embedder": "ragkit.retriever_training",
    "entropy_order": "ragkit_selectors.lm_ordering",
    "evaluate_retrieval": "ragkit.evaluation.measures",
    "export_merged": "ragkit.finetuning.exporting",
    "finetune": "ragkit.finetuning",
    "finetune_embedder": "ragkit.retriever_training",
    "finetune_reranker": "ragkit.retriever_training",
    "generate_many": "ragkit.workers.generating",
    "imitate": "ragkit.finetuning.imitation",
    "load_chunker": "ragkit.ingest.chunking",
    "load_documents": "ragkit.ingest.loading",
    "load_embedder": "ragkit.embedders",
    "load_model": "ragkit.models",
    "load_selector": "ragkit_selectors.loading",
    "memorisation": "ragkit.finetuning.memorization",
    "mine": "ragkit_pipelines.pearl.mine.mining",
    "mine_hard_negatives": "ragkit.retriever_training.mining",
    "mix": "ragkit.finetuning.mixing",
    "near_duplicates": "ragkit.ingest.duplicates",
    "parity": "ragkit_pipelines.parity",
    "read_option": "ragkit.options",
    "rebuild_index": "ragkit.index.rebuilding",
    "refine": "ragkit_pipelines.pearl.mine.refine",
    "score_passages": "ragkit.retriever_training.reader",
}
__all__ = [*_HOME_OF, "__version__"]  # noqa: PLE0604, RUF100 - names are the table above


def __getattr__(name: str) -> object:
    if name == "langchain":  # a module of adapters
        return import_module("ragkit.langchain")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ragkit' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
