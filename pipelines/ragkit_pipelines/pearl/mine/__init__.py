"""Mining actions from questions, and refining them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit_pipelines.pearl.mine.mining import Mined as Mined
    from ragkit_pipelines.pearl.mine.mining import mine as mine
    from ragkit_pipelines.pearl.mine.refinement import Refined as Refined
    from ragkit_pipelines.pearl.mine.refinement import refine as refine

_HOME_OF = {
    "Mined": "mining",
    "Refined": "refinement",
    "mine": "mining",
    "refine": "refinement",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
