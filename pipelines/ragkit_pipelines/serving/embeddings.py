"""Embeddings in OpenAI's format."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from ragkit.protocols import Embedder
from ragkit_pipelines.serving.strict import BadRequestError, Strict

_BYTES_PER_TOKEN = 4  # an estimate, because embedders do not count tokens


class EmbeddingBody(Strict):
    """A request to ``/v1/embeddings``. `user` is accepted, and does not affect the response."""

    model: str
    input: list[str] = Field(min_length=1, max_length=2048, fail_fast=True)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("input")
    @classmethod
    def _not_blank(cls, value: list[str]) -> list[str]:
        if not all(text.strip() for text in value):
            raise ValueError("a text is empty, and has no embedding")
        return value


def embedded(body: EmbeddingBody, embedder: Embedder) -> dict[str, Any]:
    """Return the embeddings of the texts of a request as JSON.

    Raises:
        BadRequestError: If the request asks for another number of dimensions than that of the embedder.
    """
    if body.dimensions not in {None, embedder.dim}:
        message = f"`dimensions`: only {embedder.dim} is supported; omit the field"
        raise BadRequestError(message, field="dimensions")
    vectors = embedder.embed_documents(body.input)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(-(-len(text.encode(errors="replace")) // _BYTES_PER_TOKEN) for text in body.input)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.model, "usage": usage}


def _encoded(vector: np.ndarray[Any, np.dtype[np.float32]], form: str) -> str | list[float]:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(number) for number in vector]
