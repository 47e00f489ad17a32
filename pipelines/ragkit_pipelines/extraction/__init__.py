"""Extract records from long texts: a structured, lossy compression of context."""

from ragkit_pipelines.extraction.pipeline import Extract as Extract
from ragkit_pipelines.extraction.quotations import Quote as Quote
from ragkit_pipelines.extraction.records import Extracted as Extracted
from ragkit_pipelines.extraction.records import Extraction as Extraction
from ragkit_pipelines.extraction.records import ExtractionReport as ExtractionReport
from ragkit_pipelines.extraction.records import Failure as Failure
from ragkit_pipelines.extraction.records import Rejected as Rejected

__all__ = [
    "Extract",
    "Extracted",
    "Extraction",
    "ExtractionReport",
    "Failure",
    "Quote",
    "Rejected",
]
