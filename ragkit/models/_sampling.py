"""Generation settings, and validation of answers against a schema, choices or a grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema import ValidationError as NotFollowed
from pydantic import BaseModel, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from ragkit._text import read_json
from ragkit.errors import AnswerFormError, InvalidInputError, ModelError, RagkitError
from ragkit.models._grammar_check import grammar_check
from ragkit.models._results import raised
from ragkit.protocols import Schema
from ragkit.records import Completion

# The smallest, the largest and the neutral value of settings that most calls do not use.
_OPTIONAL = {"top_p": (0, 1, 1.0), "presence_penalty": (-2, 2, 0.0), "frequency_penalty": (-2, 2, 0.0)}
_TRUNCATED = "; it was truncated, so raise `max_tokens`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The settings with which an answer is generated.

    Attributes:
        max_tokens: Maximum number of generated tokens.
        temperature: Sampling temperature; 0 for greedy decoding.
        stop: Stop sequences, which are not part of the answer.
        seed: Seed for sampling.
        schema: JSON schema that the answer must follow; None for free text.
        choices: Allowed answers; None for free text.
        grammar: Grammar that the answer must follow, in Lark's notation; None for free text.
        top_p: Share of the probability from which tokens are sampled; 1 for all tokens.
        presence_penalty: Subtracted from the logits of tokens that occur in the answer so far.
        frequency_penalty: Subtracted from the logits of tokens once per occurrence in the answer so far.
        logprobs: Whether the log-probabilities of the tokens of the answer are requested.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    schema: Mapping[str, object] | None = None
    choices: tuple[str, ...] | None = None
    grammar: str | None = None
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: bool = False

    def __post_init__(self) -> None:
        if not _is_number(self.max_tokens, int) or self.max_tokens < 1:
            raise InvalidInputError(f"`max_tokens` must be a whole number of at least 1, got {self.max_tokens!r}")
        if not _is_number(self.temperature, int, float) or not 0 <= self.temperature <= 10:
            raise InvalidInputError(f"`temperature` must be a number between 0 and 10, got {self.temperature!r}")
        for name, (least, most, _) in _OPTIONAL.items():
            value = getattr(self, name)
            if not _is_number(value, int, float) or not least <= value <= most:
                raise InvalidInputError(f"`{name}` must be a number between {least} and {most}, got {value!r}")
        if not isinstance(self.logprobs, bool):
            raise InvalidInputError(f"`logprobs` must be True or False, got {self.logprobs!r}")
        if not _is_texts(self.stop):
            raise InvalidInputError(f"`stop` must be a sequence of non-empty strings, got {self.stop!r}")
        if not _is_number(self.seed, int):
            raise InvalidInputError(f"`seed` must be a whole number, got {self.seed!r}")
        self._check_constraints()

    def _check_constraints(self) -> None:
        if self.choices is not None and not (self.choices and _is_texts(self.choices)):
            raise InvalidInputError(f"`choices` must be a sequence of non-empty strings, got {self.choices!r}")
        if self.grammar is not None and not _is_text(self.grammar):
            raise InvalidInputError(f"`grammar` must be a grammar in Lark's notation, got {self.grammar!r}")
        given = [name for name in ("schema", "choices", "grammar") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidInputError(f"`{given[0]}` cannot be combined with `{given[1]}`; pass one of them")

    @classmethod
    def of(  # noqa: PLR0913 - the arguments of the protocol
        cls,
        *,
        max_tokens: int,
        temperature: float,
        stop: Sequence[str],
        seed: int,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> Sampling:
        """Create settings from the arguments of `LanguageModel.generate`.

        Returns:
            The validated settings, with lists converted to tuples and a pydantic model to its JSON schema.
        """
        return cls(
            max_tokens=max_tokens,
            temperature=temperature,
            stop=_as_tuple(stop),
            seed=seed,
            schema=schema_of(schema),
            choices=None if choices is None else _as_tuple(choices),
            grammar=grammar,
            top_p=top_p,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            logprobs=logprobs,
        )

    @property
    def constrained(self) -> bool:
        """Whether the answer must follow a schema or a grammar, or be one of several choices."""
        return self.schema is not None or self.choices is not None or self.grammar is not None

    def options(self) -> dict[str, Any]:
        """Return the arguments of `LanguageModel.generate`; those that change nothing are omitted, from `schema` on."""
        given: dict[str, Any] = {name: getattr(self, name) for name in ("max_tokens", "temperature", "stop", "seed")}
        given |= self.optional()
        if self.schema is not None:
            given["schema"] = self.schema
        if self.choices is not None:
            given["choices"] = self.choices
        if self.grammar is not None:
            given["grammar"] = self.grammar
        if self.logprobs:
            given["logprobs"] = True
        return given

    def optional(self) -> dict[str, float]:
        """Return `top_p` and the penalties, as far as they have an effect."""
        return {name: getattr(self, name) for name, (*_, none) in _OPTIONAL.items() if getattr(self, name) != none}


def _as_tuple(texts: Any) -> Any:
    """Convert a list to a tuple and keep other values, so that a string is rejected and not split into characters."""
    return tuple(texts) if isinstance(texts, list) else texts


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


def schema_of(schema: Schema | None) -> Mapping[str, object] | None:
    """Return the JSON schema of a pydantic model, or a JSON schema with a title, or raise `InvalidInputError`."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    if isinstance(schema, Mapping):
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise InvalidInputError(f"`schema` is not a valid JSON schema: {error.message}") from error
        except RecursionError as error:
            raise InvalidInputError("`schema` is nested too deeply; pass a flatter one") from error
        return {"title": "Answer", **schema}
    if schema is None:
        return None
    raise InvalidInputError(f"`schema` must be a pydantic model or a JSON schema, got {schema!r}")


def checked_answers(
    answers: list[Completion],
    schema: Schema | None,
    choices: Sequence[str] | None,
    name: str,
    *,
    grammar: str | None = None,
) -> list[Completion]:
    """Validate the answers of a model against a schema, choices or a grammar, and parse them by the schema.

    Returns:
        The answers.

    Raises:
        ModelError: If no answer is valid.
        BatchError: If some answers are invalid.
        InvalidInputError: If the schema refers to a definition that it does not contain, or the grammar is invalid.
    """

    def checked(answer: Completion) -> Completion | ModelError:
        if answer.tool_calls:  # a call is not an answer
            return answer
        if schema is not None:
            return _parsed(answer, schema, name)
        if choices is not None:
            return _chosen(answer, choices, name)
        if grammar is not None and not grammar_check(grammar).accepts(answer.text):
            return _ungrammatical(answer, name)
        return answer

    return raised([checked(answer) for answer in answers])


def checked_result(result: Completion | RagkitError, sampling: Sampling, name: str) -> Completion | RagkitError:
    """Return a completion if it is valid for its settings, and otherwise the error."""
    if not isinstance(result, Completion):
        return result
    try:
        return checked_answers([result], sampling.schema, sampling.choices, name, grammar=sampling.grammar)[0]
    except RagkitError as error:
        return error


def _ungrammatical(answer: Completion, name: str) -> AnswerFormError:
    said = f"{name} answered {answer.text[:80]!r}, which does not follow the grammar"
    return AnswerFormError(said + (_TRUNCATED if answer.finish_reason == "length" else ""), answer)


def _parsed(answer: Completion, schema: Schema, name: str) -> Completion | ModelError:
    try:
        if isinstance(schema, type):
            return replace(answer, parsed=schema.model_validate_json(answer.text))
        parsed: Any = read_json(answer.text)
        Draft202012Validator(schema, registry=Registry()).validate(parsed)  # without fetching remote references
        return replace(answer, parsed=parsed)
    except Unresolvable as error:
        raise InvalidInputError(
            f"`schema` refers to {error.ref!r}, which is not in it; put the definition under `$defs`"
        ) from error
    except (ValidationError, InvalidInputError, NotFollowed) as error:
        cut = _TRUNCATED if answer.finish_reason == "length" else ""
        return AnswerFormError(f"{name} did not follow the schema ({error}){cut}", answer)


def choice_error(answer: Completion, choices: Sequence[str], name: str) -> AnswerFormError:
    """Create the error for an answer that is not one of the choices."""
    said = f"{name} answered {answer.text[:80]!r}, which is none of the {len(choices)} choices"
    return AnswerFormError(said, answer)


def _chosen(answer: Completion, choices: Sequence[str], name: str) -> Completion | ModelError:
    """Return the completion if it is one of the choices, ignoring surrounding whitespace, otherwise an error."""
    if any(answer.text.strip() == choice.strip() for choice in choices):
        return answer
    return choice_error(answer, choices, name)
