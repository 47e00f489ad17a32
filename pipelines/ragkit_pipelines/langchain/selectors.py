"""LangChain example selectors that replace LangChain's own, with similar constructors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self, cast

from langchain_core.embeddings import Embeddings
from typing_extensions import override

from ragkit._text import refuse_bare_string
from ragkit.errors import InvalidInputError
from ragkit.protocols import Embedder
from ragkit.records import Example
from ragkit_pipelines.langchain.embeddings import embedder_of
from ragkit_selectors.base import BaseSelector
from ragkit_selectors.embedding import EmbeddingSelector
from ragkit_selectors.hybrid import HybridSelector
from ragkit_selectors.langchain import LangChainSelector, variable_of
from ragkit_selectors.pool import AnyExample
from ragkit_selectors.stages.diversity_stages import Mmr

AnyEmbedding = str | Embedder | Embeddings


@dataclass(frozen=True, slots=True)
class ExampleFields:
    """The fields of examples: those that are searched, the answer, and those that are returned.

    Attributes:
        inputs: The fields that are searched. The texts of several are joined in the order of their names, as in
            LangChain.
        output: The field of the answer, which an example need not have.
        returned: The fields that are returned; None for all.
    """

    inputs: tuple[str, ...]
    output: str
    returned: tuple[str, ...] | None

    def read(self, examples: Iterable[Mapping[str, Any]], name: str = "examples") -> list[Example]:
        """Return examples for a pool, with copies of the original mappings as their metadata.

        Raises:
            InvalidInputError: If an example is not a mapping, or a field is missing; the message names its index.
        """
        if isinstance(examples, str | Mapping) or not isinstance(examples, Iterable):
            raise InvalidInputError(f"`{name}` must be a sequence of mappings, got {type(examples).__name__}")
        return [self._read(example, f"{name}[{place}]") for place, example in enumerate(examples)]

    def query(self, input_variables: Mapping[str, Any]) -> str:
        """Return the text that is searched for the variables of a prompt."""
        if len(self.inputs) == 1:
            return variable_of(input_variables, self.inputs[0])
        return self._text(input_variables, "the input variables")

    def _read(self, example: object, where: str) -> Example:
        if not isinstance(example, Mapping):
            raise InvalidInputError(f"{where} must be a mapping of fields, got {type(example).__name__}")
        own, answer = example.get("id"), example.get(self.output)
        for field in self.returned or ():
            if field not in example:
                raise InvalidInputError(
                    f"{where} has no field {field!r} of `example_keys`; its fields: {list(example)}"
                )
        return Example(
            self._text(example, where),
            answer if isinstance(answer, str) else "",
            id=str(own) if isinstance(own, str | int) else None,
            metadata=deepcopy(dict(example)),
        )

    def _text(self, fields: Mapping[str, Any], where: str) -> str:
        parts = []
        for field in sorted(self.inputs):
            if field not in fields:
                raise InvalidInputError(
                    f"{where} must have the field {field!r}, which is searched; got {list(fields)}. Pass the name of "
                    "the field as `input_key`, or several as `input_keys`"
                )
            value = fields[field]
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                kind = type(value).__name__
                raise InvalidInputError(f"{where}: the field {field!r} that is searched must be text, got {kind}")
            parts.append(str(value))
        return " ".join(parts)


class FieldsSelector(LangChainSelector):
    """A selector of examples with any fields and answers; or of the pool of a ragkit selector.

    Attributes:
        fields: The fields of the examples; None for a ragkit selector, which determines them.
    """

    fields: ExampleFields | None = None

    @override
    def _query(self, input_variables: Mapping[str, Any]) -> str:
        return super()._query(input_variables) if self.fields is None else self.fields.query(input_variables)

    @override
    def _read(self, example: Mapping[str, Any]) -> AnyExample:
        return super()._read(example) if self.fields is None else self.fields.read([example], "example")[0]

    @override
    def _given(self, example: AnyExample) -> dict[str, Any]:
        if self.fields is None or not isinstance(example, Example):
            return super()._given(example)
        stored = cast("Mapping[str, Any]", example.metadata)
        return deepcopy({name: stored[name] for name in self.fields.returned or stored})

    @classmethod
    async def afrom_examples(cls, *arguments: Any, **named: Any) -> Self:
        """Create a selector as ``from_examples`` does, without blocking the event loop."""
        return await asyncio.to_thread(cls.from_examples, *arguments, **named)  # type: ignore[attr-defined]

    @classmethod
    def _of(cls, selector: BaseSelector, k: int, fields: ExampleFields) -> Self:
        made = cls(selector, k, fields.inputs[0])
        made.fields = fields
        return made


def _fields(
    input_key: str, input_keys: Sequence[str] | None, output_key: str, example_keys: Sequence[str] | None
) -> ExampleFields:
    for name, several in (("input_keys", input_keys), ("example_keys", example_keys)):
        if several is not None:
            refuse_bare_string(name, several)
            if not several or not all(isinstance(each, str) for each in several):
                raise InvalidInputError(f"`{name}` must be a list of names of fields, got {several!r}")
    inputs = (input_key,) if input_keys is None else tuple(dict.fromkeys(input_keys))
    return ExampleFields(inputs, output_key, None if example_keys is None else tuple(example_keys))


class RagkitExampleSelector(FieldsSelector):
    """Select examples whose input is semantically similar; replaces ``SemanticSimilarityExampleSelector``.

    Only the input is searched, and copies of the examples are returned. Any other ragkit selector becomes a LangChain
    selector with ``RagkitExampleSelector(selector, k, input_key)`` or ``selector.as_langchain()``.

    Examples:
        >>> pool = [{"question": "dim the lamp", "answer": "light"}, {"question": "play a song", "answer": "music"}]
        >>> made = RagkitExampleSelector.from_examples(pool, "hash:256", 1, input_key="question")
        >>> made.select_examples({"question": "the lamp"})
        [{'question': 'dim the lamp', 'answer': 'light'}]
    """

    @classmethod
    def from_examples(
        cls,
        examples: Iterable[Mapping[str, Any]],
        embedding: AnyEmbedding = "minilm",
        k: int = 4,
        *,
        input_key: str = "input",
        input_keys: Sequence[str] | None = None,
        output_key: str = "output",
        example_keys: Sequence[str] | None = None,
    ) -> Self:
        """Create a selector of examples.

        Args:
            examples: The examples: mappings with values of any type, of which only the searched fields must be text.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            k: Number of examples to select.
            input_key: The field that is searched, which is also the name of the query variable.
            input_keys: Several fields that are searched together, instead of `input_key`.
            output_key: The field that contains the answer. It is not searched, and examples need not have it.
            example_keys: The fields that are returned; None for all.

        Returns:
            The selector.

        Raises:
            InvalidInputError: If an example does not have one of these fields; the message names its index.
        """
        fields = _fields(input_key, input_keys, output_key, example_keys)
        return cls._of(EmbeddingSelector(fields.read(examples), embedder=embedder_of(embedding)), k, fields)


class RagkitMmrExampleSelector(FieldsSelector):
    """Select similar and diverse examples; replaces ``MaxMarginalRelevanceExampleSelector``."""

    @classmethod
    def from_examples(
        cls,
        examples: Iterable[Mapping[str, Any]],
        embedding: AnyEmbedding = "minilm",
        k: int = 4,
        *,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        input_key: str = "input",
        input_keys: Sequence[str] | None = None,
        output_key: str = "output",
        example_keys: Sequence[str] | None = None,
    ) -> Self:
        """Create a selector that ranks ``fetch_k`` candidates by similarity (``lambda_mult`` 1) or diversity (0)."""
        fields = _fields(input_key, input_keys, output_key, example_keys)
        pool = EmbeddingSelector(fields.read(examples), embedder=embedder_of(embedding))
        return cls._of(pool | Mmr(lambda_mult, fetch_k=fetch_k), k, fields)


class RagkitHybridExampleSelector(FieldsSelector):
    """Select examples by lexical and semantic similarity, by fusing several rankings."""

    @classmethod
    def from_examples(
        cls,
        examples: Iterable[Mapping[str, Any]],
        embedding: AnyEmbedding = "minilm",
        k: int = 4,
        *,
        weights: Mapping[str, float] | None = None,
        input_key: str = "input",
        input_keys: Sequence[str] | None = None,
        output_key: str = "output",
        example_keys: Sequence[str] | None = None,
    ) -> Self:
        """Create a selector with weights by ranking, such as ``{"bm25": 1, "embedding": 1}``, the default."""
        fields = _fields(input_key, input_keys, output_key, example_keys)
        pool = HybridSelector(fields.read(examples), weights, embedder=embedder_of(embedding))
        return cls._of(pool, k, fields)
