"""Protocols of pluggable components; an object that implements one can be passed in without inheriting from it.

Notation for shapes: n texts, d dimensions, c choices. `ragkit.testing` contains the same contracts as test suites.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, overload, runtime_checkable

from ragkit.records import Chat, Completion, Example, Fields, Hit, Prompt, Selection

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from pydantic import BaseModel

AnyPrompt = str | Prompt | Chat
Schema: TypeAlias = "type[BaseModel] | Mapping[str, object]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The features that a model supports; requests for other features raise `UnsupportedError`.

    Attributes:
        window: Maximum number of tokens of prompt and answer together; None if unknown.
        score: Whether `LanguageModel.score` is supported.
        seed: Whether sampling respects `seed`.
        schema: Whether answers can be constrained to a JSON schema.
        choices: Whether answers can be constrained to a list of choices.
        grammar: Whether answers can be constrained to a grammar in Lark's notation.
        batches: Whether a batch of prompts is faster than the same prompts one by one.
        chat: Whether the model accepts conversations: it has a chat template, or it is a chat model behind an API.
        temperature: Whether the model accepts a temperature; if not, it samples its answers, which may vary between
            runs.
        logprobs: Whether a chat API returns log-probabilities of its answers: `generate` accepts ``logprobs``, and
            `LanguageModel.score` is supported for choices that differ in their first token.
        tools: Whether the model accepts a `Chat` with tools: its chat template or its API supports them.
    """

    window: int | None = None
    score: bool = False
    seed: bool = True
    schema: bool = False
    choices: bool = False
    grammar: bool = False
    batches: bool = True
    chat: bool = False
    temperature: bool = True
    logprobs: bool = False
    tools: bool = False


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors whose inner product is their similarity."""

    @property
    def name(self) -> str:
        """The spec that loads the same component."""
        ...

    @property
    def fingerprint(self) -> str:
        """A fingerprint that is equal for two embedders only if they return the same vectors."""
        ...

    @property
    def dim(self) -> int:
        """Number of dimensions of the vectors."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored: f32[n, d], every row of length 1 or 0."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries: f32[n, d], every row of length 1 or 0."""
        ...


@runtime_checkable
class TokenEmbedder(Protocol):
    """An optional protocol of embedders: returns a vector for each token of a text."""

    @property
    def name(self) -> str:
        """The spec that loads the same component."""
        ...

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each token of each text: one f32[t, d] per text, every row of length 1."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds documents. A single query returns a list of hits; a sequence returns a list of lists in the same order."""

    @overload  # a string matches both overloads, because it is also a sequence of strings; the first overload wins
    def retrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[Hit]: ...
    @overload
    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[list[Hit]]: ...

    @overload  # a string matches both overloads, because it is also a sequence of strings; the first overload wins
    async def aretrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[Hit]: ...
    @overload
    async def aretrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[list[Hit]]: ...


@runtime_checkable
class Selector(Protocol):
    """Selects the in-context examples of a prompt."""

    def __len__(self) -> int:
        """Number of examples in the pool."""
        ...

    def select(
        self,
        query: str | Fields,
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> Selection:
        """Select at most ``k`` examples, the best first; equal scores are in the order of the pool."""
        ...

    def select_many(
        self,
        queries: Sequence[str | Fields],
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> list[Selection]:
        """Select examples for each query."""
        ...

    async def aselect(
        self,
        query: str | Fields,
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> Selection:
        """Select examples without blocking the event loop."""
        ...

    def add(self, examples: Sequence[Example]) -> list[str]:
        """Add examples at the end of the pool and return their ids; after an error, none are added."""
        ...

    def remove(self, ids: Collection[str]) -> int:
        """Remove examples and return their number; ids that are not in the pool are ignored."""
        ...

    def save(self, path: str | Path) -> None:
        """Save the selector to a folder, from which ``load(path)`` of the class restores it."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """Generates text. A single prompt returns a completion; a sequence returns a list in the same order."""

    @property
    def name(self) -> str:
        """The spec that loads the same component."""
        ...

    @property
    def fingerprint(self) -> str:
        """A fingerprint that is equal for two models only if they return the same answers."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """The features that the model supports."""
        ...

    @overload  # a string matches both overloads, because it is also a sequence of strings; the first overload wins
    def generate(  # type: ignore[overload-overlap]
        self,
        prompts: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompts: Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> list[Completion]: ...

    @overload  # a string matches both overloads, because it is also a sequence of strings; the first overload wins
    async def agenerate(  # type: ignore[overload-overlap]
        self,
        prompts: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> Completion: ...
    @overload
    async def agenerate(
        self,
        prompts: Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> list[Completion]: ...

    def stream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
    ) -> Iterator[str]:
        """Yield the answer in pieces, which concatenate to the text of `generate`."""
        ...

    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        """Return the log-likelihood of each choice after each prompt, f64[n, c], in nats.

        With ``end_of_turn``, each choice is scored together with the token that ends an answer.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of ``text``."""
        ...
