"""Constrained decoding for lists of choices, JSON schemas and grammars, by masking tokens that are not allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor
from typing_extensions import override

from ragkit._extras import require
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models._schema_closing import closed


class OneOf(LogitsProcessor):  # type: ignore[misc]
    """A logits processor that constrains the answer to one of several choices, followed by an end token."""

    def __init__(self, choices: Sequence[Sequence[int]], ends: Sequence[int], start: int) -> None:
        """Constrain to the token ids of some choices, followed by one of ``ends``; answers begin at ``start``."""
        self.start = start
        self.after: dict[tuple[int, ...], set[int]] = {}
        for choice in choices:
            for place, token in enumerate(choice):
                self.after.setdefault(tuple(choice[:place]), set()).add(token)
            self.after.setdefault(tuple(choice), set()).update(ends)
        self.ends = set(ends)

    @override
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        ruled_out = torch.full_like(scores, float("-inf"))
        for row, written in enumerate(input_ids[:, self.start :].tolist()):
            allowed = sorted(self.after.get(tuple(written), self.ends))
            ruled_out[row, allowed] = scores[row, allowed]
        return ruled_out


class FollowsGrammar(LogitsProcessor):  # type: ignore[misc]
    """A logits processor that constrains the answer to a grammar.

    It uses llguidance, which runs Earley's algorithm over the tokenizer's vocabulary.
    """

    def __init__(
        self, vocabulary: Any, grammar: str, ends: Sequence[int], start: int, rows: int, *, what: str = "grammar"
    ) -> None:
        """Compile a grammar for a batch of ``rows`` answers that begin at ``start``.

        Args:
            vocabulary: The result of `vocabulary_of`.
            grammar: The grammar, in Lark's notation or as the result of `grammar_of_schema`.
            ends: Ids of the tokens that end an answer.
            start: Position of the answer in a row.
            rows: Number of rows in the batch.
            what: The argument that an error names.

        Raises:
            InvalidInputError: If the grammar cannot be compiled.
        """
        from llguidance import LLMatcher

        first = LLMatcher(vocabulary, grammar)
        if problem := first.get_error():
            if "coerce_one_of" in problem:
                problem = "the options of `oneOf` overlap, which is not supported; use `anyOf`"
            raise InvalidInputError(f"`{what}` cannot be followed: {problem.strip()}")
        self.matchers = [first, *(first.deep_copy() for _ in range(rows - 1))]
        self.start, self.ends = start, list(ends)

    @override
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        written = input_ids[:, -1].tolist() if input_ids.shape[1] > self.start else [None] * len(self.matchers)
        allowed = np.zeros(tuple(scores.shape), dtype=np.bool_)
        for row, (matcher, token) in enumerate(zip(self.matchers, written, strict=True)):
            if token is not None and not matcher.is_stopped():
                matcher.consume_token(token)
            if matcher.is_stopped():
                allowed[row, self.ends] = True
            else:
                bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
                allowed[row] = np.unpackbits(bits, bitorder="little", count=scores.shape[1])
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), float("-inf"))


def grammar_of_schema(schema: Mapping[str, object]) -> str:
    """Convert a JSON schema to a grammar, or raise `InvalidInputError`."""
    from llguidance import LLMatcher

    # With flexible whitespace, a weak model may generate whitespace forever.
    layout = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    try:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(closed(schema)), overrides=layout))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"`schema` cannot be followed: {error}") from error


def vocabulary_of(tokenizer: Any, ends: Sequence[int]) -> Any:
    """Convert a tokenizer to an ``LLTokenizer``, which takes up to a second, or raise `UnsupportedError`."""
    require("llguidance")
    import llguidance.hf

    try:
        return llguidance.hf.from_tokenizer(tokenizer, eos_token=list(ends))
    except (ValueError, TypeError, AttributeError) as error:
        raise UnsupportedError(
            f"a {type(tokenizer).__name__} cannot be constrained to a schema or a grammar ({error})"
        ) from error
