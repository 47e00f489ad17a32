"""Tokenization of training rows, by the same code that tokenizes prompts in inference.

Prompt and answer are tokenized separately. Every truncation is counted: a prompt that does not fit loses the tokens
directly after its instruction, and an answer is never truncated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from warnings import warn

from ragkit.errors import InvalidInputError, TrainingError, TruncationWarning, UnsupportedError
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Example, Message, Preference, Prompt
from ragkit.templates import Template

if TYPE_CHECKING:
    from ragkit.models._local import LocalModel

LEAST_PROMPT = 8
IGNORED = -100  # a label that the loss ignores
TokenRow = dict[str, list[Any]]
Pairs = Sequence[tuple[Example | Chat | Preference | str, Template]]
_FATES = ("kept", "truncated", "dropped")


def encode_rows(
    model: LocalModel, pairs: Pairs, window: int, *, name: str = "train"
) -> tuple[list[TokenRow], dict[str, int]]:
    """Return rows of token ids, and the numbers of rows that were kept, truncated and dropped.

    A completion consists of the prompt, which has no loss, the answer and the end token; a conversation results in one
    such row per assistant turn. A text is learned completely, in pieces if it is longer than the window. A preference
    is one prompt with two answers. A prompt that is too long is truncated; if the answer leaves no space for it, the
    row is dropped. ``name`` is the name of the rows in error messages.

    Raises:
        TrainingError: If all rows were dropped.
    """
    made: list[TokenRow] = []
    counts = dict.fromkeys(_FATES, 0)
    for place, (row, template) in enumerate(pairs):
        try:
            encoded = list(_encoded(model, row, template, window))
        except (InvalidInputError, UnsupportedError) as error:
            raise type(error)(f"`{name}[{place}]`: {error}") from error
        made += [ids for ids, _ in encoded if ids]
        counts[max((fate for _, fate in encoded), key=_FATES.index)] += 1
    if not made:
        raise TrainingError(f"no answer fits the model's window of {window} tokens; use a model with a larger one")
    if any("weights" in row for row in made):  # the trainer's dataset needs the same columns in every row
        made = [{"weights": [1.0] * len(row["labels"]), **row} for row in made]
    if counts["truncated"] or counts["dropped"]:
        said = (
            f"of {len(pairs)} training rows {counts['truncated']} lost the beginning of their prompt "
            f"and {counts['dropped']} were dropped (window {window} tokens)"
        )
        warn(TruncationWarning(said), stacklevel=4)
    return made, counts


def tokens_of(row: TokenRow) -> int:
    """Return the number of tokens that a row requires; a preference requires its prompt twice."""
    return sum(lengths_of(row))


def lengths_of(row: TokenRow) -> list[int]:
    """Return the numbers of tokens of the sequences of a row: one, or two for a preference."""
    if "input_ids" in row:
        return [len(row["input_ids"])]
    return [len(row["prompt_ids"]) + len(row[answer]) for answer in ("chosen_ids", "rejected_ids")]


def _encoded(
    model: LocalModel, row: Example | Chat | Preference | str, template: Template, window: int
) -> Iterator[tuple[TokenRow, str]]:
    """Yield the token ids of a row, which are empty if it is dropped, and whether it was kept, truncated or dropped."""
    if isinstance(row, str):
        ids = model.encoder.opening() + model.encode_text(row) + _end(model)
        pieces = [ids[start : start + window] for start in range(0, len(ids), window)]
        # A piece of one token has nothing to predict.
        yield from (({"input_ids": piece, "labels": piece}, "kept") for piece in pieces if len(piece) > 1)
    elif isinstance(row, Chat):
        for place, message in enumerate(row.messages):
            if message.role == "assistant" and message.weight:
                answer = model.encode_text(message.content) + _end(model, template)
                try:
                    prompt, fate = _fitting(model, Chat(row.messages[:place]), window - len(answer), template)
                except InvalidInputError as error:
                    raise InvalidInputError(f"the turns before turn {place} are refused: {error}") from error
                yield _completion(prompt, answer, message.weight), fate
    elif isinstance(row, Preference):
        if isinstance(row.prompt, Chat):
            asked: AnyPrompt = row.prompt
            answers = [model.encode_text(text) + _end(model, template) for text in (row.chosen, row.rejected)]
        else:
            asked = template.prompt([], row.prompt)
            answers = [_answer(model, template, text) for text in (row.chosen, row.rejected)]
        prompt, fate = _fitting(model, asked, window - max(map(len, answers)), template)
        ids_of = {"prompt_ids": prompt, "chosen_ids": answers[0], "rejected_ids": answers[1]}
        yield (ids_of if prompt else {}), fate
    else:
        answer = _answer(model, template, row.output)
        prompt, fate = _fitting(model, template.prompt([], row.input), window - len(answer), template)
        yield _completion(prompt, answer), fate


def _completion(prompt: list[int], answer: list[int], weight: float = 1.0) -> TokenRow:
    if not prompt:
        return {}
    row: TokenRow = {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
    return row if weight == 1 else {**row, "weights": [weight] * len(row["labels"])}


def _answer(model: LocalModel, template: Template, text: str) -> list[int]:
    return model.encode_text(template.render_answer(text)) + _end(model, template)


def _fitting(model: LocalModel, prompt: AnyPrompt, room: int, template: Template) -> tuple[list[int], str]:
    """Truncate a prompt to ``room`` tokens, removing the oldest tokens after the opening that all prompts share."""
    ids = model.encode_prompt(prompt)
    if len(ids) <= room:
        return ids, "kept"
    opening = _shared(ids, _head(model, prompt, template))
    if room < opening + LEAST_PROMPT:
        return [], "dropped"
    return ids[:opening] + ids[len(ids) - (room - opening) :], "truncated"


def _head(model: LocalModel, prompt: AnyPrompt, template: Template) -> list[int]:
    """Return the token ids with which every prompt begins, such as the start of the chat template and instruction."""
    chat = prompt.chat if isinstance(prompt, Prompt) and template.form == "chat" else prompt
    try:
        if isinstance(chat, Chat):
            system = tuple(message for message in chat.messages[:1] if message.role == "system")
            return model.encode_prompt(Chat((*system, Message("user", ""))))
        return model.encode_prompt(Prompt(template.head, form="text"))
    except InvalidInputError:  # prompts of this model share no opening
        return []


def _shared(one: list[int], other: list[int]) -> int:
    """Return the length of the common prefix."""
    places = range(min(len(one), len(other)))
    return next((place for place in places if one[place] != other[place]), len(places))


def _end(model: LocalModel, template: Template | None = None) -> list[int]:
    """Return the token that ends a text, or that ends a turn if the template produces chat turns."""
    if template is not None and template.form == "chat":
        return [model.end_of_turn_id()]
    end: int | None = model.tokenizer.eos_token_id
    return [] if end is None else [end]
