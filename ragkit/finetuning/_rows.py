"""Formats of training rows for each objective; errors name the index of an invalid row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragkit._task_files import read_objects
from ragkit.errors import DataFileError, EmptyPoolError, InvalidInputError
from ragkit.records import Chat, Document, Example, Message, Preference

Row = Example | Chat | Document | str | Preference

# The formats that each objective accepts, for error messages.
_TAKES = {
    "completion": 'an Example, a Chat that ends with the assistant, or {"input", "output"}, {"prompt", "completion"}, '
    '{"instruction", "input", "output"} or {"messages"}',
    "text": 'a text, a Document or {"text"}',
    "preference": 'a Preference or {"prompt", "chosen", "rejected"}, texts or lists of messages',
}
_ROLES = ("system", "user", "assistant", "tool")
# Fields of a row and of a turn that would affect training but are not supported.
_UNUSED = ("instruction", "system", "history", "messages", "tools", "functions", "weight", "weights")
_UNUSED_IN_TURN = (
    "tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "refusal", "train", "training", "loss",
    "loss_weight",
)  # fmt: skip


def training_rows(
    rows: Iterable[Row | Mapping[str, object]], objective: str, *, name: str = "train"
) -> list[Example | Chat | Preference | str]:
    """Return the records of an objective for rows, which are records of ragkit or mappings with the usual keys.

    Errors call the rows ``name``.

    Raises:
        EmptyPoolError: If there are no rows.
        InvalidInputError: If a row has an unsupported format, or nothing to learn.
    """
    if isinstance(rows, str | Mapping):
        raise InvalidInputError(f"`{name}` must be a sequence of rows, got one {type(rows).__name__}")
    made = []
    for place, row in enumerate(rows):
        try:
            made.append(_checked(row, objective))
        except InvalidInputError as error:
            raise InvalidInputError(f"`{name}[{place}]` {error}") from None
    if not made:
        raise EmptyPoolError(f"`{name}` of finetune")
    return made


def read_rows(
    path: str | Path,
    objective: str,
    *,
    input: str = "input",  # noqa: A002 - the name of the record's field
    output: str = "output",
) -> tuple[list[Row], list[Row]]:
    """Read training data from a JSON Lines or CSV file, or for plain text, from the paragraphs of a text file.

    Args:
        path: The file, in UTF-8. Rows whose ``split`` is ``"test"`` are skipped.
        objective: Objective of the training; see `training_rows`.
        input: Name of the field to use as ``input``.
        output: Name of the field to use as ``output``.

    Returns:
        Training rows, and the rows of the ``dev`` or ``validation`` split.

    Raises:
        DataFileError: If the file or one of its rows cannot be read, or there are no training rows.
    """
    path = Path(path)
    if objective == "text" and path.suffix == ".txt":
        return _paragraphs(path), []
    train: list[Row] = []
    held_out: list[Row] = []
    for place, given in enumerate(read_objects(path), 1):
        renamed = {own: given[name] for own, name in (("input", input), ("output", output)) if name in given}
        row = {name: value for name, value in given.items() if name not in {input, output}} | renamed
        split = row.get("split", "train")
        if split == "test":
            continue
        try:
            made = _checked(row, objective)
        except InvalidInputError as error:
            raise DataFileError(path, 0, f"row {place} {error}{_other_names(row, objective)}") from error
        (held_out if split in {"dev", "validation"} else train).append(made)
    if not train:
        raise DataFileError(path, 0, "holds no row to train on; expected rows without a split or of the split 'train'")
    return train, held_out


def _other_names(row: Mapping[str, object], objective: str) -> str:
    if objective != "completion" or {"input", "output"} <= row.keys():
        return ""
    return "; fields of other names are given by input=…, output=… (on the command line --input and --output)"


def _paragraphs(path: Path) -> list[Row]:
    try:
        parts = path.read_text(encoding="utf-8-sig").split("\n\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(path, 0, f"cannot be read ({error}); expected a UTF-8 text file") from error
    kept: list[Row] = [part.strip() for part in parts if part.strip()]
    if not kept:
        raise DataFileError(path, 0, "holds no text; expected paragraphs with an empty line between them")
    return kept


def _checked(row: object, objective: str) -> Example | Chat | Preference | str:
    made = _from_mapping(row, objective) if isinstance(row, Mapping) else row
    if objective == "completion" and isinstance(made, Example):
        _not_blank(output=made.output)
        return made
    if objective == "completion" and isinstance(made, Chat):
        return _conversation(made)
    if objective == "text" and isinstance(made, Document | str):
        text = made if isinstance(made, str) else made.text
        _not_blank(text=text)
        return text
    if objective == "preference" and isinstance(made, Preference):
        _not_blank(chosen=made.chosen, rejected=made.rejected)
        if made.chosen == made.rejected:
            raise InvalidInputError("has the same answer as chosen and as rejected")
        if isinstance(made.prompt, Chat):
            _check_context(made.prompt)
        return made
    kind = f"a mapping of {sorted(map(str, row))}" if isinstance(row, Mapping) else type(row).__name__
    raise InvalidInputError(f"is {kind}; objective={objective!r} takes {_TAKES[objective]}")


def _not_blank(**texts: object) -> None:
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"has no {name}: expected a text that is not blank, got {text!r}")


def _conversation(chat: Chat) -> Chat:
    if not chat.messages or chat.messages[-1].role != "assistant":
        raise InvalidInputError("is a conversation that does not end with the assistant, so there is nothing to learn")
    for turn, message in enumerate(chat.messages):
        _check_turn(turn, message)
    if not any(message.role == "assistant" and message.weight for message in chat.messages):
        raise InvalidInputError("no turn of the assistant has a weight above 0, so there is nothing to learn")
    return chat


def _check_context(chat: Chat) -> None:
    if not chat.messages:
        raise InvalidInputError("has no turn before the answers; expected a prompt")
    for turn, message in enumerate(chat.messages):
        _check_turn(turn, replace(message, weight=0.0))


def _check_turn(turn: int, message: Message) -> None:
    if message.role not in _ROLES:
        raise InvalidInputError(f"turn {turn} has the role {message.role!r}; expected one of {', '.join(_ROLES)}")
    if not isinstance(message.content, str):
        raise InvalidInputError(f"turn {turn} has a content of {type(message.content).__name__}; expected text")
    if type(message.weight) not in {int, float} or not 0 <= message.weight < float("inf"):
        raise InvalidInputError(f"turn {turn} has the weight {message.weight!r}; expected a number of at least 0")
    blank, learned = not message.content.strip(), message.role == "assistant" and message.weight
    if blank and (learned or message.role == "user"):
        advice = "; give it text, or weight=0" if learned else "; give it text, or remove it"
        raise InvalidInputError(f"turn {turn} of the {message.role} is blank{advice}")
    if learned and turn == 0:
        raise InvalidInputError(
            "turn 0 of the assistant opens the conversation, so there is no prompt that it answers; give it weight=0, "
            "or put a turn of the system or the user before it"
        )


def _from_mapping(row: Mapping[str, object], objective: str) -> object:
    """Convert a mapping to a record; return the mapping itself if it has an unsupported format."""
    if objective == "completion":
        return _completion_of(row)
    if objective == "text" and isinstance(row.get("text"), str):
        return row["text"]
    if objective == "preference" and {"chosen", "rejected"} <= set(row):
        return _preference_of(row)
    return row


def _completion_of(row: Mapping[str, object]) -> object:
    if isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        _refuse_unused(row)
        context = [replace(message, weight=0.0) for message in _messages(row["prompt"])]
        return Chat((*context, *_messages(row["completion"], start=len(context))))
    if "instruction" in row and "output" in row:
        parts = [_fields(row, name) for name in ("instruction", "input") if row.get(name)]
        if parts and all(isinstance(part, str) for part in parts):
            _refuse_unused(row, but="instruction")
            joined = "\n\n".join(part for part in map(str, parts) if part.strip())
            return Example(joined, row["output"])  # type: ignore[arg-type]
    for source, target in (("input", "output"), ("prompt", "completion")):
        if source in row and target in row:
            _refuse_unused(row)
            return Example(_fields(row, source), row[target])  # type: ignore[arg-type]
    if isinstance(row.get("messages"), Sequence) and not isinstance(row["messages"], str):
        _refuse_unused(row, but="messages")
        return Chat(tuple(_messages(row["messages"])))
    return row


def _preference_of(row: Mapping[str, object]) -> object:
    """Convert a mapping to a preference; in TRL's lists of messages, the prompt may be part of both answers."""
    _refuse_unused(row)
    parts = [row[name] for name in ("prompt", "chosen", "rejected") if name in row]
    if not any(isinstance(part, list) for part in parts):
        if "prompt" not in row:
            return row
        return Preference(_fields(row, "prompt"), row["chosen"], row["rejected"])  # type: ignore[arg-type]
    if not all(isinstance(part, list) for part in parts):
        raise InvalidInputError("must have either texts or lists of messages as prompt, chosen and rejected")
    prompt = _messages(row.get("prompt", ()))
    chosen, rejected = ([*prompt, *_messages(row[name], start=len(prompt))] for name in ("chosen", "rejected"))
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            raise InvalidInputError(f"has {name} turns that do not end with the assistant")
    if chosen[:-1] != rejected[:-1]:
        raise InvalidInputError("has chosen and rejected turns that differ before the last one; only that may differ")
    return Preference(Chat(tuple(chosen[:-1])), chosen[-1].content, rejected[-1].content)


def _refuse_unused(row: Mapping[str, object], *, but: str = "") -> None:
    for name in _UNUSED:
        if name != but and row.get(name) not in (None, "", [], {}):
            raise InvalidInputError(
                f'has a field {name!r} that would be ignored; write the row as {{"messages"}}, with a weight in each '
                "turn, or remove the field"
            )


def _fields(row: Mapping[str, object], name: str) -> str | dict[str, str]:
    value = row[name]
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values()):
        return dict(value)
    raise InvalidInputError(f"has a {name} that is neither a text nor a mapping of texts: {value!r}")


def _messages(turns: Any, *, start: int = 0) -> list[Message]:
    return [_message(place, turn) for place, turn in enumerate(turns, start)]


def _message(place: int, turn: object) -> Message:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping) or not {"role", "content"} <= set(turn):
        raise InvalidInputError(f'turn {place} has no {{"role", "content"}}: {turn!r}')
    unused = [name for name in _UNUSED_IN_TURN if turn.get(name) not in (None, "", [], {})]
    if unused:
        raise InvalidInputError(
            f"turn {place} has `{unused[0]}`, which cannot be learned; write what the model is to say into `content`, "
            "and what is not to be learned as weight=0"
        )
    weight = turn.get("weight")
    return Message(turn["role"], turn["content"], weight=1.0 if weight is None else weight)
