"""Batches of work on many processes or machines. No batch is lost, and abandoned batches are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit.workers._batches import Batch as Batch
    from ragkit.workers._batches import Done as Done
    from ragkit.workers._batches import Missing as Missing
    from ragkit.workers._batches import Work as Work
    from ragkit.workers._embedding import EmbedTexts as EmbedTexts
    from ragkit.workers._generating import GenerateTexts as GenerateTexts
    from ragkit.workers._generating import generate_many as generate_many
    from ragkit.workers._pool import WorkerPool as WorkerPool

_HOME_OF = {
    "Batch": "_batches",
    "Done": "_batches",
    "EmbedTexts": "_embedding",
    "GenerateTexts": "_generating",
    "Missing": "_batches",
    "Work": "_batches",
    "WorkerPool": "_pool",
    "generate_many": "_generating",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - the names are in the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
