"""A trace: an append-only file of questions, plans, model calls and answers, one per line."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal, Self

from ragkit.errors import InvalidInputError, TraceLockedError
from ragkit.files import make_folder, private_opener, try_lock
from ragkit.records import Completion
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.run.calls import ModelCall
from ragkit_pipelines.pearl.run.events import (
    CallMade,
    DocumentSeen,
    Event,
    PlanMade,
    RunBegun,
    RunEnded,
    StepEnded,
    line_of,
    read_events,
)


class Trace:
    """A JSON lines file that many questions may share, within one process at a time.

    Every response is written immediately, under a hash of the model, the prompt and the settings. The same call is
    never repeated, neither by the same question after an interruption nor by another question.

    Attributes:
        path: The file.
        keep_documents: Whether documents are stored as well, which allows resuming a question from the file alone.
    """

    def __init__(self, path: str | Path, *, keep_documents: bool = True) -> None:
        """Open a trace, or create one.

        Args:
            path: The file. Its folder is created if it does not exist.
            keep_documents: Whether documents are stored as well.

        Raises:
            TraceLockedError: If the trace is already open.
            DataFileError: If the file is not a trace, or is damaged. It is not changed.
            InvalidInputError: If the file cannot be opened for writing.
        """
        self.path, self.keep_documents = Path(path), keep_documents
        self._file = -1
        self._lock = Lock()
        try:
            make_folder(self.path.parent)
            file = private_opener(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            message = f"cannot write the trace {self.path} ({error.strerror}); pass a file in a writable folder"
            raise InvalidInputError(message) from error
        with ExitStack() as after_error:
            after_error.callback(os.close, file)
            if not try_lock(file):
                raise TraceLockedError(
                    f"the trace {self.path} is in use by another run; wait until that run ends, or pass another file"
                )
            self.events, whole = read_events(self.path)
            os.ftruncate(file, whole)  # the incomplete line that an interruption left
            after_error.pop_all()
        self._file = file
        self._responses = {event.key: event for event in self.events if isinstance(event, CallMade)}
        self._documents = {event.hash: event.text for event in self.events if isinstance(event, DocumentSeen)}
        self._runs = max((event.run for event in self.events if isinstance(event, RunBegun)), default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. It is safe to call this more than once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write(self, event: Event) -> None:
        """Append a line to the file before returning.

        Raises:
            InvalidInputError: If the trace is closed.
            OSError: If the disk is full. The file is then unchanged.
        """
        line = line_of(event)
        with self._lock:
            if self._file < 0:
                raise InvalidInputError(f"the trace {self.path} is closed; open it again with Trace(path)")
            size = os.fstat(self._file).st_size
            try:
                while line:
                    line = line[os.write(self._file, line) :]
            except OSError:
                os.ftruncate(self._file, size)  # otherwise the next line would follow an incomplete one
                raise
            self.events.append(event)

    def find(self, key: str) -> Completion | None:
        """Find the response to an earlier call.

        Returns:
            The response, or None.
        """
        event = self._responses.get(key)
        return None if event is None else event.completion()

    def document(self, name: str) -> str | None:
        """Find a document by its hash.

        Returns:
            Its text; None if it was not stored.
        """
        return self._documents.get(name)

    def begin(
        self, question: str, document: str, *, model: str, fingerprint: str, context: str, answer: str
    ) -> RunTrace:
        """Start a question.

        Returns:
            The part of the trace that belongs to it.
        """
        name = text_hash(document)
        with self._lock:
            self._runs += 1
            number, seen = self._runs, name in self._documents or not self.keep_documents
            self._documents[name] = document
        if not seen:
            self.write(DocumentSeen(hash=name, text=document))
        run = RunTrace(self, number, name, fingerprint)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        self.write(
            RunBegun(
                run=number,
                time=time,
                question=question,
                document=name,
                model=model,
                fingerprint=fingerprint,
                context=context,
                answer=answer,
            )
        )
        return run

    def continued(self, begun: RunBegun) -> RunTrace:
        """Resume a question.

        Returns:
            The part of the trace that belongs to it.
        """
        return RunTrace(self, begun.run, begun.document, begun.fingerprint)

    def last_run(self) -> RunBegun:
        """Find the last unfinished question; if there is none, the last question.

        Returns:
            The event that started it.

        Raises:
            InvalidInputError: If the trace contains no question.
        """
        begun = [event for event in self.events if isinstance(event, RunBegun)]
        if not begun:
            raise InvalidInputError(f"the trace {self.path} contains no question to resume; start one with invoke(…)")
        ended = {event.run for event in self.events if isinstance(event, RunEnded)}
        return next((event for event in reversed(begun) if event.run not in ended), begun[-1])

    def plan_of(self, run: int) -> PlanMade | None:
        """Find the plan of a question.

        Returns:
            The last plan that was stored for it, or None.
        """
        made = (event for event in reversed(self.events) if isinstance(event, PlanMade) and event.run == run)
        return next(made, None)

    def store(self, event: CallMade) -> None:
        """Write a call and cache its response."""
        self._responses[event.key] = event
        self.write(event)


class RunTrace:
    """The part of a trace that belongs to one question."""

    def __init__(self, trace: Trace, number: int, document: str, fingerprint: str) -> None:
        """Store the identity of the question."""
        self.trace, self.number, self.document, self.fingerprint = trace, number, document, fingerprint
        self.plan = ""

    def find(self, key: str) -> Completion | None:
        """Find the response to an earlier call of any question.

        Returns:
            The response, or None.
        """
        return self.trace.find(key)

    def store(self, call: ModelCall, key: str, completion: Completion) -> None:
        """Write a call."""
        usage = completion.usage
        self.trace.store(
            CallMade(
                run=self.number,
                purpose=call.purpose,
                step=call.step,
                key=key,
                prompt=text_hash(call.prompt.text),
                plan=self.plan,
                document=self.document,
                model=self.fingerprint,
                text=completion.text,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
                cost=completion.cost,
                seconds=round(completion.seconds, 6),
                finish_reason=completion.finish_reason,
            )
        )

    def planned(self, plan: Plan, source: Literal["planner", "given", "fallback", "router"], reason: str) -> None:
        """Write the plan."""
        self.plan = plan.fingerprint
        self.trace.write(
            PlanMade(run=self.number, source=source, reason=reason, plan=plan.to_json(), hash=plan.fingerprint)
        )

    def step(self, event: StepEnded) -> None:
        """Write the result of a step."""
        self.trace.write(event)

    def end(
        self, status: Literal["done", "partial", "failed", "cancelled"], answer: str, reasons: tuple[str, ...]
    ) -> None:
        """Write the result of the question."""
        self.trace.write(RunEnded(run=self.number, status=status, answer=answer, reasons=list(reasons)))


def text_hash(text: str) -> str:
    """Hash a text.

    Returns:
        The first half of its SHA-256, in hexadecimal digits.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
