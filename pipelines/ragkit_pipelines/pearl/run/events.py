"""The events of a trace, one per line."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from ragkit._files import with_checksum, without_checksum
from ragkit.errors import DataFileError
from ragkit.records import Completion, FinishReason, Usage

_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunBegun(_Event):
    """A question was started."""

    event: Literal["run"] = "run"
    version: Literal[2, 3, 4] = 4  # version 2 identifies calls in another way, version 3 has other prompts
    run: int
    time: str
    question: str
    document: str  # hash
    model: str
    fingerprint: str
    context: str
    answer: str


class DocumentSeen(_Event):
    """A document, stored once for all questions about it."""

    event: Literal["document"] = "document"
    hash: str
    text: str


class PlanMade(_Event):
    """The plan for a question, and its origin."""

    event: Literal["plan"] = "plan"
    run: int
    source: Literal["planner", "given", "fallback", "router"]
    reason: str = ""
    plan: str  # JSON
    hash: str


class CallMade(_Event):
    """A model call that succeeded."""

    event: Literal["call"] = "call"
    run: int
    purpose: str
    step: str
    key: str
    prompt: str  # hash
    plan: str  # hash, empty while there is none
    document: str  # hash
    model: str  # fingerprint
    text: str
    prompt_tokens: NonNegativeInt
    cached_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    cost: _Amount | None
    seconds: _Amount
    finish_reason: FinishReason

    def completion(self) -> Completion:
        """Convert the event to a completion."""
        usage = Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
        )
        return Completion(
            text=self.text,
            usage=usage,
            cost=self.cost,
            seconds=self.seconds,
            finish_reason=self.finish_reason,
            cached=True,
        )


class StepEnded(_Event):
    """A step was completed, failed or was skipped."""

    event: Literal["step"] = "step"
    run: int
    step: str
    status: Literal["done", "failed", "skipped"]
    value: str = ""
    reason: str = ""
    spans: list[tuple[NonNegativeInt, NonNegativeInt]] = []
    keys: list[str] = []  # of its calls


class RunEnded(_Event):
    """A question was answered, or abandoned."""

    event: Literal["end"] = "end"
    run: int
    status: Literal["done", "partial", "failed", "cancelled"]
    answer: str
    reasons: list[str] = []


Event = RunBegun | DocumentSeen | PlanMade | CallMade | StepEnded | RunEnded
_BEGINNING = b'{"event":"'  # of every line
_READER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def line_of(event: Event) -> bytes:
    """Serialize an event with a checksum."""
    return (with_checksum(event.model_dump_json()) + "\n").encode()


def open_regular(path: Path, flags: int) -> int:
    """Open a file without following a symbolic link, and refuse pipes and devices, which may never end."""
    file = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(0, "not a regular file")


def read_events(path: Path) -> list[Event]:
    """Read a trace, which may be in use."""
    try:
        with os.fdopen(open_regular(path.resolve(), os.O_RDONLY), "rb") as file:
            return read_lines(file, path)[0]
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a trace file") from error


def read_lines(file: BinaryIO, path: Path) -> tuple[list[Event], int]:
    """Read the events of an open trace; also return the length of its complete lines in bytes."""
    events: list[Event] = []
    size = 0
    for number, line in enumerate(file, 1):
        if line.endswith(b"\n"):
            events.append(_event(line[:-1], path, number))
            size += len(line)
        elif (line.strip(b"\0") or not events) and line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
            # Otherwise an interruption left the beginning of a line, or a power failure left zeros.
            problem = "not a line of a trace; pass the file of a trace, or a new file. This file was not changed"
            raise DataFileError(path, number, problem)
    return events, size


def _event(line: bytes, path: Path, number: int) -> Event:
    content = without_checksum(line)
    if content is None:
        problem = (
            "the checksum is missing or wrong, so the line was changed; delete this line and all later ones"
            if number > 1
            else "expected a trace written by ragkit; this is another file, or its first line was changed"
        )
        raise DataFileError(path, number, problem)
    try:
        return _READER.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataFileError(path, number, f"{first['loc']}: {first['msg']}; expected a line of a trace") from error
