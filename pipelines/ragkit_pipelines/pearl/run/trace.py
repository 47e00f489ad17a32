"""A trace: what was asked, planned, called and answered, a line each, in a file that only grows."""

from __future__ import annotations

import fcntl
import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal, Self

from ragkit.errors import InvalidInputError, TraceLockedError
from ragkit.records import Completion
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.run.calls import Ask
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
    """A file of JSON lines that many questions may share, one process at a time.

    Every answered call is written at once, under a hash of the model, the prompt and the settings. A call whose hash
    stands in the file is not made again, by the same question after a kill or by any other.

    Attributes:
        path: The file.
        keep_documents: Whether documents are written too, so that a question can be resumed from the file alone.
    """

    def __init__(self, path: str | Path, *, keep_documents: bool = True) -> None:
        """Open a trace, or begin one.

        Args:
            path: The file; its folder is made where it is missing.
            keep_documents: Whether documents are written too.

        Raises:
            TraceLockedError: If it is open elsewhere.
            DataFileError: If it is something else, or damaged; nothing is changed then.
            InvalidInputError: If it cannot be opened for writing.
        """
        self.path, self.keep_documents = Path(path), keep_documents
        self._file = -1
        self._lock = Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            message = f"the trace {self.path} cannot be written ({error.strerror}); give a file in a folder that can"
            raise InvalidInputError(message) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            message = f"{self.path} is written by another run; wait for it to end, or give this one its own trace"
            raise TraceLockedError(message) from error
        try:
            self.events, whole = read_events(self.path)
            os.ftruncate(file, whole)  # the rest of a line that a kill cut off
        except BaseException:
            os.close(file)
            raise
        self._file = file
        self._answers = {event.key: event for event in self.events if isinstance(event, CallMade)}
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
        """Let go of the file; a second time does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write(self, event: Event) -> None:
        """Append a line; it is in the file when this returns.

        Raises:
            InvalidInputError: If the trace is closed.
            OSError: If it does not fit on the disk; the file is as it was.
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
                os.ftruncate(self._file, size)  # or the next line would be joined to a part of this one
                raise
            self.events.append(event)

    def find(self, key: str) -> Completion | None:
        """The answer of a call that was made earlier.

        Returns:
            The answer, or None.
        """
        event = self._answers.get(key)
        return None if event is None else event.completion()

    def document(self, name: str) -> str | None:
        """A document by its hash.

        Returns:
            Its text, or None where it was not written.
        """
        return self._documents.get(name)

    def begin(
        self, question: str, document: str, *, model: str, fingerprint: str, context: str, answer: str
    ) -> RunTrace:
        """Begin a question.

        Returns:
            What writes its lines.
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
        """Go on with a question that was begun.

        Returns:
            What writes its lines.
        """
        return RunTrace(self, begun.run, begun.document, begun.fingerprint)

    def last_run(self) -> RunBegun:
        """The last question that has no end, or else the last one.

        Returns:
            How it began.

        Raises:
            InvalidInputError: If the trace holds no question.
        """
        begun = [event for event in self.events if isinstance(event, RunBegun)]
        if not begun:
            raise InvalidInputError(f"the trace {self.path} holds no question; nothing can be resumed")
        ended = {event.run for event in self.events if isinstance(event, RunEnded)}
        return next((event for event in reversed(begun) if event.run not in ended), begun[-1])

    def plan_of(self, run: int) -> PlanMade | None:
        """The plan of a question, where there was one already.

        Returns:
            The last plan that was written for it.
        """
        made = (event for event in reversed(self.events) if isinstance(event, PlanMade) and event.run == run)
        return next(made, None)

    def keep(self, event: CallMade) -> None:
        """Write a call and remember its answer."""
        self._answers[event.key] = event
        self.write(event)


class RunTrace:
    """The lines of one question."""

    def __init__(self, trace: Trace, number: int, document: str, fingerprint: str) -> None:
        """Remember whose lines they are."""
        self.trace, self.number, self.document, self.fingerprint = trace, number, document, fingerprint
        self.plan = ""

    def find(self, key: str) -> Completion | None:
        """The answer of a call that was made earlier, for whichever question.

        Returns:
            The answer, or None.
        """
        return self.trace.find(key)

    def keep(self, ask: Ask, key: str, completion: Completion) -> None:
        """Write a call."""
        usage = completion.usage
        self.trace.keep(
            CallMade(
                run=self.number,
                purpose=ask.purpose,
                step=ask.step,
                key=key,
                prompt=text_hash(ask.prompt.text),
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
        """Write how a step ended."""
        self.trace.write(event)

    def end(
        self, status: Literal["done", "partial", "failed", "cancelled"], answer: str, reasons: tuple[str, ...]
    ) -> None:
        """Write how the question ended."""
        self.trace.write(RunEnded(run=self.number, status=status, answer=answer, reasons=list(reasons)))


def text_hash(text: str) -> str:
    """Name of a text.

    Returns:
        Half of its SHA-256, in hexadecimal digits.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
