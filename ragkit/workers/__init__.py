"""Batches of work on many processes or machines: nothing lost, nothing silently left out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.workers.batches import Batch as Batch
    from ragkit.workers.batches import Done as Done
    from ragkit.workers.batches import Missing as Missing
    from ragkit.workers.batches import Work as Work
    from ragkit.workers.embedding import EmbedTexts as EmbedTexts
    from ragkit.workers.generating import GenerateTexts as GenerateTexts
    from ragkit.workers.generating import generate_many as generate_many
    from ragkit.workers.pool import WorkerPool as WorkerPool

_HOME_OF = {
    "Batch": "ragkit.workers.batches",
    "Done": "ragkit.workers.batches",
    "EmbedTexts": "ragkit.workers.embedding",
    "GenerateTexts": "ragkit.workers.generating",
    "Missing": "ragkit.workers.batches",
    "Work": "ragkit.workers.batches",
    "WorkerPool": "ragkit.workers.pool",
    "generate_many": "ragkit.workers.generating",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
