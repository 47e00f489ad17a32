"""From files to documents: reading, chunking with exact positions, and syncing an index with a folder."""

from ragkit.ingest._chunking import Chunker as Chunker
from ragkit.ingest._chunking import MarkdownChunker as MarkdownChunker
from ragkit.ingest._chunking import RecursiveChunker as RecursiveChunker
from ragkit.ingest._chunking import TokenChunker as TokenChunker
from ragkit.ingest._chunking import load_chunker as load_chunker
from ragkit.ingest._conversion import ConversionLimits as ConversionLimits
from ragkit.ingest._duplicates import near_duplicates as near_duplicates
from ragkit.ingest._loading import Loaded as Loaded
from ragkit.ingest._loading import load_documents as load_documents
from ragkit.ingest._sources import Unread as Unread

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
