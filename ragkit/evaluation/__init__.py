"""Measuring retrieval: `evaluate_retrieval`, tests between two retrievers, and files in the forms of TREC."""

from ragkit.evaluation.comparing import Difference as Difference
from ragkit.evaluation.comparing import compare_retrieval as compare_retrieval
from ragkit.evaluation.measuring import Latency as Latency
from ragkit.evaluation.measuring import RetrievalReport as RetrievalReport
from ragkit.evaluation.measuring import evaluate_retrieval as evaluate_retrieval
from ragkit.evaluation.measuring import evaluate_run as evaluate_run
from ragkit.evaluation.trec import read_qrels as read_qrels
from ragkit.evaluation.trec import read_queries as read_queries
from ragkit.evaluation.trec import read_run as read_run
from ragkit.evaluation.trec import write_run as write_run
