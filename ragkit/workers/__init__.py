"""Batches of work on many processes or machines. No batch is lost, and abandoned batches are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit.lazy import lazy_names

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
    "Batch": "batches",
    "Done": "batches",
    "EmbedTexts": "embedding",
    "GenerateTexts": "generating",
    "Missing": "batches",
    "Work": "batches",
    "WorkerPool": "pool",
    "generate_many": "generating",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - the names are in the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
