"""Names and modules that have moved since version 0.1; the error for an old import states the new one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

# Names that `ragkit` used to export, by the package that exports them now.
_NAMES = {
    "ragkit.comparison": ("Advice", "Needs", "check_data", "clean_data"),
    "ragkit.embedders": ("HashingEmbedder",),
    "ragkit.errors": ("RagkitWarning",),
    "ragkit.evaluation": ("RetrievalReport", "compare_retrieval"),
    "ragkit.finetuning": (
        "FineTuned", "Imitation", "Memorisation", "Mixture", "cancel_finetuning", "export_merged", "imitate",
        "memorisation", "mix",
    ),
    "ragkit.index": ("ShardedIndex", "rebuild_index"),
    "ragkit.ingest": ("near_duplicates",),
    "ragkit.models": ("AdapterSet", "AnswerCache", "LayeredModel", "Price", "Prices", "RateLimit", "ReplayModel"),
    "ragkit.pearl": (
        "Cancellation", "GistPages", "OptionMapper", "PlanExecutor", "PromptPlanner", "Retrieved", "Router",
        "Trace", "WholeText", "Windows", "ZeroShot", "mine", "refine",
    ),
    "ragkit.pipelines": ("Citation", "CitedAnswer", "Extraction", "ExtractiveReader"),
    "ragkit.records": ("Chat", "Message", "Preference"),
    "ragkit.retriever_training": (
        "ScoredPassages", "TrainedRetriever", "TrainingPair", "distill_embedder", "finetune_embedder",
        "finetune_reranker", "mine_hard_negatives", "score_passages",
    ),
    "ragkit.retrievers": (
        "ExpandingRetriever", "LangChainRetriever", "MmrRetriever", "MultiQueryRetriever", "chroma_filter",
    ),
    "ragkit.selectors": (
        "ContainmentSelector", "FacilityLocation", "LabelBalanced", "Pinned", "Rerank", "check_pool",
        "entropy_order",
    ),
    "ragkit.serving": ("Parity", "Server", "parity"),
    "ragkit.workers": ("Batch", "EmbedTexts", "GenerateTexts", "WorkerPool", "generate_many"),
}  # fmt: skip
PACKAGE_OF = {name: package for package, names in _NAMES.items() for name in names}

# Modules that the documentation imported, and the package that exports their names now.
MODULES = {
    "ragkit.options": "ragkit.answers",
    "ragkit_pipelines.compare.bootstrap": "ragkit.comparison",
    "ragkit_pipelines.compare.calibration": "ragkit.comparison",
    "ragkit_pipelines.compare.costs": "ragkit.comparison",
    "ragkit_pipelines.compare.curves": "ragkit.comparison",
    "ragkit_pipelines.compare.prices": "ragkit.comparison",
    "ragkit_pipelines.compare.published": "ragkit.comparison",
    "ragkit_pipelines.compare.report": "ragkit.comparison",
    "ragkit_pipelines.compare.setting": "ragkit.comparison",
    "ragkit_selectors.selecting": "ragkit.selectors",
}


def refuse(name: str) -> NoReturn:
    """Raise the error for a name that `ragkit` no longer exports.

    Raises:
        ImportError: Always; `from ragkit import …` would replace the message of an AttributeError.
    """
    new = PACKAGE_OF[name]
    raise ImportError(f"`ragkit.{name}` has moved: write `from {new} import {name}`", name=name)


class _OldModules:
    """A finder that Python calls for modules that no other finder knows."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:  # noqa: ARG002
        from pathlib import Path  # not needed by `import ragkit` itself

        package, _, module = fullname.rpartition(".")
        internal = any((Path(folder) / f"_{module}.py").is_file() for folder in path or ())
        if new := MODULES.get(fullname) or (package if internal and fullname.startswith("ragkit.") else None):
            raise ModuleNotFoundError(
                f"the module `{fullname}` has moved: import its names from `{new}`", name=fullname
            )


sys.meta_path.append(_OldModules())
