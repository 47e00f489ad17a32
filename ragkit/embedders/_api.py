"""Embedders that call an API, through the LangChain package of its provider."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._extras import require
from ragkit._progress import progress
from ragkit._text import refuse_bare_string, require_valid_unicode
from ragkit.embedders._langchain_embeddings import LangChainEmbedder
from ragkit.errors import InvalidInputError, ModelError
from ragkit.models._concurrency import in_parallel
from ragkit.models._provider_errors import as_model_error, told
from ragkit.models._provider_secrets import (
    NO_KEY,
    check_address,
    check_secrets,
    key_in_environment,
    secrets_in_address,
    secrets_in_environment,
    secrets_of,
    shown_cause,
    without_secrets,
)
from ragkit.models._rate_limit import Retry

_CONCURRENT = 4  # requests
_BATCH = 128  # texts per request
_BATCH_BYTES = 200_000  # of a request, which is below the limit of OpenAI of 300,000 tokens
_OPENAI_LIKE = ("openai", "azure_openai")
# The names of the arguments of providers whose packages have other names for them.
_ADDRESS, _KEY = {"mistralai": "endpoint"}, {"cohere": "cohere_api_key"}
_SAME_FOR_QUERIES = (*_OPENAI_LIKE, "mistralai", "ollama")  # queries and documents are embedded alike, so in batches

_Vectors = list[list[float]]


class ApiEmbedder(LangChainEmbedder):
    """An embedder that calls the API of a provider, in batches, with retries after transient errors.

    Texts that are empty or consist of white space are not sent; their vectors are zeros.

    Attributes:
        embeddings: The LangChain object.
        address: Address of a server other than the provider's, without secrets; None for the provider's server.
        retry: How transient errors are retried.
    """

    def __init__(
        self,
        embeddings: Any,
        spec: str,
        *,
        base_url: str = "",
        api_key_env: str | None = None,
        dimensions: int | None = None,
    ) -> None:
        """Wrap the LangChain object of a spec, with the arguments of `from_spec` that it was created with."""
        super().__init__(embeddings)
        check_secrets(embeddings, spec)
        self._spec, self._key_variable, self._dimensions, self._server = spec, api_key_env, dimensions, base_url
        self.address = without_secrets(base_url) or None
        self.retry = Retry()

    @classmethod
    def from_spec(
        cls,
        spec: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        dimensions: int | None = None,
        timeout: float = 120.0,
    ) -> ApiEmbedder:
        """Load ``"<provider>:<model>"`` through LangChain's ``init_embeddings``.

        Args:
            spec: Provider and model; API keys are read from the provider's environment variables.
            base_url: Address of another server with the same API. For ``openai:``, a key is then optional.
            api_key_env: Name of another environment variable that holds the API key.
            dimensions: Number of dimensions, for models that can shorten their vectors.
            timeout: Timeout of a request in seconds, if the provider's package supports it.

        Returns:
            The embedder.

        Raises:
            ModelError: If the provider's package or key is missing.
            InvalidInputError: If an argument is invalid.
        """
        require("langchain", *(["langchain_openai"] if spec.startswith("openai:") else []))
        from langchain.embeddings import init_embeddings

        provider, _, model = spec.partition(":")
        extra: dict[str, Any] = {"max_retries": 0, "timeout": timeout} if provider in _OPENAI_LIKE else {}
        if dimensions is not None:
            if type(dimensions) is not int or dimensions < 1:
                raise InvalidInputError(f"`dimensions` must be a whole number of at least 1, got {dimensions!r}")
            extra["dimensions"] = dimensions
        if base_url is not None:
            check_address(base_url)
            extra[_ADDRESS.get(provider, "base_url")] = base_url
            if provider == "openai" and not os.environ.get("OPENAI_API_KEY"):
                extra["api_key"] = NO_KEY
        if api_key_env is not None:
            extra[_KEY.get(provider, "api_key")] = key_in_environment(api_key_env)
        try:
            embeddings = init_embeddings(model, provider=provider, **extra)
        except Exception as error:  # noqa: BLE001 - every provider has its own errors
            secrets = [*secrets_in_environment(), *secrets_in_address(base_url or "")]
            secrets += [key_in_environment(api_key_env)] if api_key_env is not None else []
            advice = "install the provider's LangChain package, set its key in the environment, and check the arguments"
            failure = ModelError(told(f"{spec} cannot be loaded", error, advice, secrets), maybe_paid=False)
            failure.__cause__ = shown_cause(error, secrets)
        else:
            address = base_url or _address_in_environment(embeddings)
            if address and hasattr(embeddings, "check_embedding_ctx_length"):
                # Otherwise texts are sent as numbers of OpenAI's tokens, which other servers do not know.
                embeddings.check_embedding_ctx_length = False
            return cls(embeddings, spec, base_url=address, api_key_env=api_key_env, dimensions=dimensions)
        raise failure

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments without secrets; another process reads the key from its own environment."""
        given: dict[str, Any] = {
            "base_url": self.address,
            "api_key_env": self._key_variable,
            "dimensions": self._dimensions,
        }
        return partial(type(self).from_spec, self._spec, **given), ()

    @property
    @override
    def name(self) -> str:
        """The spec."""
        return self._spec

    @property
    @override
    def fingerprint(self) -> str:
        """The spec, the host of a server other than the provider's, and the number of dimensions."""
        host = "" if self.address is None else f"@{urlsplit(self.address).hostname or self.address}"
        return f"api:{self._spec}{host}:{self.dim}"

    @cached_property
    @override
    def dim(self) -> int:
        """Number of dimensions, determined by embedding a word if it was not given."""
        return self._dimensions or len(self._request(self.embeddings.embed_documents, ["dimensions"])[0])

    @override
    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n documents as unit vectors or zeros, f32[n, dim]."""
        return self._embed(texts, self.embeddings.embed_documents, _batches)

    @override
    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n queries as unit vectors or zeros, f32[n, dim]; one by one if the provider embeds them differently."""
        if self._spec.partition(":")[0] in _SAME_FOR_QUERIES:
            return self.embed_documents(texts)
        query = self.embeddings.embed_query
        return self._embed(texts, lambda one: [query(one[0])], lambda whole: ([text] for text in whole))

    @override
    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Run `embed_queries` in a thread, as unit vectors or zeros, f32[n, dim]."""
        import asyncio

        return await asyncio.to_thread(self.embed_queries, texts)

    def _embed(
        self,
        texts: Sequence[str],
        call: Callable[[list[str]], _Vectors],
        divide: Callable[[list[str]], Iterator[list[str]]],
    ) -> NDArray[np.float32]:
        refuse_bare_string("texts", texts)
        sent = [text for text in texts if require_valid_unicode(text).strip()]
        batches = list(divide(sent))
        with progress(f"embedding with {self.name}", len(sent)) as advance:

            def embed(batch: list[str]) -> _Vectors:
                vectors = self._request(call, batch)
                advance(len(batch))
                return vectors

            found = iter([vector for part in in_parallel(embed, batches, _CONCURRENT) for vector in part])
        blank = [0.0] * self.dim if len(sent) < len(texts) else []
        rows = self._rows([next(found) if text.strip() else blank for text in texts], len(texts))
        if rows.shape[1] != self.dim:
            raise ModelError(f"{self.name} returned vectors with {rows.shape[1]} numbers instead of {self.dim}")
        return rows

    def _request(self, call: Callable[[list[str]], _Vectors], batch: list[str]) -> _Vectors:
        vectors = self.retry.run(partial(self._attempt, call, batch))
        if len(vectors) != len(batch) or not all(vectors):
            raise ModelError(
                f"{self.name} returned {len(vectors)} vectors for {len(batch)} texts; check that the server and the "
                "model are for embeddings"
            )
        return vectors

    def _attempt(self, call: Callable[[list[str]], _Vectors], batch: list[str]) -> _Vectors:
        try:
            return call(batch)
        except Exception as error:  # noqa: BLE001 - every provider has its own errors
            secrets = [*secrets_of(self.embeddings), *secrets_in_environment(), *secrets_in_address(self._server)]
            failure = as_model_error(error, self.name, secrets)
        raise failure


def _batches(texts: list[str]) -> Iterator[list[str]]:
    """Yield the texts in batches of limited number and size."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode())
        if batch and (len(batch) == _BATCH or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


def _address_in_environment(embeddings: Any) -> str:
    """Return the address in the environment; LangChain reads one variable, and the package of OpenAI another."""
    if not hasattr(embeddings, "openai_api_base"):
        return ""
    return str(embeddings.openai_api_base or os.environ.get("OPENAI_BASE_URL", ""))
