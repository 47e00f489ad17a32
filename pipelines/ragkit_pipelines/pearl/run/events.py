"""The events of a trace, one per line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ragkit.errors import DataFileError
from ragkit.files import with_checksum, without_checksum
from ragkit.records import Completion, Usage


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunBegun(_Event):
    """A question was started."""

    event: Literal["run"] = "run"
    version: Literal[2] = 2
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
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: float | None
    seconds: float
    finish_reason: Literal["stop", "length"]

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
    spans: list[tuple[int, int]] = []
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


def read_events(path: Path) -> tuple[list[Event], int]:
    """Read a trace. An incomplete last line, which an interruption left, is ignored."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a trace file") from error
    whole = data.rfind(b"\n") + 1
    cut = data[whole:].strip(b"\0")  # a power failure may leave zeros instead of a line
    if (cut or not whole) and data[whole : whole + len(_BEGINNING)] != _BEGINNING[: len(data) - whole]:
        problem = "not a line of a trace; pass the file of a trace, or a new file. This file was not changed"
        raise DataFileError(path, data.count(b"\n") + 1, problem)
    events: list[Event] = []
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        content = without_checksum(line)
        if content is None:
            problem = (
                "the checksum is missing or wrong, so the line was changed; delete this line and all later ones"
                if events
                else "expected a trace written by ragkit; this is another file, or its first line was changed"
            )
            raise DataFileError(path, number, problem)
        try:
            events.append(_READER.validate_json(content))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise DataFileError(path, number, f"{first['loc']}: {first['msg']}; expected a line of a trace") from error
    return events, whole
