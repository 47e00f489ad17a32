"""A model that replays recorded answers, and records the answers of another model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import override

from ragkit._files import private_opener
from ragkit.errors import DataFileError, NotRecordedError
from ragkit.models._base import ModelBase
from ragkit.models._prompts import prompt_text
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Completion, FinishReason, Usage


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    prompt: str
    max_tokens: int
    temperature: float
    stop: tuple[str, ...]
    seed: int
    held_to: dict[str, object] | None = Field(default=None, alias="schema")
    choices: tuple[str, ...] | None = None
    grammar: str | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: FinishReason = "stop"


class ReplayModel(ModelBase):
    """A model that answers from a JSON Lines file, in which answers are recorded by prompt and settings.

    With ``record_from``, prompts that are not in the file are sent to that model, and its answers are appended.
    """

    def __init__(self, path: str | Path, *, record_from: LanguageModel | None = None) -> None:
        """Read the recording.

        Args:
            path: The file; it need not exist if ``record_from`` is given.
            record_from: The model whose answers are recorded.

        Raises:
            DataFileError: If the file cannot be read.
        """
        self.path = Path(path)
        self.record_from = record_from
        self._answers = {_key(line): line for line in _read(self.path, may_be_absent=record_from is not None)}

    @property
    @override
    def name(self) -> str:
        return f"replay:{self.path}"

    @property
    @override
    def fingerprint(self) -> str:
        lines = "".join(line.model_dump_json(by_alias=True, exclude_none=True) for line in self._answers.values())
        return f"replay:{hashlib.sha256(lines.encode()).hexdigest()[:16]}"

    @property
    @override
    def capabilities(self) -> Capabilities:
        source = self.record_from
        grammar = (
            any(line.grammar for line in self._answers.values()) if source is None else source.capabilities.grammar
        )
        return Capabilities(schema=True, choices=True, grammar=grammar)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return [self._answer(prompt, sampling) for prompt in prompts]

    def _answer(self, prompt: AnyPrompt, sampling: Sampling) -> Completion:
        text = prompt_text(prompt)
        asked = _Line(prompt=text, text="", **sampling.options())
        line = self._answers.get(_key(asked))
        if line is None:
            if self.record_from is None:
                raise NotRecordedError(
                    f"{self.path.name} holds no answer to the prompt that ends {text[-60:]!r} with {sampling}; "
                    "record it with ReplayModel(path, record_from=model)"
                )
            return self._record(prompt, asked, sampling)
        usage = Usage(prompt_tokens=line.prompt_tokens, completion_tokens=line.completion_tokens)
        return Completion(text=line.text, usage=usage, cost=0.0, finish_reason=line.finish_reason, cached=True)

    def _record(self, prompt: AnyPrompt, asked: _Line, sampling: Sampling) -> Completion:
        assert self.record_from is not None  # noqa: S101 - for the type checker
        answer = self.record_from.generate(prompt, **sampling.options())
        usage, reason = answer.usage, answer.finish_reason
        tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        line = asked.model_copy(update={"text": answer.text, "finish_reason": reason, **tokens})
        recorded = line.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"
        with open(self.path, "a+b", opener=private_opener) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                recorded = (b"" if file.read() == b"\n" else b"\n") + recorded  # an editor may omit the last newline
            file.write(recorded)
        self._answers[_key(line)] = line
        return replace(answer, cached=False)


def _key(line: _Line) -> str:
    asked = [line.prompt, line.max_tokens, line.temperature, line.stop, line.seed, line.held_to, line.choices]
    return json.dumps([*asked, line.grammar, line.top_p, line.presence_penalty, line.frequency_penalty])


def _read(path: Path, *, may_be_absent: bool) -> list[_Line]:
    try:
        if may_be_absent and not path.parent.is_dir():
            raise DataFileError(path, 0, "cannot be written, its folder does not exist; make the folder first")
        texts = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        if may_be_absent:
            return []
        raise DataFileError(path, 0, "does not exist; expected recorded answers, one JSON object per line") from error
    except (OSError, ValueError) as error:
        raise DataFileError(path, 0, f"cannot be read ({error}); expected recorded answers") from error
    return [_line(path, number, text) for number, text in enumerate(texts, 1) if text.strip()]


def _line(path: Path, number: int, text: str) -> _Line:
    try:
        return _Line.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataFileError(path, number, f"{first['loc']}: {first['msg']}; expected a recorded answer") from error
