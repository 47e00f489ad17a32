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
    from ragkit.finetuning import FineTuned as FineTuned
    from ragkit.finetuning import finetune as finetune
    from ragkit.models import load_model as load_model
    from ragkit.models.replay import ReplayModel as ReplayModel
    from ragkit.models.scripted import ScriptedModel as ScriptedModel
    from ragkit.records import Chat as Chat
    from ragkit.records import Completion as Completion
    from ragkit.records import Document as Document
    from ragkit.records import Example as Example
    from ragkit.records import Hit as Hit
    from ragkit.records import Message as Message
    from ragkit.records import Prompt as Prompt
    from ragkit.records import Selection as Selection
    from ragkit.records import Usage as Usage
    from ragkit.tasks import Task as Task
    from ragkit.templates import Template as Template
    from ragkit_pipelines.compare import Comparison as Comparison
    from ragkit_pipelines.compare import compare as compare
    from ragkit_pipelines.few_shot import FewShot as FewShot
    from ragkit_selectors.bm25 import BM25Selector as BM25Selector
    from ragkit_selectors.embedding import EmbeddingSelector as EmbeddingSelector
    from ragkit_selectors.jaccard import JaccardSelector as JaccardSelector
    from ragkit_selectors.loading import load_selector as load_selector
    from ragkit_selectors.uniform import RandomSelector as RandomSelector

__version__ = "0.1.0"

_HOME_OF = {
    "BM25Selector": "ragkit_selectors.bm25",
    "Chat": "ragkit.records",
    "Comparison": "ragkit_pipelines.compare",
    "Completion": "ragkit.records",
    "Document": "ragkit.records",
    "EmbeddingSelector": "ragkit_selectors.embedding",
    "Example": "ragkit.records",
    "FewShot": "ragkit_pipelines.few_shot",
    "FineTuned": "ragkit.finetuning",
    "HashingEmbedder": "ragkit.embedders.hashing",
    "Hit": "ragkit.records",
    "JaccardSelector": "ragkit_selectors.jaccard",
    "Message": "ragkit.records",
    "Prompt": "ragkit.records",
    "RagkitError": "ragkit.errors",
    "RagkitWarning": "ragkit.errors",
    "RandomSelector": "ragkit_selectors.uniform",
    "ReplayModel": "ragkit.models.replay",
    "ScriptedModel": "ragkit.models.scripted",
    "Selection": "ragkit.records",
    "Task": "ragkit.tasks",
    "Template": "ragkit.templates",
    "Usage": "ragkit.records",
    "compare": "ragkit_pipelines.compare",
    "finetune": "ragkit.finetuning",
    "load_embedder": "ragkit.embedders",
    "load_model": "ragkit.models",
    "load_selector": "ragkit_selectors.loading",
}
__all__ = [*_HOME_OF, "__version__"]  # noqa: PLE0604, RUF100 - names are the table above


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ragkit' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
