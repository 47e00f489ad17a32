"""A server that speaks OpenAI's protocol: ``from ragkit.serving import Server``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import names_of

if TYPE_CHECKING:
    from ragkit_pipelines.parity import Difference as Difference
    from ragkit_pipelines.parity import Parity as Parity
    from ragkit_pipelines.parity import parity as parity
    from ragkit_pipelines.serving import Limits as Limits
    from ragkit_pipelines.serving import Server as Server

__getattr__, __dir__ = names_of("ragkit_pipelines.serving", "ragkit_pipelines.parity")
