"""Retrieval evaluation: `evaluate_retrieval`, paired tests between two retrievers, and TREC files."""

from ragkit.evaluation._comparison import Difference as Difference
from ragkit.evaluation._comparison import compare_retrieval as compare_retrieval
from ragkit.evaluation._measures import Latency as Latency
from ragkit.evaluation._measures import MeasureReport as MeasureReport
from ragkit.evaluation._measures import RetrievalReport as RetrievalReport
from ragkit.evaluation._measures import evaluate_retrieval as evaluate_retrieval
from ragkit.evaluation._measures import evaluate_run as evaluate_run
from ragkit.evaluation._trec import read_qrels as read_qrels
from ragkit.evaluation._trec import read_queries as read_queries
from ragkit.evaluation._trec import read_run as read_run
from ragkit.evaluation._trec import write_run as write_run

__all__ = [
    "Difference",
    "Latency",
    "MeasureReport",
    "RetrievalReport",
    "compare_retrieval",
    "evaluate_retrieval",
    "evaluate_run",
    "read_qrels",
    "read_queries",
    "read_run",
    "write_run",
]
