"""From files to documents: reading, chunking with exact positions, and syncing an index with a folder."""

from ragkit.ingest.chunking import Chunker as Chunker
from ragkit.ingest.chunking import MarkdownChunker as MarkdownChunker
from ragkit.ingest.chunking import RecursiveChunker as RecursiveChunker
from ragkit.ingest.chunking import TokenChunker as TokenChunker
from ragkit.ingest.chunking import load_chunker as load_chunker
from ragkit.ingest.conversion import ConversionLimits as ConversionLimits
from ragkit.ingest.duplicates import near_duplicates as near_duplicates
from ragkit.ingest.loading import Loaded as Loaded
from ragkit.ingest.loading import load_documents as load_documents
from ragkit.ingest.sources import Unread as Unread

__all__ = [
    "Chunker",
    "ConversionLimits",
    "Loaded",
    "MarkdownChunker",
    "RecursiveChunker",
    "TokenChunker",
    "Unread",
    "load_chunker",
    "load_documents",
    "near_duplicates",
]
