"""What a pluggable part must do; whatever fits can be passed in, without inheriting.

Notation for shapes: n texts, d dimensions, c choices. `ragkit.testing` holds the same contracts as test suites.
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
    """What a model can do; asking for anything else raises `UnsupportedError`.

    Attributes:
        window: Tokens of prompt and answer together; None where the model does not say.
        score: Whether `LanguageModel.score` works.
        seed: Whether `seed` is honoured when sampling.
        schema: Whether answers can be held to a JSON schema.
        choices: Whether answers can be held to a list of choices.
        batches: Whether prompts are answered faster together than one by one.
        chat: Whether it takes conversations: it has a chat template, or it is a chat model behind an API.
    """

    window: int | None = None
    score: bool = False
    seed: bool = True
    schema: bool = False
    choices: bool = False
    batches: bool = True
    chat: bool = False


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors whose inner product is their likeness."""

    @property
    def name(self) -> str:
        """The spec that loads it again."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for two embedders only where they give the same vectors."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed what is stored: f32[n, d], every row of length 1 or 0."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed what is asked: f32[n, d], every row of length 1 or 0."""
        ...


@runtime_checkable
class TokenEmbedder(Protocol):
    """What an embedder may do besides: give a vector for each token of a text."""

    @property
    def name(self) -> str:
        """The spec that loads it again."""
        ...

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each token of each text: one f32[t, d] a text, every row of length 1."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds documents. One query gives one list of hits, a sequence gives a list of lists in its order."""

    @overload  # a string is a query, and a sequence of strings too; the first overload wins
    def retrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[Hit]: ...
    @overload
    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[list[Hit]]: ...

    @overload  # a string is a query, and a sequence of strings too; the first overload wins
    async def aretrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[Hit]: ...
    @overload
    async def aretrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[list[Hit]]: ...


@runtime_checkable
class Selector(Protocol):
    """Chooses the examples that go into a prompt."""

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
        """Choose at most ``k`` examples, the best first; equal scores in the order of the pool."""
        ...

    def select_many(
        self,
        queries: Sequence[str | Fields],
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> list[Selection]:
        """The same for each query."""
        ...

    async def aselect(
        self,
        query: str | Fields,
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> Selection:
        """`select` without blocking the event loop."""
        ...

    def add(self, examples: Sequence[Example]) -> list[str]:
        """Add examples at the end of the pool and give their ids; all of them or, after an error, none."""
        ...

    def remove(self, ids: Collection[str]) -> int:
        """Remove examples and give their number; ids that are not in the pool are passed over."""
        ...

    def save(self, path: str | Path) -> None:
        """Write everything into a folder; the class's ``load(path)`` gives the same selector."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """Continues text. One prompt gives one completion, a sequence gives a list in its order."""

    @property
    def name(self) -> str:
        """The spec that loads it again."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for two models only where they give the same answers."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    @overload  # a string is a prompt, and a sequence of strings too; the first overload wins
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
    ) -> list[Completion]: ...

    @overload  # a string is a prompt, and a sequence of strings too; the first overload wins
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
    ) -> list[Completion]: ...

    def stream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> Iterator[str]:
        """Yield the answer piece by piece; the pieces joined are the text of `generate`."""
        ...

    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        """Log-likelihood of each choice after each prompt, f64[n, c], in nats.

        With ``end_of_turn``, the token that ends an answer is scored after each choice too.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text``."""
        ...
