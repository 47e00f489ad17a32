"""A trace: an append-only file of questions, plans, model calls and answers, one per line."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from ragkit._files import make_folder, try_lock
from ragkit.errors import InvalidInputError, TraceLockedError
from ragkit.protocols import LanguageModel
from ragkit.records import Completion
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.run.events import (
    CallMade,
    DocumentSeen,
    Event,
    PlanMade,
    RunBegun,
    RunEnded,
    StepEnded,
    line_of,
    open_regular,
    read_lines,
)
from ragkit_pipelines.pearl.run.run import Planning, Run, StepRun


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
            path: The file, which is created with permissions for its owner only. Its folder is created if it does not
                exist.
            keep_documents: Whether documents are stored as well.

        Raises:
            TraceLockedError: If the trace is already open.
            DataFileError: If the file is not a trace, or is damaged. It is not changed.
            InvalidInputError: If the file cannot be opened for writing.
        """
        self.path, self.keep_documents = Path(path), keep_documents
        self._file, self._lock = -1, Lock()
        try:
            make_folder(self.path.parent)
            file = open_regular(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            message = (
                f"cannot write the trace {self.path} ({error.strerror}); pass a file, not a symbolic link, in a "
                "writable folder"
            )
            raise InvalidInputError(message) from error
        with ExitStack() as after_error:
            after_error.callback(os.close, file)
            if not try_lock(file):
                raise TraceLockedError(
                    f"the trace {self.path} is in use by another run; wait until that run ends, or pass another file"
                )
            with os.fdopen(os.dup(file), "rb") as reader:
                self.events, whole = read_lines(reader, self.path)
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
        with self._lock:  # a call in progress may be writing
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
            if isinstance(event, CallMade):
                self._responses[event.key] = event

    def find(self, key: str, fingerprint: str) -> Completion | None:
        """Return the response of this model to an earlier call, or None."""
        event = self._responses.get(key)
        return None if event is None or event.model != fingerprint else event.completion()

    def document(self, name: str) -> str | None:
        """Return the document with this hash; None if it was not stored."""
        return self._documents.get(name)

    def begin(self, question: str, document: str, model: LanguageModel, *, context: str, answer: str) -> RunTrace:
        """Start a question, and return the part of the trace that belongs to it."""
        name = text_hash(document)
        with self._lock:
            self._runs += 1
            number, seen = self._runs, name in self._documents or not self.keep_documents
            self._documents[name] = document
        if not seen:
            self.write(DocumentSeen(hash=name, text=document))
        begun = RunBegun(
            run=number, time=datetime.now(UTC).isoformat(timespec="seconds"), question=question, document=name,
            model=model.name, fingerprint=model.fingerprint, context=context, answer=answer,
        )  # fmt: skip
        self.write(begun)
        return RunTrace(self, begun)

    def last_run(self) -> RunBegun:
        """Return the start of the last unfinished question; if there is none, of the last question."""
        begun = [event for event in self.events if isinstance(event, RunBegun)]
        if not begun:
            raise InvalidInputError(f"the trace {self.path} contains no question to resume; start one with invoke(…)")
        ended = {event.run for event in self.events if isinstance(event, RunEnded)}
        return next((event for event in reversed(begun) if event.run not in ended), begun[-1])

    def plan_of(self, run: int) -> PlanMade | None:
        """Return the last plan that was stored for a question, or None."""
        made = (event for event in reversed(self.events) if isinstance(event, PlanMade) and event.run == run)
        return next(made, None)


@dataclass(slots=True)
class RunTrace:
    """The part of a trace that belongs to one question.

    Attributes:
        trace: The trace.
        begun: The start of the question.
        plan: Hash of its plan; empty while there is none.
    """

    trace: Trace
    begun: RunBegun
    plan: str = ""

    def write_call(self, key: str, completion: Completion, *, purpose: str, step: str, prompt: str) -> None:
        """Write the response to a call."""
        usage = completion.usage
        self.trace.write(
            CallMade(
                run=self.begun.run,
                purpose=purpose,
                step=step,
                key=key,
                prompt=text_hash(prompt),
                plan=self.plan,
                document=self.begun.document,
                model=self.begun.fingerprint,
                text=completion.text,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
                cost=completion.cost,
                seconds=round(completion.seconds, 6),
                finish_reason=completion.finish_reason,
            )
        )

    def write_plan(self, plan: Plan, planning: Planning) -> None:
        """Write the plan and its origin."""
        self.plan = plan.fingerprint
        self.trace.write(
            PlanMade(
                run=self.begun.run,
                source=planning.source,
                reason=planning.reason,
                plan=plan.to_json(),
                hash=plan.fingerprint,
            )
        )

    def write_step(self, step: StepRun) -> None:
        """Write the result of a step."""
        self.trace.write(
            StepEnded(
                run=self.begun.run,
                step=step.step.out,
                status=step.status,
                value=step.value,
                reason=step.reason,
                spans=[passage.span for passage in step.passages if passage.span],
                keys=list(step.keys),
            )
        )

    def write_end(self, run: Run) -> None:
        """Write the result of the question."""
        self.trace.write(RunEnded(run=self.begun.run, status=run.status, answer=run.answer, reasons=list(run.reasons)))


def text_hash(text: str) -> str:
    """Return the first half of the SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
