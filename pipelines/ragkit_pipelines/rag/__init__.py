"""Answer questions from documents, with citations of the supporting passages."""

from ragkit_pipelines.rag.answers import Citation as Citation
from ragkit_pipelines.rag.answers import CitedAnswer as CitedAnswer
from ragkit_pipelines.rag.extractive import ExtractiveReader as ExtractiveReader
from ragkit_pipelines.rag.pipeline import RetrieveThenAnswer as RetrieveThenAnswer

__all__ = [
    "Citation",
    "CitedAnswer",
    "ExtractiveReader",
    "RetrieveThenAnswer",
]
