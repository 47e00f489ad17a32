"""Few-shot prompts, retrieval-augmented answers and extraction: ``from ragkit.pipelines import ExtractiveReader``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import names_of

if TYPE_CHECKING:
    from ragkit_pipelines.extraction import Extract as Extract
    from ragkit_pipelines.extraction import Extracted as Extracted
    from ragkit_pipelines.extraction import Extraction as Extraction
    from ragkit_pipelines.extraction import ExtractionReport as ExtractionReport
    from ragkit_pipelines.extraction import Failure as Failure
    from ragkit_pipelines.extraction import Quote as Quote
    from ragkit_pipelines.extraction import Rejected as Rejected
    from ragkit_pipelines.few_shot import Answer as Answer
    from ragkit_pipelines.few_shot import FewShot as FewShot
    from ragkit_pipelines.rag import Citation as Citation
    from ragkit_pipelines.rag import CitedAnswer as CitedAnswer
    from ragkit_pipelines.rag import ExtractiveReader as ExtractiveReader
    from ragkit_pipelines.rag import RetrieveThenAnswer as RetrieveThenAnswer

__getattr__, __dir__ = names_of("ragkit_pipelines.few_shot", "ragkit_pipelines.rag", "ragkit_pipelines.extraction")
